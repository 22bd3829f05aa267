// How long a typical step takes: the median over all steps of a run, restarts and stalls left out,
// as Smith et al. (arXiv 2310.16764, figure 2) measure compute.
#pragma once

#include <cstdint>
#include <map>

#include "base/json.h"

namespace nfscale {

// A histogram with buckets of one per cent, so that a run of any length keeps a small state.
class StepTimes {
 public:
  void add(double seconds);
  double median() const;  // 0 before the first step
  Json to_json() const;
  static StepTimes from_json(const Json& state);

 private:
  std::map<int64_t, int64_t> counts_;
};

}  // namespace nfscale
