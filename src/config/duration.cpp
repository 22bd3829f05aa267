#include "config/duration.h"

#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

namespace nfscale {
namespace {

struct Suffix {
  std::string_view text;
  Duration::Unit unit;
  double factor;
};
constexpr Suffix kSuffixes[] = {
    {"ep", Duration::Unit::epochs, 1},    {"st", Duration::Unit::steps, 1},
    {"ex", Duration::Unit::examples, 1},  {"%", Duration::Unit::percent, 1},
    {"min", Duration::Unit::seconds, 60}, {"s", Duration::Unit::seconds, 1},
    {"h", Duration::Unit::seconds, 3600},
};

}  // namespace

Duration parse_duration(std::string_view text) {
  if (text == "0") return {};
  for (const Suffix& suffix : kSuffixes) {
    if (!text.ends_with(suffix.text)) continue;
    const auto value = parse_double(text.substr(0, text.size() - suffix.text.size()));
    if (value && std::isfinite(*value) && *value >= 0) return {*value * suffix.factor, suffix.unit};
  }
  fail(Exit::usage,
       "expected a duration such as \"8ep\", \"1200st\", \"1e6ex\", \"5%\" or \"10min\", found "
       "\"{}\"",
       text);
}

std::string duration_key_text(const Duration& d) {
  for (const Suffix& suffix : kSuffixes)
    if (suffix.unit == d.unit && suffix.factor == 1)
      return number_text(d.value) + std::string(suffix.text);
  return "0";
}

uint64_t total_slots(const Duration& d, const Horizon& h) {
  const auto whole = [](double slots) { return static_cast<uint64_t>(std::ceil(slots)); };
  switch (d.unit) {
    case Duration::Unit::steps:
      return whole(d.value) * h.batch;
    case Duration::Unit::examples:
      return whole(d.value);
    case Duration::Unit::epochs:
      // Products such as 0.1 * 30 come out a few units in the last place too large.
      return whole(d.value * static_cast<double>(h.examples) * (1 - 1e-12));
    default:
      break;
  }
  fail(Exit::usage,
       "train.duration: expected epochs (ep), steps (st) or examples (ex), found \"{}\"",
       duration_key_text(d));
}

uint64_t steps_of(const Horizon& h) {
  return (h.total_slots + h.batch - 1) / h.batch;
}

double in_steps(const Duration& d, const Horizon& h) {
  const auto batch = static_cast<double>(h.batch);
  switch (d.unit) {
    case Duration::Unit::steps:
      return d.value;
    case Duration::Unit::examples:
      return d.value / batch;
    case Duration::Unit::epochs:
      return d.value * static_cast<double>(h.examples) / batch;
    case Duration::Unit::percent:
      return d.value / 100 * std::ceil(static_cast<double>(h.total_slots) / batch);
    case Duration::Unit::seconds:
      break;
  }
  fail(Exit::usage, "expected a duration in steps, epochs, examples or percent, found \"{}\"",
       duration_key_text(d));
}

}  // namespace nfscale
