#include "data/label.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

namespace nfscale {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(white);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(white) - begin + 1);
}

}  // namespace

LabelRule::LabelRule(const std::vector<std::string>& class_names) {
  for (size_t i = 0; i < class_names.size(); ++i) names[class_names[i]] = static_cast<int64_t>(i);
  if (!class_names.empty()) classes = static_cast<int64_t>(class_names.size());
}

LabelOrFault label_of_number(int64_t number, const LabelRule& rule) {
  if (number >= 0 && number < rule.classes) return number;
  return fmt::format("the label {} is not in 0 .. {}", number, rule.classes - 1);
}

LabelOrFault label_of_text(std::string_view text, const LabelRule& rule) {
  text = trimmed(text);
  const auto number = parse_int(text);
  const auto named = rule.names.find(std::string(text));
  const bool is_named = named != rule.names.end();
  if (number && is_named && *number != named->second)
    return fmt::format(
        "the label {} is a number and also the name of class {}; give that class another name",
        *number, named->second);
  if (is_named) return named->second;
  if (number) return label_of_number(*number, rule);
  if (text.find_first_of(" \t\r\n") != std::string_view::npos)
    return std::string("several labels in one example are not read");
  return fmt::format("the label \"{}\" is neither a number nor a class of a list",
                     printable(text.substr(0, 60)));
}

LabelOrFault label_of_json(std::string_view text, const std::string& path, const LabelRule& rule) {
  try {
    Json value = parse_json(text, "json");
    for (const std::string& part : split(path, '.')) {
      const Json* inner = value.is_object() ? value.find(part) : nullptr;
      if (inner == nullptr) return fmt::format("{} is not in its json", path);
      value = Json(*inner);
    }
    if (value.is_int()) return label_of_number(value.as_int(), rule);
    if (value.is_string()) return label_of_text(value.as_string(), rule);
    return fmt::format("{} of its json is neither a whole number nor a text", path);
  } catch (const Error& e) {
    return fmt::format("its json cannot be read: {}", e.what());
  }
}

}  // namespace nfscale
