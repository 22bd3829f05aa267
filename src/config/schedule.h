// The learning rate of every step, from the step alone (so a resume needs no state).
#pragma once

#include <cstdint>
#include <string>

namespace nfscale {

struct Schedule {
  std::string kind = "cosine";  // or "constant"
  double peak = 0;              // at the given batch; nothing scales it
  double warmup_steps = 0;      // linear from 0; a real number
  double total_steps = 0;
  double final_rate = 0;
};

// Rate of step t = 0, 1, ..., total - 1. Cosine: final + (peak - final)/2 (1 + cos(pi (t-W)/(T-W)))
// after a warm-up peak t/W, as google-deepmind/deepmind-research nfnets does.
double learning_rate(const Schedule& schedule, uint64_t step);

}  // namespace nfscale
