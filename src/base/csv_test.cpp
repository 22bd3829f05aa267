#include "base/csv.h"

#include <gtest/gtest.h>

#include <cmath>

namespace nfscale {
namespace {

TEST(Csv, QuotesCommasAndLineEndsComeBack) {
  Csv table{"t", {"a", "b"}, {{"x,y", "say \"no\""}, {"two\nlines", ""}}};
  const Csv again = parse_csv(csv_text(table), "t");
  EXPECT_EQ(again.header, table.header);
  EXPECT_EQ(again.rows, table.rows);
}

TEST(Csv, FaultsNameTheLine) {
  const auto words = [](const char* text) -> std::string {
    try {
      const Csv t = parse_csv(text, "t.csv");
      t.number(0, t.column("loss"));
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(words("a,b\n1\n"), "t.csv:2: expected 2 fields as in the header, found 1");
  EXPECT_EQ(words("lss\n1\n"), "t.csv: column loss is missing (nearest: lss)");
  EXPECT_EQ(words("loss\nx\n"), "t.csv:2: loss: expected a number, found \"x\"");
}

TEST(Csv, NumbersKeepEveryBit) {
  for (const double v : {0.1, 1.0 / 3, 1e-300, 12345678901234567.0})
    EXPECT_EQ(std::stod(csv_number(v)), v);
  EXPECT_EQ(csv_number(std::nan("")), "");
}

}  // namespace
}  // namespace nfscale
