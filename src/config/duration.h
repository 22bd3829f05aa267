// A time span as it is written in configurations: "8ep", "0.25ep", "1200st", "1e6ex", "5%",
// "10min".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nfscale {

struct Duration {
  enum class Unit { steps, epochs, examples, percent, seconds };
  double value = 0;
  Unit unit = Unit::steps;
  bool operator==(const Duration&) const = default;
};

// Exit::usage with what was found and what is allowed. Plain "0" is zero steps; h and min are
// seconds.
Duration parse_duration(std::string_view text);
std::string duration_key_text(const Duration& duration);  // reads back to the same

// What steps, epochs and percent are fractions of.
struct Horizon {
  uint64_t examples = 0;  // slots of one epoch: examples of the data times the multiplicity
  uint64_t batch = 1;
  uint64_t total_slots = 0;  // of the whole run; for percent only
};

// Slots of a whole run (data pipeline: T = ceil(epochs * N * K)); seconds and percent are refused.
uint64_t total_slots(const Duration& duration, const Horizon& horizon);

// Steps of a run of total_slots, of which the last may be partly filled.
uint64_t steps_of(const Horizon& horizon);

// A span in steps, as a real number; seconds are refused.
double in_steps(const Duration& duration, const Horizon& horizon);

}  // namespace nfscale
