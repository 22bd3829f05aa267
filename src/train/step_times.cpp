#include "train/step_times.h"

#include <cmath>

#include "base/text.h"

namespace nfscale {

namespace {
const double kBucket = std::log(1.01);
}

void StepTimes::add(double seconds) {
  ++counts_[std::llround(std::log(std::max(seconds, 1e-9)) / kBucket)];
}

double StepTimes::median() const {
  int64_t total = 0, seen = 0;
  for (const auto& [bucket, n] : counts_) total += n;
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

}  // namespace nfscale
