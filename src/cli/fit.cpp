// fit: laws of a table of one's own.
#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/hash.h"
#include "base/text.h"
#include "cli/command.h"
#include "fit/laws.h"
#include "study/conclude.h"

namespace nfscale {
namespace {

std::pair<std::string, std::string> split_at_equals(const std::string& option,
                                                    const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0)
    fail(Exit::usage, "{} {}: expected NAME=VALUE", option, printable(text));
  return {text.substr(0, at), text.substr(at + 1)};
}

double positive_of(const std::string& option, const std::string& text, bool infinity = false) {
  if (infinity && text == "inf") return INFINITY;
  const auto v = parse_double(text);
  if (!v || !std::isfinite(*v) || !(*v > 0))
    fail(Exit::usage, "{} {}: expected a positive number{}", option, printable(text),
         infinity ? " or inf" : "");
  return *v;
}

// COL=VALUE: numbers are equal as numbers, the rest as text.
struct Condition {
  size_t column;
  std::string text;
  bool holds(const std::vector<std::string>& row) const {
    const auto a = parse_double(row[column]), b = parse_double(text);
    return a && b ? *a == *b : row[column] == text;
  }
};

std::vector<Condition> conditions(const Csv& csv, const Args& args, const std::string& option) {
  std::vector<Condition> out;
  for (const std::string& text : args.all(option)) {
    const auto [name, value] = split_at_equals(option, text);
    out.push_back({csv.column(name), value});
  }
  return out;
}

// The first condition that a row does not meet; null where it meets all.
const Condition* broken(const std::vector<Condition>& all, const std::vector<std::string>& row) {
  for (const Condition& c : all)
    if (!c.holds(row)) return &c;
  return nullptr;
}

std::map<std::string, std::string> renamed(const Args& args, const std::vector<std::string>& law) {
  std::map<std::string, std::string> names;
  for (const std::string& list : args.all("--columns"))
    for (const std::string& text : split(list, ',')) {
      const auto [name, column] = split_at_equals("--columns", text);
      if (std::find(law.begin(), law.end(), name) == law.end())
        fail(Exit::usage, "--columns {}: not a column of this law (it has {})", name,
             join(law, ", "));
      names[name] = column;
    }
  return names;
}

// The columns of a law in the table.
FitTable table_of(const Csv& csv, const std::vector<std::string>& law, const Args& args) {
  // The law isoflop calls its middle column a size: params, unless x says otherwise.
  std::vector<std::string> known = law;
  if (law[1] == "size") known.push_back("x");
  const auto names = renamed(args, known);
  FitTable table;
  std::vector<size_t> places;
  for (const std::string& column : law) {
    const auto given = names.find(column == "size" && names.contains("x") ? "x" : column);
    const std::string name =
        given != names.end() ? given->second
        : column == "size"
            ? (csv.find_column("params") || !csv.find_column("tokens") ? "params" : "tokens")
            : column;
    table.columns.emplace_back(column, name);
    places.push_back(csv.column(name));
  }
  return table;
}

void add_rows(const Csv& csv, const std::vector<Condition>& where, FitTable& table) {
  std::vector<std::pair<Vector, std::string>> rows;
  table.total = csv.rows.size();
  for (size_t i = 0; i < csv.rows.size(); ++i) {
    const std::string name = fmt::format("row {}", i + 1);
    if (const Condition* c = broken(where, csv.rows[i])) {
      table.excluded.emplace_back(
          name, fmt::format("{} is {}", csv.header[c->column], printable(csv.rows[i][c->column])));
      continue;
    }
    Vector row;
    for (const auto& [law, column] : table.columns) {
      const size_t place = csv.column(column);
      const auto v = parse_double(csv.rows[i][place]);
      if (!v || !std::isfinite(*v) || !(*v > 0))
        fail(Exit::usage, "{}:{}: {}: expected a positive number, found \"{}\" ({})", csv.name,
             i + 2, column, printable(csv.rows[i][place]), name);
      row.push_back(*v);
    }
    rows.emplace_back(std::move(row), name);
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [row, name] : rows) {
    table.rows.push_back(std::move(row));
    table.names.push_back(name);
  }
}

FitOptions options_of(const Args& args) {
  FitOptions options;
  options.huber = positive_of("--huber", args.text("--huber", "0.001"), true);
  options.draws = static_cast<int>(args.integer("--bootstrap", 1000, 0, 1000000));
  options.seed = static_cast<uint64_t>(args.integer("--seed", 0, 0, INT64_MAX));
  for (const std::string& text : args.all("--fix")) {
    const auto [name, value] = split_at_equals("--fix", text);
    const auto v = parse_double(value);
    if (!v || !std::isfinite(*v))
      fail(Exit::usage, "--fix {}: expected a number, found {}", name, printable(value));
    options.fix[name] = *v;
  }
  for (const std::string& text : args.all("--at")) options.at.push_back(positive_of("--at", text));
  return options;
}

std::string end_text(const Json& v) {
  return v.is_null() ? "open" : fmt::format("{:.6g}", v.as_double());
}

std::string fit_text(const Json& d) {
  std::vector<std::vector<std::string>> rows = {{"parameter", "value", "95 % from", "to"}};
  for (const auto& [name, value] : d.at("params").members()) {
    const Json* b = d.at("interval").find(name);
    rows.push_back({name, value.is_number() ? fmt::format("{:.6g}", value.as_double()) : "-",
                    b ? end_text(b->items()[0]) : "", b ? end_text(b->items()[1]) : ""});
  }
  std::string text = fmt::format("{}: {} of {} rows\n", d.at("law").as_string(),
                                 d.at("used").as_int(), d.at("rows").as_int()) +
                     text_table(rows);
  const Json& objective = d.at("objective");
  if (objective.at("value").is_number())
    text += fmt::format("{} = {:.10g}; {} of {} starts came within 1 % of it\n",
                        objective.at("name").as_string(), objective.at("value").as_double(),
                        d.at("starts").at("reached").as_int(), d.at("starts").at("tried").as_int());
  if (d.at("score").is_object())
    text += fmt::format(
        "rows that were not fitted: {}; error of ln y {:.4g} (rms), {:+.4g} (mean)\n",
        d.at("score").at("rows").as_int(), d.at("score").at("rms_log_error").as_double(),
        d.at("score").at("bias").as_double());
  if (const Json* forecasts = d.find("forecasts"))
    for (const Json& f : forecasts->items())
      text += fmt::format("at {:g}: {:.6g}{}\n", f.at("x").as_double(), f.at("y").as_double(),
                          f.at("interval").is_null()
                              ? ""
                              : fmt::format(" [{}, {}]", end_text(f.at("interval").items()[0]),
                                            end_text(f.at("interval").items()[1])));
  if (const Json* verdicts = d.find("verdicts"))
    for (const Json& v : verdicts->items()) text += v.at("sentence").as_string() + "\n";
  else
    for (const Json& w : d.at("warnings").items()) text += "warning: " + w.as_string() + "\n";
  return text;
}

Json frontier(Csv csv, const Args& args, uint64_t hash) {
  const auto where = conditions(csv, args, "--where");
  std::erase_if(csv.rows, [&](const auto& row) { return broken(where, row) != nullptr; });
  const auto names = renamed(args, {"x"});
  const bool trials = csv.find_column("heldout_loss").has_value();
  std::vector<CellRow> cells = trials ? cells_of_trials(csv) : cells_of_table(csv);
  const FitOptions given = options_of(args);
  for (const char* option : {"--fix", "--at", "--score", "--huber"})
    if (args.has(option)) fail(Exit::usage, "{}: not for the law frontier", option);
  ConcludeOptions options;
  options.by_hours = names.contains("x") ? names.at("x") == "device_hours"
                                         : csv.find_column("device_hours").has_value();
  options.draws = given.draws;
  options.seed = given.seed;
  const Conclusions c = conclude(cells, options);
  return frontier_json(c, hash);
}

void run_fit(const Args& args) {
  const Path file = *args.path("TABLE.csv");
  const std::string law = args.text("--law"), text = read_file(file);
  std::vector<std::string> names = law_names();
  names.push_back("frontier");
  if (std::find(names.begin(), names.end(), law) == names.end())
    fail(Exit::usage, "--law {}: not a law (nearest: {}; there are {})", printable(law),
         nearest(law, names), join(names, ", "));
  const Csv csv = parse_csv(text, file.string());
  const uint64_t hash = hash64(text);
  if (law == "frontier") {
    const Json document = frontier(csv, args, hash);
    return print_result(args, document, fit_text(document));
  }
  const FitOptions options = options_of(args);
  FitTable table = table_of(csv, law_columns(law), args);
  add_rows(csv, conditions(csv, args, "--where"), table);
  if (table.rows.empty()) fail(Exit::usage, "{}: no row is left to fit", file.string());
  const LawFit fit = fit_law(law, table, options);
  std::optional<Score> score;
  if (args.has("--score")) {
    FitTable other = table;
    other.rows.clear();
    other.names.clear();
    add_rows(csv, conditions(csv, args, "--score"), other);
    if (other.rows.empty()) fail(Exit::usage, "{}: no row meets --score", file.string());
    score = score_law(fit, other);
  }
  const Json document = law_json(fit, table, options, score, hash);
  print_result(args, document, fit_text(document));
}

}  // namespace

std::vector<Command> fit_commands() {
  return {{"fit",
           "a scaling law of a table, with intervals",
           "nfscale fit tests/fit/chinchilla_epoch.csv --law joint --where used=1",
           {{"TABLE.csv", "", "table with a header", Option::Times::once},
            {"--law", "LAW",
             "power, power+floor, joint, repeat, isoflop, curve3, curve4, lr or frontier",
             Option::Times::once},
            {"--columns", "x=COL,y=COL", "columns, where they are not called as in the law",
             Option::Times::any},
            {"--where", "COL=VALUE", "rows to fit; again: and", Option::Times::any},
            {"--score", "COL=VALUE", "rows to be predicted; again: and", Option::Times::any},
            {"--fix", "NAME=V", "a parameter that is given", Option::Times::any},
            {"--at", "X", "where to predict; power and power+floor", Option::Times::any},
            {"--huber", "D", "threshold of Huber's function, or inf: least squares; 0.001"},
            {"--bootstrap", "N", "draws for intervals; 1000"},
            {"--seed", "S", "of the draws; 0"}},
           run_fit}};
}

}  // namespace nfscale
