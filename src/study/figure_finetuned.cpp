// Figure 1: top-1 error after fine-tuning against pretraining compute, beside what the paper
// reports.
#include <algorithm>
#include <cmath>

#include "arch/cost.h"
#include "base/text.h"
#include "study/figure.h"
#include "study/figure_labels.h"

namespace nfscale {
namespace {

// What the text of arXiv 2310.16764v1 states (its figure has more points, which are only drawn).
// Compute is that of arch/cost.h; that of the ViTs is the authors' estimate from measured speed,
// their errors are quoted there from arXiv 2106.04560 (g, G) and 2305.13035 (SoViT).
struct PaperPoint {
  const char *label, *run, *family;
  double error;
  const char* source;
};
constexpr PaperPoint kPaper[] = {
    {"F7+", "nfnet_f7+", "NFNet", 9.7, "2310.16764, text"},
    {"F7+ with RA", "nfnet_f7+", "NFNet", 9.6, "2310.16764, text"},
    {"ViT-g/14", "vit_giant14", "ViT", 9.8, "2310.16764, text; error from 2106.04560"},
    {"ViT-G/14", "vit_gigantic14", "ViT", 9.55, "2310.16764, text; error from 2106.04560"},
    {"SoViT-400m/14", "vit_so400m14", "ViT", 9.7, "2310.16764, text; error from 2305.13035"},
};

// What the reader may choose for the axis of compute: columns of the rows, the paper's too.
struct Unit {
  const char *column, *name, *title;
};
constexpr Unit kUnits[] = {
    {"device_hours", "device hours", "compute, hours of each one's own device"},
    {"flops", "operations", "compute, operations (6 x multiply-adds x images)"},
    {"tpu_v4_core_hours", "TPU-v4 core-hours, estimated",
     "compute, TPU-v4 core-hours, estimated from operations"}};

constexpr const char* kSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "width": "container", "height": 400,
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "encoding": {
    "x": {"field": "x", "type": "quantitative", "title": null,
          "scale": {"type": "log", "domain": [{"expr": "units[unit].domain[0]"}, {"expr": "units[unit].domain[1]"}], "nice": false},
          "axis": {"values": {"expr": "units[unit].ticks"}, "labelExpr": @TICK@, "labelOverlap": true,
                   "labelSeparation": 6, "grid": true}},
    "y": {"field": "error", "type": "quantitative", "title": "top-1 error after fine-tuning, %",
          "scale": {"type": "log", "domain": @YDOMAIN@, "nice": false},
          "axis": {"values": @YTICKS@, "format": "~g"}}
  },
  "layer": [
    {"name": "paper", "data": {"name": "paper"}, "transform": [{"calculate": "datum[unit]", "as": "x"}],
     "mark": {"type": "point", "size": 70, "strokeWidth": 1.6, "opacity": 0.7, "color": {"expr": "ink"}},
     "encoding": {"shape": {"condition": {"test": "datum.family === 'ViT'", "value": "triangle-up"}, "value": "circle"},
       "tooltip": [{"field": "label", "title": "reported by the paper, not measured here"},
         {"field": "tpu_v4_core_hours", "title": "TPU-v4 core-hours, reported", "format": ".4g"},
         {"field": "flops", "title": "operations, counted", "format": ".4g"}, {"field": "error", "title": "top-1 error, %"},
         {"field": "source", "title": "source"}]}},
    {"data": {"name": "paper"},
     "transform": [{"calculate": "datum[unit]", "as": "x"}, {"calculate": @PLACE@, "as": "place"}, {"filter": "datum.place >= 0"}],
     "mark": @LABEL@,
     "encoding": {"text": {"field": "label"}}},
    {"name": "finetuned", "data": {"name": "finetuned"},
     "transform": [{"calculate": "datum[unit]", "as": "x"}, {"filter": "isValid(datum.x)"}],
     "mark": {"type": "point", "size": 80, "strokeWidth": 2, "opacity": 1},
     "encoding": {"color": @COLOR@, "shape": @SHAPE@,
       "fill": {"condition": {"test": "datum.repeated_augmentation", "value": "transparent"},
                "field": "model", "type": "nominal", "scale": @COLORS@, "title": null},
       "tooltip": [{"field": "cell", "title": "cell"}, {"field": "error", "title": "top-1 error, %", "format": ".4g"},
         {"field": "standard_error", "title": "standard error", "format": ".2g"}, {"field": "recipe", "title": "recipe"},
         {"field": "device_hours", "title": "device hours of pretraining", "format": ".4g"},
         {"field": "flops", "title": "operations", "format": ".4g"},
         {"field": "tpu_v4_core_hours", "title": "TPU-v4 core-hours, estimated", "format": ".4g"},
         {"field": "repeated_augmentation", "title": "repeated augmentation"}, {"field": "run", "title": "run"}]}},
    {"data": {"values": [{}]},
     "mark": {"type": "text", "text": {"expr": "units[unit].title"}, "x": {"expr": "width / 2"}, "y": {"expr": "height + 40"},
              "fontSize": 13, "fontWeight": 500, "color": {"expr": "ink"}},
     "encoding": {"x": null, "y": null}}
  ]
})vl";

double number_of(const FigureRow& row, const char* column) {
  const Json& value = row.values.at(column);
  return value.is_null() ? std::nan("") : value.as_double();
}

// Of the paper's marks, clear of all.
std::string places_of(const Figure& figure, const char* unit, const LogRange& x,
                      const LogRange& y) {
  std::vector<LabelledMark> marks;
  for (const FigureRow& row : figure.rows) {
    const double compute = number_of(row, unit);
    if (std::isnan(compute)) continue;
    const std::string label = row.kind == "paper" ? row.values.at("label").as_string() : "";
    marks.push_back({label, label, {x.share(compute), y.share(number_of(row, "error"))}});
  }
  return label_places("label", marks, {});
}

Json param(const char* name, const Json& value) {
  return Json::object({{"name", name}, {"value", value}});
}

void draw_finetuned(const FigureInputs& families, Figure& figure) {
  LogRange y;
  for (const FigureRow& row : figure.rows) y.include(number_of(row, "error"));
  y.widen(0.1);
  Json units = Json::object(), names = Json::array(), columns = Json::array();
  std::string place = "-1";
  for (const Unit& unit : kUnits) {
    LogRange x;
    for (const FigureRow& row : figure.rows) x.include(number_of(row, unit.column));
    x.widen(0.08);
    units.set(unit.column, Json::object({{"title", unit.title},
                                         {"domain", x.domain()},
                                         {"ticks", Json(log_ticks(x.low, x.high, 8))}}));
    names.push(unit.name);
    columns.push(unit.column);
    place = fmt::format("unit === '{}' ? {} : {}", unit.column,
                        places_of(figure, unit.column, x, y), place);
  }
  const char* const first = families[0].by_hours() ? "device_hours" : "flops";
  const Json choice = Json::object(
      {{"input", "select"}, {"name", "compute in "}, {"options", columns}, {"labels", names}});
  FigureValues values = model_values(families);
  for (auto& [name, value] : values)
    if (name == "PARAMS")
      value.push(param("units", units)), value.push(param("unit", first).set("bind", choice));
  Json label = label_mark("datum.place");
  label.set("color", Json::object({{"expr", "ink"}}));
  values.emplace_back("TICK", kComputeLabel);
  values.emplace_back("PLACE", place);
  values.emplace_back("LABEL", label.set("opacity", 0.8));
  values.emplace_back("YDOMAIN", y.domain());
  values.emplace_back("YTICKS", Json(log_ticks(y.low, y.high, 6)));
  draw(figure, kSpec, {"finetuned", "paper"}, values);
}

const Accelerator& tpu_v4() {
  const auto& all = accelerators();
  return *std::find_if(all.begin(), all.end(),
                       [](const Accelerator& a) { return a.name == "tpu-v4-core"; });
}

void add_finetuned(const FinetunedPoint& p, Figure& figure) {
  figure.add("finetuned",
             {{"cell", p.cell},
              {"model", p.model},
              {"device_hours", p.device_hours > 0 ? Json(p.device_hours) : Json()},
              {"flops", p.flops},
              {"tpu_v4_core_hours", device_hours(p.flops, tpu_v4(), kAssumedUtilisation)},
              {"error", p.error},
              {"standard_error", p.standard_error},
              {"recipe", p.recipe},
              {"repeated_augmentation", p.repeated_augmentation},
              {"run", p.run_id}});
}

void add_paper(Figure& figure) {
  const std::vector<PaperRun> runs = paper_runs();
  for (const PaperPoint& p : kPaper) {
    const auto run =
        std::find_if(runs.begin(), runs.end(), [&](const PaperRun& r) { return r.model == p.run; });
    figure.add("paper", {{"label", p.label},
                         {"family", p.family},
                         {"device_hours", run->v4_hours},
                         {"flops", run->flops()},
                         {"tpu_v4_core_hours", run->v4_hours},
                         {"error", p.error},
                         {"source", p.source}});
  }
}

}  // namespace

Figure finetuned_figure(const FigureInputs& families) {
  Figure figure;
  figure.name = "figure1-finetuned";
  figure.title = "Error after fine-tuning against pretraining compute";
  for (const FigureInput& in : families)
    for (const FinetunedPoint& p : in.finetuned) add_finetuned(p, figure);
  if (figure.rows.empty()) {
    std::vector<std::string> cells;
    for (const FigureInput& in : families)
      for (const Candidate& c : in.conclusions.candidates)
        if (std::find(cells.begin(), cells.end(), c.cell) == cells.end()) cells.push_back(c.cell);
    figure.waits =
        "The error after fine-tuning against pretraining compute waits for fine-tuned "
        "checkpoints" +
        (cells.empty() ? "." : "; the candidates are " + join(cells, ", ") + ".");
    return figure;
  }
  add_paper(figure);
  figure.reading = "Each mark is a fine-tuned checkpoint, by what its pretraining cost.";
  figure.caption = fmt::format(
      "Filled: without, hollow: with repeated augmentation. Grey: reported by the paper, not "
      "measured here (arXiv 2310.16764; circles NFNets, triangles ViTs); its hours are those of "
      "TPU-v4 cores, its operations counted from its models and images. Hours of a TPU-v4 core for "
      "this study's runs are an estimate: their operations at {:.0f} % of its peak.",
      100 * kAssumedUtilisation);
  draw_finetuned(families, figure);
  return figure;
}

}  // namespace nfscale
