#include "study/figure.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace nfscale {
namespace {

// Okabe and Ito's colours, told apart by people who see colours differently; shapes differ too.
const std::vector<std::string> kColors = {"#0072B2", "#E69F00", "#009E73", "#D55E00",
                                          "#CC79A7", "#56B4E9", "#7F7F7F", "#B8A200"};
const std::vector<std::string> kShapes = {"circle",        "square",        "triangle-up",
                                          "diamond",       "cross",         "triangle-down",
                                          "triangle-left", "triangle-right"};

Json scale_of(const std::vector<std::string>& domain, const std::vector<std::string>& all) {
  std::vector<std::string> range;
  for (size_t i = 0; i < domain.size(); ++i) range.push_back(all[i % all.size()]);
  return Json::object({{"domain", Json(domain)}, {"range", Json(range)}});
}

std::string field_text(const Json& v) {
  if (v.is_null()) return "";
  if (v.is_bool()) return v.as_bool() ? "1" : "0";
  if (v.is_string()) return v.as_string();
  return v.is_int() ? v.dump() : csv_number(v.as_double());
}

Json datasets_of(const Figure& figure, const std::vector<std::string>& kinds) {
  Json sets = Json::object();
  for (const std::string& kind : kinds) {
    Json rows = Json::array();
    for (const FigureRow& row : figure.rows)
      if (row.kind == kind) rows.push(row.values);
    sets.set(kind, rows);
  }
  return sets;
}

// Ticks where less than a decade is covered: round steps.
std::vector<double> even_ticks(double low, double high, int count) {
  const double raw = (high - low) / count, unit = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * unit;
  for (const double m : {5.0, 2.0, 1.0})
    if (m * unit >= raw) step = m * unit;
  std::vector<double> ticks;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); ++k)
    ticks.push_back(k * step);
  // Sums of decimal fractions, as they are written.
  for (double& t : ticks) t = parse_double(fmt::format("{:.12g}", t)).value_or(t);
  return ticks;
}

}  // namespace

void Figure::add(std::string kind, std::initializer_list<std::pair<std::string, Json>> values) {
  rows.push_back({std::move(kind), Json::object(values)});
}

std::string FigureInput::run(const std::string& cell) const {
  const auto found = best_runs.find(cell);
  return found == best_runs.end() ? "" : found->second;
}

std::vector<Figure> all_figures(const FigureInputs& families) {
  std::vector<Figure> all = {finetuned_figure(families), loss_figure(families)};
  for (const FigureInput& in : families)
    for (Figure f : {rate_figure(in), curves_figure(in), growth_figure(in), influence_figure(in),
                     record_figure(in)}) {
      if (in.several) {
        f.name += "-" + in.conclusions.family;
        f.title += fmt::format(" ({}s)", family_title(in.conclusions.family));
        if (!f.waits.empty()) f.waits = family_title(in.conclusions.family) + "s: " + f.waits;
      }
      all.push_back(std::move(f));
    }
  return all;
}

Csv figure_table(const Figure& figure) {
  Csv table{figure.name + ".csv", {"kind"}, {}};
  for (const FigureRow& row : figure.rows)
    for (const auto& [key, value] : row.values.members())
      if (!table.find_column(key)) table.header.push_back(key);
  for (const FigureRow& row : figure.rows) {
    table.rows.push_back({row.kind});
    for (size_t i = 1; i < table.header.size(); ++i) {
      const Json* value = row.values.find(table.header[i]);
      table.rows.back().push_back(value ? field_text(*value) : "");
    }
  }
  return table;
}

std::vector<std::string> models_of(const std::vector<CellRow>& cells) {
  std::vector<std::pair<double, std::string>> sizes;
  for (const CellRow& c : cells)
    sizes.emplace_back(std::isnan(c.macs) ? c.params : c.macs, c.model);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  std::vector<std::string> models;
  for (const auto& [size, model] : sizes) models.push_back(model);
  return models;
}

std::string family_color(const std::string& family) {
  return family == "vit" ? "#D55E00" : "#0072B2";
}

namespace {

// From light to dark, the smallest model the lightest; one alone has the family's own colour.
std::vector<std::string> shades(const std::string& family, size_t models) {
  static const std::vector<std::string> kBlue = {"#7CC3F0", "#3A9BDC", family_color("nfnet"),
                                                 "#005A8C"};
  static const std::vector<std::string> kOrange = {"#F3B27A", "#E8873A", family_color("vit"),
                                                   "#A84A00"};
  const std::vector<std::string>& all = family == "vit" ? kOrange : kBlue;
  std::vector<std::string> range;
  for (size_t i = 0; i < models; ++i)
    range.push_back(all[models == 1 ? 2 : i * (all.size() - 1) / (models - 1)]);
  return range;
}

}  // namespace

FigureValues model_values(const FigureInputs& families, double share,
                          const std::vector<std::string>& more) {
  std::vector<std::string> models, colors;
  for (const FigureInput& in : families) {
    const std::vector<std::string> own = models_of(in.conclusions.cells);
    models.insert(models.end(), own.begin(), own.end());
    const std::vector<std::string> range =
        in.several ? shades(in.conclusions.family, own.size()) : kColors;
    for (size_t i = 0; i < own.size(); ++i) colors.push_back(range[i % range.size()]);
  }
  for (const std::string& model : more) {
    colors.push_back(kColors[models.size() % kColors.size()]);
    models.push_back(model);
  }
  size_t longest = 4;
  for (const std::string& m : models) longest = std::max(longest, m.size());
  const Json legend = Json::object({{"orient", "top"},
                                    {"columns", Json::object({{"expr", "legend_columns"}})},
                                    {"symbolOpacity", 1},
                                    {"symbolStrokeWidth", 2}});
  const auto encoding = [&](const std::vector<std::string>& range) {
    return Json::object({{"field", "model"},
                         {"type", "nominal"},
                         {"scale", scale_of(models, range)},
                         {"title", nullptr},
                         {"legend", legend}});
  };
  // The page sets its colours and its width; the legend has as many columns as fit.
  const auto param = [](const char* name, const char* kind, const Json& value) {
    return Json::object({{"name", name}, {kind, value}});
  };
  const Json params = Json::array(
      {param("ink", "value", "#333333"), param("page", "value", "#ffffff"),
       param("page_width", "value", 960),
       param("legend_columns", "expr",
             fmt::format("max(2, floor((page_width * {} - 60) / {}))", share, longest * 7 + 36))});
  return {{"COLOR", encoding(colors)},
          {"SHAPE", encoding(kShapes)},
          {"COLORS", scale_of(models, colors)},
          {"MODELS", Json(models)},
          {"PARAMS", params}};
}

FigureValues compute_values(const FigureInput& input, double low, double high) {
  const Json axis = Json::object({{"values", Json(log_ticks(low, high, 8))},
                                  {"labelExpr", kComputeLabel},
                                  {"labelOverlap", true},
                                  {"labelSeparation", 6},
                                  {"grid", true}});
  const Json scale =
      Json::object({{"type", "log"}, {"domain", Json::array({low, high})}, {"nice", false}});
  const std::string title = input.by_hours() ? "compute, device hours"
                                             : "compute, operations (6 x multiply-adds x images)";
  return {{"COMPUTE", Json::object({{"field", "compute"},
                                    {"type", "quantitative"},
                                    {"title", title},
                                    {"scale", scale},
                                    {"axis", axis}})},
          {"XTITLE", input.by_hours() ? "device hours" : "operations"}};
}

void draw(Figure& figure, std::string text, const std::vector<std::string>& kinds,
          const FigureValues& values) {
  FigureValues all = values;
  all.emplace_back("TITLE", figure.title);
  all.emplace_back("DATASETS", datasets_of(figure, kinds));
  for (const auto& [name, value] : all) {
    const std::string token = "@" + name + "@", json = value.dump();
    for (size_t at = text.find(token); at != std::string::npos; at = text.find(token, at))
      text.replace(at, token.size(), json), at += json.size();
  }
  figure.spec = parse_json(text, figure.name);
}

void LogRange::include(double v) {
  if (!(v > 0) || !std::isfinite(v)) return;
  low = std::min(low, v);
  high = std::max(high, v);
}

std::string waits_for_law(const FigureInput& input, const std::string& what) {
  constexpr size_t kNamed = 4;
  std::string text = what;
  for (const Verdict& v : input.conclusions.verdicts) {
    if (v.name != "law" || v.state != "waits" || v.cells.empty()) continue;
    const std::vector<std::string> some(
        v.cells.begin(), v.cells.begin() + static_cast<long>(std::min(kNamed, v.cells.size())));
    text += "; that needs " + join(some, ", ");
    if (v.cells.size() > kNamed) text += fmt::format(" and {} more", v.cells.size() - kNamed);
  }
  return text + ".";
}

double LogRange::share(double v) const {
  return std::log(v / low) / std::log(high / low);
}

void LogRange::widen(double by) {
  if (!(high > 0)) low = 1, high = 2;
  const double factor = std::pow(std::max(high / low, 1.01), by);
  low /= factor;
  high *= factor;
}

std::vector<double> log_ticks(double low, double high, int count) {
  if (!(low > 0) || !(high > low)) return {low};
  const double decades = std::log10(high / low);
  if (decades < 1) return even_ticks(low, high, count);
  std::vector<double> ticks;
  const int every = std::max(1, static_cast<int>(std::ceil(decades / count)));
  for (int d = static_cast<int>(std::floor(std::log10(low))); std::pow(10, d) <= high; ++d) {
    if (every > 1 && d % every != 0) continue;
    for (const double m : {1.0, 2.0, 5.0})
      if (const double v = m * std::pow(10, d);
          v >= low * 0.999999 && v <= high * 1.000001 && (m == 1 || decades < count / 2.0))
        ticks.push_back(v);
  }
  return ticks;
}

std::string interval_text(double value, const std::optional<Bounds>& bounds) {
  std::string point = fmt::format("{:.3g}", value);
  if (!bounds) return point;
  const auto end = [](double v) { return std::isfinite(v) ? fmt::format("{:.3g}", v) : "open"; };
  return fmt::format("{} [{}, {}]", point, end(bounds->low), end(bounds->high));
}

}  // namespace nfscale
