#include "study/sqlite.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "base/testing.h"

namespace nfscale {
namespace {

// What a question brings, "a|b" a row.
std::string answer(const Path& file, const char* sql) {
  sqlite3* db = nullptr;
  EXPECT_EQ(sqlite3_open_v2(file.c_str(), &db, SQLITE_OPEN_READONLY, nullptr), SQLITE_OK);
  std::string text;
  const auto add = [](void* to, int count, char** values, char**) {
    for (int i = 0; i < count; ++i)
      *static_cast<std::string*>(to) +=
          (i ? "|" : "") + std::string(values[i] ? values[i] : "NULL");
    *static_cast<std::string*>(to) += "\n";
    return 0;
  };
  char* error = nullptr;
  EXPECT_EQ(sqlite3_exec(db, sql, add, &text, &error), SQLITE_OK) << error;
  sqlite3_close(db);
  return text;
}

TEST(Sqlite, TablesAreThereWithTheirNumbersAndGaps) {
  const TestFolder folder;
  const Path file = folder.path / "study.sqlite";
  const Csv cells{
      "cells.csv", {"cell", "loss", "a \"b\""}, {{"s@1ep", "0.1", ""}, {"it's", "", "x"}}};
  write_sqlite(file, {cells, {"empty.csv", {"run_id"}, {}}});
  EXPECT_EQ(answer(file, "SELECT * FROM cells"), "s@1ep|0.1|NULL\nit's|NULL|x\n");
  EXPECT_EQ(answer(file, "SELECT typeof(loss) FROM cells"), "real\nnull\n");
  EXPECT_EQ(answer(file, "SELECT count(*) FROM empty"), "0\n");
  // Written anew, not added to; nothing stays beside it.
  write_sqlite(file, {cells});
  EXPECT_EQ(answer(file, "SELECT count(*) FROM cells"), "2\n");
  EXPECT_EQ(answer(file, "SELECT count(*) FROM sqlite_master"), "1\n");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path), {}), 1);
}

TEST(Sqlite, APlaceThatCannotBeWrittenIsNamed) {
  try {
    write_sqlite("/nowhere/study.sqlite", {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::system);
    EXPECT_NE(std::string(e.what()).find("/nowhere/study.sqlite"), std::string::npos);
  }
}

}  // namespace
}  // namespace nfscale
