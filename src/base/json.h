// A JSON value: what the program reads and writes as JSON, and the values of TOML files.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace nfscale {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // in the order of insertion

  Json() : value_(nullptr) {}
  Json(std::nullptr_t) : value_(nullptr) {}
  Json(bool v) : value_(v) {}
  Json(double v) : value_(v) {}
  Json(const char* v) : value_(std::string(v)) {}
  Json(std::string v) : value_(std::move(v)) {}
  Json(std::string_view v) : value_(std::string(v)) {}
  Json(Array v) : value_(std::move(v)) {}
  template <class T>
  Json(const std::vector<T>& v) : value_(Array(v.begin(), v.end())) {}
  template <class T>
  requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) Json(T v)
      : value_(static_cast<int64_t>(v)) {}

  static Json object(std::initializer_list<std::pair<std::string, Json>> members = {});
  static Json array(std::initializer_list<Json> items = {}) { return Json(Array(items)); }

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_int() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // The value as that kind; Exit::usage where it is another ("expected a number, found \"x\"").
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;
  const Array& items() const&;
  const Object& members() const&;
  const Array& items() const&& = delete;  // a loop over a temporary's items would dangle
  const Object& members() const&& = delete;

  // A member of an object: null where it is missing; at() fails with the key's name.
  const Json* find(std::string_view key) const;
  const Json& at(std::string_view key) const;
  Json& set(std::string key, Json value);  // replaces or appends; returns *this
  void push(Json value);

  // Compact (indent < 0) or indented text. Doubles have the shortest text that reads back the same;
  // NaN and infinity become null.
  std::string dump(int indent = -1) const;

  bool operator==(const Json&) const = default;

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_;
};

// Exit::usage with "WHERE: ..." for anything but one JSON document; a key that comes twice in an
// object is refused. Numbers beyond int64 become doubles.
Json parse_json(std::string_view text, std::string_view where);

// null for NaN and infinity: what is not known.
Json finite_json(double value);

// The shortest text that reads back to the same double: 0.1, 1e-05, 3.
std::string number_text(double value);

}  // namespace nfscale
