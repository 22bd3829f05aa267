// What a run took of which devices: steps and the time of a typical one, the median over all steps,
// restarts and stalls left out, as Smith et al. (arXiv 2310.16764, figure 2) measure compute. A
// step that is done again behind a restart counts once, since its checkpoint holds what was
// counted.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace nfscale {

// A histogram with buckets of one per cent, so that a run of any length keeps a small state.
class StepTimes {
 public:
  void add(double seconds);
  int64_t count() const;
  double median() const;  // 0 before the first step
  Json to_json() const;
  static StepTimes from_json(const Json& state);

 private:
  std::map<int64_t, int64_t> counts_;
};

// Steps on `devices` devices of one kind.
struct DeviceTime {
  std::string kind;  // "Intel(R) Xeon(R) Processor", "NVIDIA H100 80GB HBM3"
  int64_t devices = 1;
  StepTimes times = {};

  double device_seconds() const {
    return static_cast<double>(times.count() * devices) * times.median();
  }
};

// In the order in which a run first had them; a run may go on with other devices.
class DeviceTimes {
 public:
  StepTimes& of(const std::string& kind, int64_t devices);
  const std::vector<DeviceTime>& all() const { return all_; }
  double device_seconds() const;
  Json to_json() const;
  static DeviceTimes from_json(const Json& state);

 private:
  std::vector<DeviceTime> all_;
};

}  // namespace nfscale
