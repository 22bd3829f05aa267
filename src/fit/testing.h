// Tables for the tests of fits.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/files.h"
#include "base/random.h"
#include "fit/laws.h"

namespace nfscale::testing_fit {

// Columns of a table of tests/, with the rows for which `keep` holds.
inline FitTable read_table(const std::string& file, const std::vector<std::string>& columns,
                           const std::function<bool(const Csv&, size_t)>& keep = nullptr) {
  const Csv csv = read_csv(Path(NFSCALE_SOURCE_DIR) / "tests" / file);
  FitTable t;
  t.total = csv.rows.size();
  for (const std::string& c : columns) t.columns.emplace_back(c, c);
  std::vector<std::pair<Vector, std::string>> rows;
  for (size_t i = 0; i < csv.rows.size(); ++i) {
    if (keep && !keep(csv, i)) continue;
    Vector row;
    for (const std::string& c : columns) row.push_back(*csv.number(i, csv.column(c)));
    rows.emplace_back(row, fmt::format("row {}", i + 1));
  }
  std::sort(rows.begin(), rows.end());
  for (const auto& [row, name] : rows) {
    t.rows.push_back(row);
    t.names.push_back(name);
  }
  return t;
}

inline bool is(const Csv& csv, size_t row, const char* column, const std::string& value) {
  return csv.rows[row][csv.column(column)] == value;
}

inline FitTable xy_table(const Vector& x, const std::function<double(double)>& y) {
  FitTable t;
  t.columns = {{"x", "x"}, {"y", "y"}};
  t.total = x.size();
  for (const double v : x) {
    t.rows.push_back({v, y(v)});
    t.names.push_back(fmt::format("row {}", t.rows.size()));
  }
  return t;
}

// `n` places over `decades`, from 1.
inline Vector places(size_t n, double decades) {
  Vector x;
  for (size_t i = 0; i < n; ++i)
    x.push_back(std::pow(10, decades * static_cast<double>(i) / static_cast<double>(n - 1)));
  return x;
}

// A standard normal number, keyed.
inline double noise(uint64_t table, uint32_t row) {
  const Words w = words(20260101 + table, Op::study, row);
  return normal_pair(w[0], w[1]).first;
}

}  // namespace nfscale::testing_fit
