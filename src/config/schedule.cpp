#include "config/schedule.h"

#include <cmath>
#include <numbers>

namespace nfscale {

double learning_rate(const Schedule& s, uint64_t step) {
  const auto t = static_cast<double>(step);
  double rate = s.peak;
  if (t >= s.warmup_steps && s.kind == "cosine") {
    const double part = (t - s.warmup_steps) / (s.total_steps - s.warmup_steps);
    rate = s.final_rate + (s.peak - s.final_rate) / 2 * (1 + std::cos(std::numbers::pi * part));
  } else if (t >= s.warmup_steps && s.kind == "rsqrt") {
    rate = s.peak / std::sqrt(1 + (t - s.warmup_steps) / s.timescale);
  }
  if (t < s.warmup_steps) rate = s.peak * t / s.warmup_steps;
  if (s.total_steps - t < s.cooldown_steps) rate *= (s.total_steps - t) / s.cooldown_steps;
  return rate;
}

}  // namespace nfscale
