#include "base/csv.h"

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/text.h"

namespace nfscale {
namespace {

std::string quoted(const std::string& field) {
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  std::string text = "\"";
  for (const char c : field) text += c == '"' ? "\"\"" : std::string(1, c);
  return text + '"';
}

std::string line_text(const std::vector<std::string>& fields) {
  std::vector<std::string> safe;
  for (const std::string& field : fields) safe.push_back(quoted(field));
  return join(safe, ",") + "\n";
}

}  // namespace

size_t Csv::column(std::string_view wanted) const {
  if (const auto at = find_column(wanted)) return *at;
  fail(Exit::usage, "{}: column {} is missing (nearest: {})", name, wanted,
       nearest(wanted, header));
}

std::optional<size_t> Csv::find_column(std::string_view wanted) const {
  const auto at = std::find(header.begin(), header.end(), wanted);
  if (at == header.end()) return std::nullopt;
  return static_cast<size_t>(at - header.begin());
}

std::optional<double> Csv::number(size_t row, size_t col) const {
  const std::string& field = rows[row][col];
  if (field.empty()) return std::nullopt;
  const auto value = parse_double(field);
  if (!value)
    fail(Exit::usage, "{}:{}: {}: expected a number, found \"{}\"", name, row + 2, header[col],
         printable(field));
  return value;
}

Csv parse_csv(std::string_view text, const std::string& name) {
  Csv table;
  table.name = name;
  std::vector<std::string> fields(1);
  bool quotes = false, any = false;
  size_t line = 1, begun = 1;
  const auto end_row = [&] {
    if (!any && fields.size() == 1 && fields[0].empty()) return;  // an empty line
    if (table.header.empty()) {
      table.header = fields;
    } else {
      if (fields.size() != table.header.size())
        fail(Exit::usage, "{}:{}: expected {} fields as in the header, found {}", name, begun,
             table.header.size(), fields.size());
      table.rows.push_back(fields);
    }
    fields.assign(1, "");
    any = false;
  };
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (quotes) {
      if (c != '"') {
        fields.back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        fields.back() += '"';
        ++i;
      } else {
        quotes = false;
      }
    } else if (c == '"' && fields.back().empty()) {
      quotes = any = true;
    } else if (c == ',') {
      fields.emplace_back();
    } else if (c == '\n') {
      end_row();
      begun = line;
    } else if (c != '\r') {
      fields.back() += c;
    }
  }
  if (quotes) fail(Exit::usage, "{}:{}: a quote is not closed", name, begun);
  end_row();
  if (table.header.empty()) fail(Exit::usage, "{}: an empty table", name);
  return table;
}

Csv read_csv(const Path& file) {
  return parse_csv(read_file(file), file.string());
}

std::string csv_text(const Csv& table) {
  std::string text = line_text(table.header);
  for (const auto& row : table.rows) text += line_text(row);
  return text;
}

std::string csv_number(double value) {
  return std::isnan(value) ? "" : fmt::format("{:.17g}", value);
}

}  // namespace nfscale
