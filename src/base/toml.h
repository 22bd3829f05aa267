// A TOML file as a flat list of its values, each with its place. TOML 1.0 by toml++.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace nfscale {

struct TomlEntry {
  std::vector<std::string> path;  // {"data", "augment", "crop"}
  Json value;                     // a table itself stands before its entries, with value null
  Path file;
  int line = 0;

  std::string key() const;    // "data.augment.crop"
  std::string where() const;  // "FILE:LINE"
};

// In the order of the lines. Exit::usage with FILE:LINE for what is not TOML.
std::vector<TomlEntry> read_toml(const Path& file);

// A single value as it stands behind a key, e.g. of --set; text that is no TOML value is taken as
// text.
Json parse_toml_value(std::string_view text);

// A value as TOML text; tables are not values.
std::string toml_text(const Json& value);

}  // namespace nfscale
