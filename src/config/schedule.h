// The learning rate of every step, from the step alone (so a resume needs no state).
#pragma once

#include <cstdint>
#include <string>

namespace nfscale {

struct Schedule {
  std::string kind = "cosine";  // "rsqrt" or "constant"
  double peak = 0;              // at the given batch; nothing scales it
  double warmup_steps = 0;      // linear from 0; a real number
  double total_steps = 0;
  double final_rate = 0;
  double cooldown_steps = 0;  // linear to 0 at the end
  double timescale = 1;       // of rsqrt, in steps
};

// Rate of step t = 0, 1, ..., T - 1: min(1, t/W) min(1, (T-t)/C) times
//   cosine    final + (peak - final)/2 (1 + cos(pi (t-W)/(T-W)))   (deepmind-research, nfnets)
//   rsqrt     peak / sqrt(1 + (t-W)/timescale)                     (big_vision, utils)
//   constant  peak
// each behind the warm-up of W steps, with a cool-down of C.
double learning_rate(const Schedule& schedule, uint64_t step);

}  // namespace nfscale
