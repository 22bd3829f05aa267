// Tables as CSV: a header, UTF-8, RFC 4180 quotes, "\n" at line ends.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nfscale {

struct Csv {
  std::string name;  // of the file, for messages
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // each as long as the header

  // Place of a column; Exit::usage with the nearest name where it is missing.
  size_t column(std::string_view wanted) const;
  std::optional<size_t> find_column(std::string_view wanted) const;
  // The field as a number; nothing where it is empty, Exit::usage with the line where it is text.
  std::optional<double> number(size_t row, size_t column) const;
};

// Exit::usage with NAME:LINE for rows of another length than the header and for open quotes.
Csv parse_csv(std::string_view text, const std::string& name);
Csv read_csv(const Path& file);
std::string csv_text(const Csv& table);

// A number at full precision (%.17g) that reads back to the same double; NaN is an empty field.
std::string csv_number(double value);

}  // namespace nfscale
