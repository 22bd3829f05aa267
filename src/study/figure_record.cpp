// Figure 7: what was predicted against what was observed, for laws that were fitted to cheap cells
// only and for predictions that were sealed before their run.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/figure.h"

namespace nfscale {
namespace {

constexpr const char* kSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "width": "container", "height": 400,
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "encoding": {
    "x": {"field": "observed", "type": "quantitative", "title": "observed loss, nats",
          "scale": {"type": "log", "domain": @DOMAIN@, "nice": false}, "axis": {"values": @TICKS@, "format": "~g", "labelOverlap": true}},
    "y": {"type": "quantitative", "title": "predicted loss, nats",
          "scale": {"type": "log", "domain": @DOMAIN@, "nice": false}, "axis": {"values": @TICKS@, "format": "~g"}}
  },
  "layer": [
    {"data": {"values": @DIAGONAL@},
     "mark": {"type": "line", "strokeWidth": 1.2, "strokeDash": [6, 5], "color": {"expr": "ink"}, "opacity": 0.7},
     "encoding": {"y": {"field": "predicted"}}},
    {"data": {"name": "score"},
     "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55, "clip": true},
     "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}, "color": @COLOR@}},
    {"name": "score", "data": {"name": "score"},
     "mark": {"type": "point", "size": 70, "strokeWidth": 1.8, "opacity": 1},
     "encoding": {"y": {"field": "predicted"}, "color": @COLOR@,
       "shape": {"field": "series", "type": "nominal", "title": null,
                 "scale": {"domain": @SERIES@, "range": ["square", "circle", "diamond", "cross"]},
                 "legend": {"orient": "top", "columns": {"expr": "max(1, floor((page_width - 60) / 190))"}, "symbolStrokeColor": {"expr": "ink"}}},
       "tooltip": [{"field": "cell", "title": "cell"}, {"field": "series", "title": "law"},
         {"field": "predicted", "title": "predicted, nats", "format": ".5g"}, {"field": "low", "title": "95 % from", "format": ".5g"},
         {"field": "high", "title": "to", "format": ".5g"}, {"field": "observed", "title": "observed, nats", "format": ".5g"},
         {"field": "error_percent", "title": "predicted too high by, %", "format": ".2f"}, {"field": "run", "title": "run"}]}}
  ]
})vl";

std::string model_of(const std::string& cell) {
  return cell.substr(0, cell.rfind('@'));
}

void add_score(const FigureInput& in, const std::string& series, const std::string& cell,
               double predicted, Bounds interval, double observed, Figure& figure) {
  figure.add("score", {{"series", series},
                       {"cell", cell},
                       {"model", model_of(cell)},
                       {"predicted", predicted},
                       {"low", finite_json(interval.low)},
                       {"high", finite_json(interval.high)},
                       {"observed", observed},
                       {"error_percent", 100 * (predicted / observed - 1)},
                       {"run", in.run(cell)}});
}

std::string cut_name(const ExtrapolationRecord& record) {
  return fmt::format("fitted below 1/{:g}", record.cut);
}

std::string caption_of(const FigureInput& in, size_t sealed) {
  std::vector<std::string> parts = {
      "Bars: 95 % intervals. On the dashed line predicted and observed are equal."};
  for (const ExtrapolationRecord& r : in.conclusions.record) {
    if (r.points.empty()) continue;
    std::string part = fmt::format(
        "Fitted below 1/{:g} of the largest compute ({} cells): {} cells above were predicted "
        "within {:.2g} % (root mean square), on average {:.2g} % too {}",
        r.cut, r.fitted, r.scored, 100 * std::expm1(r.rms), 100 * std::abs(std::expm1(r.bias)),
        r.bias < 0 ? "low" : "high");
    if (std::isfinite(r.inside95))
      part += fmt::format(", {:.0f} % inside their interval", 100 * r.inside95);
    if (std::isfinite(r.naive_rms))
      part += fmt::format("; the naive forecast: {:.2g} %", 100 * std::expm1(r.naive_rms));
    parts.push_back(part + ".");
  }
  if (sealed) parts.push_back(fmt::format("Predictions with an outcome: {}.", sealed));
  return join(parts, " ");
}

void draw_record(const FigureInput& in, Figure& figure) {
  LogRange range;
  std::vector<std::string> series;
  for (const FigureRow& row : figure.rows) {
    range.include(row.values.at("predicted").as_double());
    range.include(row.values.at("observed").as_double());
    const std::string name = row.values.at("series").as_string();
    if (std::find(series.begin(), series.end(), name) == series.end()) series.push_back(name);
  }
  // Intervals too, but not to where the marks would crowd.
  const LogRange marks = range;
  for (const FigureRow& row : figure.rows)
    for (const char* end : {"low", "high"})
      if (const Json& v = row.values.at(end); v.is_number())
        range.include(std::clamp(v.as_double(), marks.low / 1.25, marks.high * 1.25));
  range.widen(0.12);
  Json diagonal = Json::array();
  for (const double v : {range.low, range.high})
    diagonal.push(Json::object({{"observed", v}, {"predicted", v}}));
  // A target need not be a model of the grid.
  std::vector<std::string> known = models_of(in.conclusions.cells), more;
  for (const FigureRow& row : figure.rows)
    if (const std::string& model = row.values.at("model").as_string();
        std::find(known.begin(), known.end(), model) == known.end()) {
      known.push_back(model);
      more.push_back(model);
    }
  FigureValues values = model_values({in}, 1, more);
  values.emplace_back("DOMAIN", range.domain());
  values.emplace_back("TICKS", Json(log_ticks(range.low, range.high, 6)));
  values.emplace_back("DIAGONAL", diagonal);
  values.emplace_back("SERIES", Json(series));
  draw(figure, kSpec, {"score"}, values);
}

}  // namespace

Figure record_figure(const FigureInput& in) {
  Figure figure;
  figure.name = "figure7-record";
  figure.title = "Predicted against observed";
  for (const ExtrapolationRecord& record : in.conclusions.record)
    for (const ExtrapolationRecord::Point& p : record.points)
      add_score(in, cut_name(record), p.cell, p.predicted, {p.low, p.high}, p.observed, figure);
  size_t sealed = 0;
  for (const Prediction& p : in.predictions) {
    if (!p.observed) continue;
    ++sealed;
    add_score(in, p.kind == "prediction" ? "sealed prediction" : p.kind, p.target, p.loss,
              p.interval95, *p.observed, figure);
  }
  if (figure.rows.empty()) {
    figure.waits = waits_for_law(in,
                                 "Predicted against observed waits for a law of the cheap cells "
                                 "alone, or for a sealed prediction with its outcome");
    return figure;
  }
  figure.reading =
      "How well this method predicted the dear cells of this study from the cheap ones; marks "
      "above "
      "the line were predicted too high.";
  figure.caption = caption_of(in, sealed);
  draw_record(in, figure);
  return figure;
}

}  // namespace nfscale
