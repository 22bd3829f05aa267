#include "base/toml.h"

#include <algorithm>
#include <stdexcept>

namespace {
// toml++ 3.3 asserts on some malformed headers ("[<key]"), which would end the program.
struct TomlAssertion : std::runtime_error {
  TomlAssertion() : std::runtime_error("malformed table header or key") {}
};
[[noreturn]] void assertion_failed() {
  throw TomlAssertion();
}
}  // namespace
#define TOML_ASSERT(condition) ((condition) ? static_cast<void>(0) : assertion_failed())
#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include "base/files.h"
#include "base/text.h"

namespace nfscale {
namespace {

Json value_of(const toml::node& node) {
  if (const auto* v = node.as_boolean()) return v->get();
  if (const auto* v = node.as_integer()) return v->get();
  if (const auto* v = node.as_floating_point()) return v->get();
  if (const auto* v = node.as_string()) return v->get();
  Json list = Json::array();
  if (const auto* array = node.as_array()) {
    for (const toml::node& item : *array) list.push(value_of(item));
    return list;
  }
  fail(Exit::usage, "line {}: dates and tables inside lists are not used here",
       node.source().begin.line);
}

void walk(const toml::table& table, std::vector<std::string>& path, const Path& file,
          std::vector<TomlEntry>& out) {
  for (const auto& [key, node] : table) {
    path.emplace_back(key.str());
    const int line = static_cast<int>(node.source().begin.line);
    if (const toml::table* inner = node.as_table()) {
      out.push_back({path, Json(), file, line});
      walk(*inner, path, file, out);
    } else {
      try {
        out.push_back({path, value_of(node), file, line});
      } catch (const Error& e) {
        fail(Exit::usage, "{}: {}", file.string(), e.what());
      }
    }
    path.pop_back();
  }
}

toml::table parse(std::string_view text, const std::string& name) {
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& e) {
    fail(Exit::usage, "{}:{}: not TOML: {}", name, e.source().begin.line, e.description());
  } catch (const TomlAssertion& e) {
    fail(Exit::usage, "{}: not TOML: {}", name, e.what());
  }
}

}  // namespace

std::string TomlEntry::key() const {
  return join(path, ".");
}
std::string TomlEntry::where() const {
  return fmt::format("{}:{}", file.string(), line);
}

std::vector<TomlEntry> read_toml(const Path& file) {
  const toml::table table = parse(read_file(file, size_t{1} << 24), file.string());
  std::vector<TomlEntry> entries;
  std::vector<std::string> path;
  walk(table, path, file, entries);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const TomlEntry& a, const TomlEntry& b) { return a.line < b.line; });
  return entries;
}

Json parse_toml_value(std::string_view text) {
  try {
    const toml::table table = parse("v = " + std::string(text), "value");
    if (table.size() == 1) return value_of(*table.get("v"));
  } catch (const Error&) {
  }
  return Json(std::string(text));
}

std::string toml_text(const Json& value) {
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const Json& item : value.items()) items.push_back(toml_text(item));
    return "[" + join(items, ", ") + "]";
  }
  if (value.is_number() && !value.is_int()) {
    const std::string text = number_text(value.as_double());
    return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
  }
  return value.dump();
}

}  // namespace nfscale
