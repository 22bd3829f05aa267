// For tests of this folder: test data, SHA-256 and small CSV files.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/text.h"

namespace nfscale {

inline std::string test_data(const std::string& name) {
  return fmt::format("{}/tests/data/{}", NFSCALE_SOURCE_DIR, name);
}

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

// FIPS 180-4.
inline std::string sha256(std::span<const uint8_t> bytes) {
  std::array<uint32_t, 64> k{};
  std::array<uint32_t, 8> h{};
  // Fractions of the roots of the first primes, computed in integers: floor(root * 2^32) mod 2^32.
  __extension__ using Wide = unsigned __int128;
  int found = 0;
  for (uint64_t p = 2; found < 64; ++p) {
    bool prime = true;
    for (uint64_t d = 2; d * d <= p; ++d) prime = prime && p % d != 0;
    if (!prime) continue;
    Wide square = 0, cube = 0;
    for (int bit = 36; bit >= 0; --bit) {
      const Wide s = square | Wide{1} << bit, c = cube | Wide{1} << bit;
      if (s * s <= Wide{p} << 64) square = s;
      if (c * c * c <= Wide{p} << 96) cube = c;
    }
    if (found < 8) h[static_cast<size_t>(found)] = static_cast<uint32_t>(square);
    k[static_cast<size_t>(found++)] = static_cast<uint32_t>(cube);
  }
  std::vector<uint8_t> text(bytes.begin(), bytes.end());
  text.push_back(0x80);
  while (text.size() % 64 != 56) text.push_back(0);
  for (int i = 7; i >= 0; --i) text.push_back(static_cast<uint8_t>(bytes.size() * 8 >> (8 * i)));
  for (size_t at = 0; at < text.size(); at += 64) {
    std::array<uint32_t, 64> w{};
    for (size_t i = 0; i < 64; ++i)
      w[i] = i < 16 ? uint32_t{text[at + 4 * i]} << 24 | uint32_t{text[at + 4 * i + 1]} << 16 |
                          uint32_t{text[at + 4 * i + 2]} << 8 | text[at + 4 * i + 3]
                    : w[i - 16] + w[i - 7] +
                          (std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3) +
                          (std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
    auto s = h;
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t a = s[0], e = s[4];
      const uint32_t t1 = s[7] + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                          ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
      const uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) +
                          ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
      s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
    }
    for (size_t i = 0; i < 8; ++i) h[i] += s[i];
  }
  std::string hex;
  for (const uint32_t part : h) hex += fmt::format("{:08x}", part);
  return hex;
}

}  // namespace nfscale
