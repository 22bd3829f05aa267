// For tests of this folder: test data, hashes of pixels and small CSV files.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/testing.h"
#include "base/text.h"

namespace nfscale {

inline std::string test_data(const std::string& name) {
  return fmt::format("{}/tests/data/{}", NFSCALE_SOURCE_DIR, name);
}

// Unpacked copies of compressed files go to a folder of the test's own.
struct UnpackHere : TestFolder {
  UnpackHere() { ::setenv("XDG_CACHE_HOME", path.c_str(), 1); }
};

inline Json test_json(const std::string& name) {
  return parse_json(read_file(test_data(name)), name);
}

inline uint64_t number_of(const Json& j) {
  return j.is_string() ? std::stoull(j.as_string()) : static_cast<uint64_t>(j.as_int());
}

// Rows by column name; quoted fields may hold commas.
inline std::vector<std::map<std::string, std::string>> test_csv(const std::string& name) {
  std::vector<std::map<std::string, std::string>> rows;
  std::vector<std::string> head;
  for (const std::string& line : split(read_file(test_data(name)), '\n')) {
    if (line.empty()) continue;
    std::vector<std::string> fields(1);
    bool quoted = false;
    for (const char c : line) {
      if (c == '"')
        quoted = !quoted;
      else if (c == ',' && !quoted)
        fields.emplace_back();
      else
        fields.back() += c;
    }
    if (head.empty()) {
      head = fields;
      continue;
    }
    rows.emplace_back();
    for (size_t i = 0; i < head.size() && i < fields.size(); ++i) rows.back()[head[i]] = fields[i];
  }
  return rows;
}

// The message of the Error that `work` throws, which must have that exit code; "" if it throws
// none.
template <class Work>
std::string error_of(const Work& work, Exit code = Exit::usage) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, code) << e.what();
    return e.what();
  }
  return "";
}

inline std::string sha256(std::span<const uint8_t> bytes) {
  return sha256(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace nfscale
