// Small text operations: the valid name nearest to a wrong one, joining and splitting.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nfscale {

// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);

// The candidate with the smallest distance (the first of equals); empty if there are none.
std::string nearest(std::string_view wrong, std::span<const std::string> candidates);

std::string join(std::span<const std::string> parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);

// Bytes as they may be shown: control characters, backslashes and what is not UTF-8 as \xNN.
std::string printable(std::string_view bytes);
bool is_utf8(std::string_view bytes);

// `pattern` with * for any characters and ? for one.
bool glob_matches(const std::string& pattern, const std::string& text);

// The whole text as a number of that kind, without white space; nothing where it is not one.
std::optional<int64_t> parse_int(std::string_view text);
std::optional<double> parse_double(std::string_view text);

}  // namespace nfscale
