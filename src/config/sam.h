// The rows of a step on which sharpness-aware minimisation ascends: of every group of `group` rows
// the first max(1, ceil(fraction * group)). Groups belong to the step, not to processes, so their
// number changes nothing. B21 (arXiv 2102.06171), appendix A.4.
#pragma once

#include <vector>

#include "config/config.h"

namespace nfscale {

struct AscentGroup {
  int64_t begin, ascent_end, end;  // rows
};
std::vector<AscentGroup> ascent_groups(int64_t rows, int64_t group, double fraction);

// Rows of the ascent for every row of a step, what it adds to the compute; 0 where SAM is off.
double ascent_share(const OptimConfig& config, int64_t batch);

}  // namespace nfscale
