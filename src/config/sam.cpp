#include "config/sam.h"

#include <algorithm>
#include <cmath>

namespace nfscale {

std::vector<AscentGroup> ascent_groups(int64_t rows, int64_t group, double fraction) {
  std::vector<AscentGroup> groups;
  for (int64_t begin = 0; begin < rows; begin += group) {
    const int64_t count = std::min(group, rows - begin);
    // A fraction such as 0.2 of 5 is 1, whatever its last bit.
    const auto some = static_cast<int64_t>(std::ceil(fraction * static_cast<double>(count) - 1e-9));
    groups.push_back({begin, begin + std::clamp<int64_t>(some, 1, count), begin + count});
  }
  return groups;
}

double ascent_share(const OptimConfig& config, int64_t batch) {
  if (config.sam_rho <= 0) return 0;
  int64_t rows = 0;
  for (const AscentGroup& g : ascent_groups(batch, config.sam_group, config.sam_fraction))
    rows += g.ascent_end - g.begin;
  return static_cast<double>(rows) / static_cast<double>(batch);
}

}  // namespace nfscale
