#include "train/device_times.h"

#include <cmath>

#include "base/text.h"

namespace nfscale {

namespace {
const double kBucket = std::log(1.01);
}

void StepTimes::add(double seconds) {
  ++counts_[std::llround(std::log(std::max(seconds, 1e-9)) / kBucket)];
}

int64_t StepTimes::count() const {
  int64_t total = 0;
  for (const auto& [bucket, n] : counts_) total += n;
  return total;
}

double StepTimes::median() const {
  const int64_t total = count();
  int64_t seen = 0;
  for (const auto& [bucket, n] : counts_) {
    seen += n;
    if (2 * seen >= total) return std::exp(static_cast<double>(bucket) * kBucket);
  }
  return 0;
}

Json StepTimes::to_json() const {
  Json object = Json::object();
  for (const auto& [bucket, n] : counts_) object.set(std::to_string(bucket), n);
  return object;
}

StepTimes StepTimes::from_json(const Json& state) {
  StepTimes times;
  for (const auto& [bucket, n] : state.members())
    if (const auto b = parse_int(bucket)) times.counts_[*b] = n.as_int();
  return times;
}

StepTimes& DeviceTimes::of(const std::string& kind, int64_t devices) {
  for (DeviceTime& t : all_)
    if (t.kind == kind && t.devices == devices) return t.times;
  all_.push_back({kind, devices});
  return all_.back().times;
}

double DeviceTimes::device_seconds() const {
  double sum = 0;
  for (const DeviceTime& t : all_) sum += t.device_seconds();
  return sum;
}

Json DeviceTimes::to_json() const {
  Json list = Json::array();
  for (const DeviceTime& t : all_)
    list.push(Json::object(
        {{"kind", t.kind}, {"devices", t.devices}, {"step_times", t.times.to_json()}}));
  return list;
}

DeviceTimes DeviceTimes::from_json(const Json& state) {
  DeviceTimes times;
  for (const Json& t : state.items())
    times.all_.push_back({t.at("kind").as_string(), t.at("devices").as_int(),
                          StepTimes::from_json(t.at("step_times"))});
  return times;
}

}  // namespace nfscale
