// Values of keys: what a key may be, and its way from and to JSON. Shared by the configuration of a
// run and the file of a study.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "config/duration.h"

namespace nfscale {

// What a key may be: a range for each number, or one of some words.
struct Allowed {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above_low = false;  // low itself is not allowed
  std::vector<std::string> words = {};
  size_t count = 0;     // of the items of a list; 0 is any
  bool or_one = false;  // a list of one will do too
};

inline Allowed at_least(double low) {
  return {.low = low};
}
inline Allowed between(double low, double high) {
  return {.low = low, .high = high};
}
inline Allowed one_of(std::vector<std::string> words) {
  return {.words = std::move(words)};
}

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsList : std::false_type {};
template <class T>
struct IsList<std::vector<T>> : std::true_type {};

template <class T>
Json to_json(const T& field) {
  if constexpr (IsOptional<T>::value)
    return field ? to_json(*field) : Json();
  else if constexpr (std::is_same_v<T, Duration>)
    return duration_key_text(field);
  else
    return Json(field);
}

template <class T>
std::string kind_of() {
  if constexpr (IsOptional<T>::value)
    return kind_of<typename T::value_type>();
  else if constexpr (IsList<T>::value)
    return "list of " + kind_of<typename T::value_type>();
  else if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_same_v<T, int64_t>)
    return "whole number";
  else if constexpr (std::is_same_v<T, double>)
    return "number";
  else if constexpr (std::is_same_v<T, Duration>)
    return "duration";
  else
    return "text";
}

inline std::string allowed_text(const Allowed& a) {
  if (!a.words.empty()) return "one of " + join(a.words, ", ");
  std::string text;
  if (std::isfinite(a.low))
    text = fmt::format("{} {}", a.above_low ? "more than" : "at least", number_text(a.low));
  if (std::isfinite(a.high))
    text += fmt::format("{}at most {}", text.empty() ? "" : ", ", number_text(a.high));
  if (a.count) text += fmt::format("{}{} of them", text.empty() ? "" : ", ", a.count);
  return text;
}

template <class T>
void read_value(const Json& j, T& field, const Allowed& allowed) {
  if constexpr (IsOptional<T>::value) {
    typename T::value_type value{};
    read_value(j, value, allowed);
    field = value;
  } else if constexpr (IsList<T>::value) {
    T list;
    // A single value stands for a list of one: data.train = "...", group_width = 8.
    const Json::Array items = j.is_array() ? j.items() : Json::Array{j};
    for (const Json& item : items) read_value(item, list.emplace_back(), allowed);
    if (allowed.count && list.size() != allowed.count && !(allowed.or_one && list.size() == 1))
      fail(Exit::usage, "expected {} values, found {}", allowed.count, list.size());
    field = list;
  } else if constexpr (std::is_same_v<T, bool>) {
    field = j.as_bool();
  } else if constexpr (std::is_same_v<T, Duration>) {
    if (j.is_int() && j.as_int() == 0)
      field = {};
    else if (j.is_number())
      fail(Exit::usage, "expected a duration with a unit such as \"{0}st\" or \"{0}ep\", found {0}",
           j.dump());
    else
      field = parse_duration(j.as_string());
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!allowed.words.empty() &&
        (!j.is_string() || std::find(allowed.words.begin(), allowed.words.end(), j.as_string()) ==
                               allowed.words.end())) {
      const std::string near = j.is_string() ? nearest(j.as_string(), allowed.words) : "";
      fail(Exit::usage, "expected one of {}, found {}{}", join(allowed.words, ", "), j.dump(),
           near.empty() ? "" : fmt::format(" (nearest: {})", near));
    }
    field = j.as_string();
  } else {
    double number;
    if constexpr (std::is_same_v<T, int64_t>) {
      field = j.as_int();
      number = static_cast<double>(field);
    } else {
      number = field = j.as_double();
    }
    if (!(number >= allowed.low && number <= allowed.high) ||
        (allowed.above_low && number == allowed.low))
      fail(Exit::usage, "expected {}, found {}", allowed_text(allowed), j.dump());
  }
}

}  // namespace nfscale
