#include "study/sqlite.h"

#include <sqlite3.h>
#include <unistd.h>

#include <memory>

#include "base/files.h"
#include "base/text.h"

namespace nfscale {
namespace {

struct Close {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, Close>;
using Statement = std::unique_ptr<sqlite3_stmt, Close>;

[[noreturn]] void fail_sqlite(const Path& file, sqlite3* db) {
  fail(Exit::system, "{}: {}", file.string(), db ? sqlite3_errmsg(db) : "out of memory");
}

std::string sql_name(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

bool is_of_numbers(const Csv& table, size_t column) {
  bool any = false;
  for (const auto& row : table.rows) {
    if (row[column].empty()) continue;
    if (!parse_double(row[column])) return false;
    any = true;
  }
  return any;
}

class Writer {
 public:
  explicit Writer(const Path& file) : file_(file) {
    sqlite3* db = nullptr;
    // It takes no locks, which some file systems do not have: nobody else knows the file yet.
    const int code =
        sqlite3_open_v2(file.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix-none");
    db_.reset(db);
    if (code != SQLITE_OK) fail_sqlite(file, db);
  }

  void run(const std::string& sql) const {
    if (sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
      fail_sqlite(file_, db_.get());
  }

  void add(const Csv& table) const {
    std::vector<bool> numbers;
    std::vector<std::string> columns, marks;
    for (size_t c = 0; c < table.header.size(); ++c) {
      numbers.push_back(is_of_numbers(table, c));
      columns.push_back(sql_name(table.header[c]) + (numbers[c] ? " REAL" : " TEXT"));
      marks.emplace_back("?");
    }
    const std::string name = sql_name(Path(table.name).stem().string());
    run("CREATE TABLE " + name + " (" + join(columns, ", ") + ")");
    const Statement insert = prepare("INSERT INTO " + name + " VALUES (" + join(marks, ", ") + ")");
    for (const auto& row : table.rows) {
      for (size_t c = 0; c < row.size(); ++c)
        bind(insert.get(), static_cast<int>(c) + 1, row[c], numbers[c]);
      if (sqlite3_step(insert.get()) != SQLITE_DONE || sqlite3_reset(insert.get()) != SQLITE_OK)
        fail_sqlite(file_, db_.get());
    }
  }

 private:
  Statement prepare(const std::string& sql) const {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db_.get(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
      fail_sqlite(file_, db_.get());
    return Statement(statement);
  }
  void bind(sqlite3_stmt* insert, int place, const std::string& field, bool number) const {
    const int code = field.empty() ? sqlite3_bind_null(insert, place)
                     : number      ? sqlite3_bind_double(insert, place, *parse_double(field))
                                   : sqlite3_bind_text(insert, place, field.data(),
                                                       static_cast<int>(field.size()), SQLITE_TRANSIENT);
    if (code != SQLITE_OK) fail_sqlite(file_, db_.get());
  }

  Path file_;
  Database db_;
};

}  // namespace

void write_sqlite(const Path& file, const std::vector<Csv>& tables) {
  const Path temporary = temporary_beside(file);
  try {
    const Writer writer(temporary);
    // It takes its name when it is whole, so no journal is needed.
    writer.run("PRAGMA journal_mode = OFF; BEGIN");
    for (const Csv& table : tables) writer.add(table);
    writer.run("COMMIT");
  } catch (const Error&) {
    ::unlink(temporary.c_str());
    throw;
  }
  files().rename(temporary, file);
}

}  // namespace nfscale
