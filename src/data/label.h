// Labels as data sets store them: a number, or the name of a class of a list.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace nfscale {

struct LabelRule {
  LabelRule() = default;
  explicit LabelRule(const std::vector<std::string>& class_names);  // none: numbers only

  std::unordered_map<std::string, int64_t> names;
  int64_t classes = 1 << 20;  // labels are below
};

// The label, or why there is none.
using LabelOrFault = std::variant<int64_t, std::string>;

LabelOrFault label_of_number(int64_t number, const LabelRule& rule);
LabelOrFault label_of_text(std::string_view text, const LabelRule& rule);  // white space around it
// `path` of a JSON document, its parts joined by dots.
LabelOrFault label_of_json(std::string_view text, const std::string& path, const LabelRule& rule);

}  // namespace nfscale
