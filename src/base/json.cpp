#include "base/json.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace nfscale {
namespace {

[[noreturn]] void wrong_kind(const char* expected, const Json& found) {
  std::string text = found.dump();
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  fail(Exit::usage, "expected {}, found {}", expected, text);
}

void escape(const std::string& text, std::string& out) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        else
          out += c;
    }
  }
  out += '"';
}

// Builds a Json without recursion, so that deep nesting cannot exhaust the stack.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(std::string_view where) : where_(where) {}
  Json result;

  bool null() override { return put(Json()); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(static_cast<int64_t>(v)); }
  bool number_unsigned(number_unsigned_t v) override {
    if (v > static_cast<uint64_t>(INT64_MAX)) return put(static_cast<double>(v));
    return put(static_cast<int64_t>(v));
  }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(Json(v)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second)
      fail(Exit::usage, "{}: the key \"{}\" comes twice", where_, printable(name));
    names_.back() = name;
    return true;
  }
  bool parse_error(std::size_t at, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail(Exit::usage, "{}: not JSON: wrong at byte {}", where_, at);
  }

 private:
  static constexpr size_t kMaxDepth = 100;

  bool put(Json v) {
    if (open_.empty())
      result = std::move(v);
    else if (open_.back().is_array())
      open_.back().push(std::move(v));
    else
      append(open_.back(), names_.back(), std::move(v));
    return true;
  }
  bool open(Json v) {
    if (open_.size() >= kMaxDepth)
      fail(Exit::usage, "{}: JSON nested deeper than {}", where_, kMaxDepth);
    open_.push_back(std::move(v));
    names_.emplace_back();
    keys_.emplace_back();
    return true;
  }
  bool close() {
    Json v = std::move(open_.back());
    open_.pop_back();
    names_.pop_back();
    keys_.pop_back();
    return put(std::move(v));
  }
  // Json::set looks for the key first; here keys_ has done that, so big objects stay linear.
  static void append(Json& object, const std::string& name, Json v) {
    const_cast<Json::Object&>(object.members()).emplace_back(name, std::move(v));
  }

  std::string_view where_;
  std::vector<Json> open_;
  std::vector<std::string> names_;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

Json Json::object(std::initializer_list<std::pair<std::string, Json>> members) {
  Json j;
  j.value_ = Object(members);
  return j;
}

bool Json::as_bool() const {
  if (const bool* v = std::get_if<bool>(&value_)) return *v;
  wrong_kind("true or false", *this);
}

int64_t Json::as_int() const {
  if (const int64_t* v = std::get_if<int64_t>(&value_)) return *v;
  wrong_kind("a whole number", *this);
}

double Json::as_double() const {
  if (const int64_t* v = std::get_if<int64_t>(&value_)) return static_cast<double>(*v);
  if (const double* v = std::get_if<double>(&value_)) return *v;
  wrong_kind("a number", *this);
}

const std::string& Json::as_string() const {
  if (const std::string* v = std::get_if<std::string>(&value_)) return *v;
  wrong_kind("text", *this);
}

const Json::Array& Json::items() const& {
  if (const Array* v = std::get_if<Array>(&value_)) return *v;
  wrong_kind("a list", *this);
}

const Json::Object& Json::members() const& {
  if (const Object* v = std::get_if<Object>(&value_)) return *v;
  wrong_kind("an object", *this);
}

const Json* Json::find(std::string_view key) const {
  const Object* object = std::get_if<Object>(&value_);
  if (!object) return nullptr;
  for (const auto& [name, value] : *object)
    if (name == key) return &value;
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  if (const Json* found = find(key)) return *found;
  if (!is_object()) wrong_kind("an object", *this);
  fail(Exit::usage, "the key \"{}\" is missing", key);
}

Json& Json::set(std::string key, Json value) {
  if (!is_object()) value_ = Object();
  Object& object = std::get<Object>(value_);
  for (auto& [name, old] : object) {
    if (name == key) {
      old = std::move(value);
      return *this;
    }
  }
  object.emplace_back(std::move(key), std::move(value));
  return *this;
}

void Json::push(Json value) {
  if (!is_array()) value_ = Array();
  std::get<Array>(value_).push_back(std::move(value));
}

Json finite_json(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}

std::string number_text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

namespace {

void write(const Json& j, int indent, int depth, std::string& out) {
  const auto line = [&](int d) {
    if (indent >= 0) out.append("\n").append(static_cast<size_t>(indent * d), ' ');
  };
  const auto list = [&](char open, char close, const auto& items, const auto& item) {
    out += open;
    bool first = true;
    for (const auto& i : items) {
      if (!first) out += indent >= 0 ? "," : ", ";
      first = false;
      line(depth + 1);
      item(i);
    }
    if (!first) line(depth);
    out += close;
  };
  if (j.is_null()) {
    out += "null";
  } else if (j.is_bool()) {
    out += j.as_bool() ? "true" : "false";
  } else if (j.is_int()) {
    out += std::to_string(j.as_int());
  } else if (j.is_number()) {
    out += std::isfinite(j.as_double()) ? number_text(j.as_double()) : "null";
  } else if (j.is_string()) {
    escape(j.as_string(), out);
  } else if (j.is_array()) {
    list('[', ']', j.items(), [&](const Json& i) { write(i, indent, depth + 1, out); });
  } else {
    list('{', '}', j.members(), [&](const auto& m) {
      escape(m.first, out);
      out += ": ";
      write(m.second, indent, depth + 1, out);
    });
  }
}

}  // namespace

std::string Json::dump(int indent) const {
  std::string out;
  write(*this, indent, 0, out);
  return out;
}

Json parse_json(std::string_view text, std::string_view where) {
  Builder builder(where);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.result);
}

}  // namespace nfscale
