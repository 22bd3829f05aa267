// Figure 1: top-1 error after fine-tuning against pretraining compute, beside what the paper
// reports.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/figure.h"
#include "study/figure_labels.h"

namespace nfscale {
namespace {

// What the text of arXiv 2310.16764v1 states (its figure has more points, which are only drawn).
// Compute is in TPU-v4 core-hours; that of the ViTs is the authors' estimate from measured speed,
// their errors are quoted there from arXiv 2106.04560 (g, G) and 2305.13035 (SoViT).
struct PaperPoint {
  const char *label, *family;
  double core_hours, error;
  const char* source;
};
constexpr PaperPoint kPaper[] = {
    {"F7+", "NFNet", 110000, 9.7, "2310.16764, text"},
    {"F7+ with RA", "NFNet", 110000, 9.6, "2310.16764, text"},
    {"ViT-g/14", "ViT", 120000, 9.8, "2310.16764, text; error from 2106.04560"},
    {"ViT-G/14", "ViT", 280000, 9.55, "2310.16764, text; error from 2106.04560"},
    {"SoViT-400m/14", "ViT", 130000, 9.7, "2310.16764, text; error from 2305.13035"},
};

constexpr const char* kSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "width": "container", "height": 400,
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "encoding": {
    "x": @COMPUTE@,
    "y": {"field": "error", "type": "quantitative", "title": "top-1 error after fine-tuning, %",
          "scale": {"type": "log", "domain": @YDOMAIN@, "nice": false},
          "axis": {"values": @YTICKS@, "format": "~g"}}
  },
  "layer": [
    {"name": "paper", "data": {"name": "paper"},
     "mark": {"type": "point", "size": 70, "strokeWidth": 1.6, "opacity": 0.7, "color": {"expr": "ink"}},
     "encoding": {"shape": {"condition": {"test": "datum.family === 'ViT'", "value": "triangle-up"}, "value": "circle"},
       "tooltip": [{"field": "label", "title": "reported by the paper, not measured here"},
         {"field": "compute", "title": "TPU-v4 core-hours", "format": ".4g"}, {"field": "error", "title": "top-1 error, %"},
         {"field": "source", "title": "source"}]}},
    {"data": {"name": "paper"}, "transform": [{"calculate": @PLACE@, "as": "place"}, {"filter": "datum.place >= 0"}],
     "mark": @LABEL@,
     "encoding": {"text": {"field": "label"}}},
    {"name": "finetuned", "data": {"name": "finetuned"},
     "mark": {"type": "point", "size": 80, "strokeWidth": 2, "opacity": 1},
     "encoding": {"color": @COLOR@, "shape": @SHAPE@,
       "fill": {"condition": {"test": "datum.repeated_augmentation", "value": "transparent"},
                "field": "model", "type": "nominal", "scale": @COLORS@, "title": null},
       "tooltip": [{"field": "cell", "title": "cell"}, {"field": "error", "title": "top-1 error, %", "format": ".4g"},
         {"field": "standard_error", "title": "standard error", "format": ".2g"}, {"field": "recipe", "title": "recipe"},
         {"field": "compute", "title": @XTITLE@, "format": ".4g"},
         {"field": "repeated_augmentation", "title": "repeated augmentation"}, {"field": "run", "title": "run"}]}}
  ]
})vl";

// Of the paper's marks, clear of all.
std::string places_of(const Figure& figure, const LogRange& x, const LogRange& y) {
  std::vector<LabelledMark> marks;
  for (const FigureRow& row : figure.rows) {
    const std::string label = row.kind == "paper" ? row.values.at("label").as_string() : "";
    marks.push_back({label,
                     label,
                     {x.share(row.values.at("compute").as_double()),
                      y.share(row.values.at("error").as_double())}});
  }
  return label_places("label", marks, {});
}

void draw_finetuned(const FigureInputs& families, Figure& figure) {
  LogRange x, y;
  for (const FigureRow& row : figure.rows) {
    x.include(row.values.at("compute").as_double());
    y.include(row.values.at("error").as_double());
  }
  x.widen(0.08);
  y.widen(0.1);
  FigureValues values = model_values(families);
  for (const auto& v : compute_values(families[0], x.low, x.high)) values.push_back(v);
  Json label = label_mark("datum.place");
  label.set("color", Json::object({{"expr", "ink"}}));
  values.emplace_back("PLACE", places_of(figure, x, y));
  values.emplace_back("LABEL", label.set("opacity", 0.8));
  values.emplace_back("YDOMAIN", y.domain());
  values.emplace_back("YTICKS", Json(log_ticks(y.low, y.high, 6)));
  draw(figure, kSpec, {"finetuned", "paper"}, values);
}

}  // namespace

Figure finetuned_figure(const FigureInputs& families) {
  Figure figure;
  figure.name = "figure1-finetuned";
  figure.title = "Error after fine-tuning against pretraining compute";
  for (const FigureInput& in : families)
    for (const FinetunedPoint& p : in.finetuned)
      figure.add("finetuned", {{"cell", p.cell},
                               {"model", p.model},
                               {"compute", p.compute},
                               {"error", p.error},
                               {"standard_error", p.standard_error},
                               {"recipe", p.recipe},
                               {"repeated_augmentation", p.repeated_augmentation},
                               {"run", p.run_id}});
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
  figure.reading = "Each mark is a fine-tuned checkpoint, by what its pretraining cost.";
  figure.caption = "Filled: without, hollow: with repeated augmentation.";
  if (families[0].by_hours()) {
    for (const PaperPoint& p : kPaper)
      figure.add("paper", {{"label", p.label},
                           {"family", p.family},
                           {"compute", p.core_hours},
                           {"error", p.error},
                           {"source", p.source}});
    figure.caption +=
        " Grey: reported by the paper, not measured here (arXiv 2310.16764; circles NFNets, "
        "triangles ViTs); their compute is in TPU-v4 core-hours, which are not hours of this "
        "study's device.";
  }
  draw_finetuned(families, figure);
  return figure;
}

}  // namespace nfscale
