#include "config/schedule.h"

#include <cmath>
#include <numbers>

namespace nfscale {

double learning_rate(const Schedule& s, uint64_t step) {
  const auto t = static_cast<double>(step);
  if (t < s.warmup_steps) return s.peak * t / s.warmup_steps;
  if (s.kind == "constant") return s.peak;
  const double part = (t - s.warmup_steps) / (s.total_steps - s.warmup_steps);
  return s.final_rate + (s.peak - s.final_rate) / 2 * (1 + std::cos(std::numbers::pi * part));
}

}  // namespace nfscale
