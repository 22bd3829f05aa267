// Figure 2: held-out loss against compute, a curve for every model over its epoch budgets, the law
// with its band, dashed where nothing was measured, and predictions with what came of them.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/figure.h"
#include "study/figure_labels.h"

namespace nfscale {
namespace {

// The dashed law lies under the solid one, so that its dashes show where nothing was measured.
// Labels stand below cells on the law, where nothing else is, and above the others; in a narrow
// page only the ends of the curves have one.
constexpr const char* kSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "width": "container", "height": 440,
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "encoding": {
    "x": @COMPUTE@,
    "y": {"type": "quantitative", "title": @YTITLE@,
          "scale": {"type": "log", "domain": @YDOMAIN@, "nice": false},
          "axis": {"values": @YTICKS@, "format": "~g"}}
  },
  "layer": [
    {"data": {"name": "law"},
     "mark": {"type": "area", "opacity": 0.15, "clip": true},
     "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}, "color": @LAW_COLOR@, "detail": {"field": "family"}}},
    {"data": {"name": "law"},
     "mark": {"type": "line", "strokeWidth": 1.6, "strokeDash": [6, 5], "clip": true},
     "encoding": {"y": {"field": "law"}, "color": @LAW_COLOR@, "detail": {"field": "family"}}},
    {"data": {"name": "law"}, "transform": [{"filter": "datum.measured"}],
     "mark": {"type": "line", "strokeWidth": 2.2, "clip": true},
     "encoding": {"y": {"field": "law"}, "color": @LAW_COLOR@, "detail": {"field": "family"}}},
    {"data": {"name": "cell"},
     "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.8},
     "encoding": {"y": {"field": "loss"}, "color": @COLOR@}},
    {"data": {"name": "cell"}, "transform": [{"filter": "datum.near"}],
     "mark": {"type": "point", "shape": "circle", "size": 230, "strokeWidth": 1.2, "opacity": 0.75, "color": {"expr": "ink"}},
     "encoding": {"y": {"field": "loss"}}},
    {"name": "cell", "data": {"name": "cell"},
     "mark": {"type": "point", "size": 60, "strokeWidth": 2, "opacity": 1},
     "encoding": {
       "y": {"field": "loss"}, "color": @COLOR@, "shape": @SHAPE@,
       "fill": {"condition": {"test": "datum.flagged", "value": "transparent"},
                "field": "model", "type": "nominal", "scale": @COLORS@, "title": null},
       "tooltip": [
         {"field": "cell", "title": "cell"}, {"field": "loss", "title": "loss, nats", "format": ".5g"},
         {"field": "loss_vertex", "title": "at the best rate", "format": ".5g"},
         {"field": "compute", "title": @XTITLE@, "format": ".4g"},
         {"field": "lr", "title": "learning rate", "format": ".4g"},
         {"field": "trials", "title": "trials"}, {"field": "certified", "title": "certified"},
         {"field": "excess_percent", "title": "above the law, %", "format": ".2f"},
         {"field": "note", "title": "note"}, {"field": "run", "title": "run"}]}},
    {"data": {"name": "cell"}, "transform": [{"calculate": @PLACE@, "as": "place"}, {"filter": "datum.place >= 0"}],
     "mark": @LABEL_HALO@,
     "encoding": {"y": {"field": "loss"}, "text": {"field": "epochs", "type": "quantitative", "format": "~g"}}},
    {"data": {"name": "cell"}, "transform": [{"calculate": @PLACE@, "as": "place"}, {"filter": "datum.place >= 0"}],
     "mark": @LABEL@,
     "encoding": {"y": {"field": "loss"}, "text": {"field": "epochs", "type": "quantitative", "format": "~g"}, "color": @COLOR@}},
    {"name": "touch", "data": {"name": "touch"},
     "mark": {"type": "point", "shape": "M-1,-1L1,1M-1,1L1,-1", "size": 80, "strokeWidth": 2.2, "opacity": 1, "color": {"expr": "ink"}},
     "encoding": {"y": {"field": "loss"},
       "tooltip": [{"field": "model", "title": "the law touches"}, {"field": "epochs", "title": "best epochs", "format": ".3g"},
                   {"field": "compute", "title": @XTITLE@, "format": ".4g"}, {"field": "loss", "title": "loss, nats", "format": ".5g"}]}},
    {"data": {"name": "prediction"},
     "mark": {"type": "rule", "strokeWidth": 1.5, "color": {"expr": "ink"}},
     "encoding": {"y": {"field": "low95"}, "y2": {"field": "high95"}}},
    {"name": "prediction", "data": {"name": "prediction"},
     "mark": {"type": "rule", "strokeWidth": 6, "opacity": 0.65, "color": {"expr": "ink"}},
     "encoding": {"y": {"field": "low50"}, "y2": {"field": "high50"},
       "tooltip": [{"field": "cell", "title": "cell"}, {"field": "status", "title": "kind"},
         {"field": "loss", "title": "predicted, nats", "format": ".5g"},
         {"field": "low95", "title": "95 % from", "format": ".5g"}, {"field": "high95", "title": "to", "format": ".5g"},
         {"field": "observed", "title": "observed, nats", "format": ".5g"},
         {"field": "sealed_at", "title": "sealed"}, {"field": "seal", "title": "seal"}, {"field": "run", "title": "run"}]}},
    {"data": {"name": "prediction"}, "transform": [{"filter": "datum.number === 1"}],
     "mark": {"type": "text", "dy": -10, "fontSize": 10, "baseline": "bottom", "color": {"expr": "ink"}},
     "encoding": {"y": {"field": "high95"}, "text": {"field": "cell"}}},
    {"data": {"name": "prediction"}, "transform": [{"filter": "isValid(datum.observed)"}],
     "mark": {"type": "point", "shape": "M0,-1L0.3,-0.3L1,0L0.3,0.3L0,1L-0.3,0.3L-1,0L-0.3,-0.3Z", "size": 160, "strokeWidth": 1.2, "opacity": 1, "filled": true, "stroke": "white", "color": "#D55E00"},
     "encoding": {"y": {"field": "observed"}}}
  ]
})vl";

bool shown(const FigureInput& in, const CellRow& c) {
  return !std::isnan(c.loss) && in.compute(c) > 0;
}

void add_cells(const FigureInput& in, Figure& figure) {
  for (const CellRow& c : in.conclusions.cells) {
    if (!shown(in, c)) continue;
    figure.add("cell", {{"cell", c.cell},
                        {"model", c.model},
                        {"epochs", c.epochs},
                        {"compute", in.compute(c)},
                        {"loss", c.loss},
                        {"loss_vertex", finite_json(c.loss_vertex)},
                        {"lr", finite_json(c.lr_best)},
                        {"trials", c.trials},
                        {"certified", c.certified},
                        {"flagged", c.flagged},
                        {"near", c.near.value_or(false)},
                        {"excess", finite_json(c.excess)},
                        {"excess_percent", finite_json(100 * std::expm1(c.excess))},
                        {"note", c.reason},
                        {"run", in.run(c.cell)}});
  }
}

void add_law(const FigureInput& in, Figure& figure) {
  const LawConclusion& law = in.conclusions.law;
  for (size_t i = 0; i < law.line.size(); ++i) {
    const double x = law.compute[i];
    const bool band = i < law.low.size();
    figure.add("law", {{"family", in.conclusions.family},
                       {"compute", x},
                       {"law", law.line[i]},
                       {"low", band ? law.low[i] : law.line[i]},
                       {"high", band ? law.high[i] : law.line[i]},
                       {"measured", x >= law.measured_low && x <= law.measured_high}});
  }
  if (law.method != "tangent") return;
  for (const TouchPoint& t : law.law->touches)
    figure.add(
        "touch",
        {{"model", t.model}, {"epochs", t.epochs}, {"compute", t.compute}, {"loss", t.loss}});
}

void add_predictions(const FigureInput& in, Figure& figure) {
  for (const Prediction& p : in.predictions) {
    double compute = in.by_hours() ? p.device_hours : std::nan("");
    for (const CellRow& c : in.conclusions.cells)
      if (c.cell == p.target && in.compute(c) > 0) compute = in.compute(c);
    for (const CellForecast& f : in.conclusions.forecasts)
      if (f.cell == p.target) compute = f.compute;
    if (!(compute > 0)) continue;
    figure.add("prediction", {{"cell", p.target},
                              {"number", p.number},
                              {"status", p.kind},
                              {"compute", compute},
                              {"loss", p.loss},
                              {"low50", finite_json(p.interval50.low)},
                              {"high50", finite_json(p.interval50.high)},
                              {"low95", finite_json(p.interval95.low)},
                              {"high95", finite_json(p.interval95.high)},
                              {"observed", p.observed ? Json(*p.observed) : Json()},
                              {"naive", finite_json(p.naive)},
                              {"sealed_at", p.sealed_at},
                              {"seal", p.seal},
                              {"run", in.run(p.target)}});
  }
}

std::string reading_of(const FigureInputs& families) {
  const LawConclusion& law = families[0].conclusions.law;
  const std::string curves = "Each curve is one model trained for more and more epochs; ";
  if (families.size() > 1)
    return curves +
           "shades of one colour are one family, and a thick line is a family's law where it has "
           "one: at equal compute the lower one is ahead.";
  if (law.method == "tangent")
    return curves +
           "the line of the law touches every curve once, and where it touches is that "
           "model's best epoch budget.";
  if (law.method == "pareto")
    return curves + "the line runs through the cells that no cheaper cell beats.";
  return curves + "there is no law yet.";
}

std::string caption_of(const FigureInputs& families, const Figure& figure) {
  const FigureInput& in = families[0];
  const auto any = [&](const char* kind, const char* flag) {
    return std::any_of(figure.rows.begin(), figure.rows.end(), [&](const FigureRow& row) {
      return row.kind == kind && (!flag || row.values.at(flag).as_bool());
    });
  };
  std::vector<std::string> parts = {
      "Numbers beside the marks are epochs, where there is room for them."};
  const bool band = std::any_of(families.begin(), families.end(), [](const FigureInput& f) {
    return !f.conclusions.law.low.empty();
  });
  if (any("law", nullptr))
    parts.push_back(!band
                        ? "Line: the law, dashed where nothing was measured; too few draws have a "
                          "law of their own for a band."
                        : "Line: the law with its 95 % band, dashed where nothing was measured.");
  if (any("touch", nullptr)) parts.push_back("Crosses: where the law touches a curve.");
  if (any("cell", "near"))
    parts.push_back("Ringed: within 0.5 % of the law, the near-optimal set.");
  if (any("cell", "flagged"))
    parts.push_back("Hollow: flagged, left out of the fit; the reason is in the note.");
  if (any("prediction", nullptr))
    parts.push_back(
        "Bars: predictions, 50 % thick and 95 % thin, with a star for what was observed.");
  parts.push_back(fmt::format("Losses are means over {} held-out images{}.", in.heldout_examples,
                              in.heldout.empty() ? "" : " of " + in.heldout));
  return join(parts, " ");
}

// In a narrow page only the ends of the curves have labels.
std::string places_of(const Figure& figure, const LogRange& x, const LogRange& y) {
  std::map<std::string, std::map<double, Spot>> curves;      // by model and compute
  std::map<std::string, std::map<double, LabelledMark>> on;  // by model and epochs
  for (const FigureRow& row : figure.rows) {
    if (row.kind != "law" && row.kind != "cell") continue;
    const bool cell = row.kind == "cell";
    const double compute = row.values.at("compute").as_double();
    const Spot at = {x.share(compute), y.share(row.values.at(cell ? "loss" : "law").as_double())};
    const std::string model = row.values.at(cell ? "model" : "family").as_string();
    curves[model][compute] = at;
    if (!cell) continue;
    const double epochs = row.values.at("epochs").as_double();
    on[model][epochs] = {row.values.at("cell").as_string(), fmt::format("{:g}", epochs), at, false};
  }
  std::vector<LabelledMark> marks;
  for (auto& [model, cells] : on) {
    cells.begin()->second.narrow = cells.rbegin()->second.narrow = true;
    for (const auto& [epochs, mark] : cells) marks.push_back(mark);
  }
  std::vector<std::vector<Spot>> lines;
  for (const auto& [model, curve] : curves) {
    lines.emplace_back();
    for (const auto& [compute, spot] : curve) lines.back().push_back(spot);
  }
  return label_places("cell", marks, lines);
}

// The law of the one family has the colour of the text.
Json law_color(const FigureInputs& families) {
  if (families.size() == 1) return Json::object({{"value", Json::object({{"expr", "ink"}})}});
  const Json vit =
      Json::object({{"test", "datum.family === 'vit'"}, {"value", family_color("vit")}});
  return Json::object({{"condition", vit}, {"value", family_color("nfnet")}});
}

void draw_loss(const FigureInputs& families, Figure& figure) {
  const FigureInput& in = families[0];
  LogRange x, y;
  for (const FigureRow& row : figure.rows)
    for (const auto& [key, value] : row.values.members()) {
      if (!value.is_number()) continue;
      if (key == "compute") x.include(value.as_double());
      const bool band = row.kind == "law" && (key == "low" || key == "high");
      const bool on_y =
          key == "loss" || key == "law" || key == "observed" || key == "low95" || key == "high95";
      if (on_y && !band) y.include(value.as_double());
    }
  x.widen(0.05);
  y.widen(0.07);
  FigureValues values = model_values(families);
  for (const auto& v : compute_values(in, x.low, x.high)) values.push_back(v);
  values.emplace_back("LAW_COLOR", law_color(families));
  Json label = label_mark("datum.place");
  values.emplace_back("PLACE", places_of(figure, x, y));
  values.emplace_back("LABEL", label);
  label.set("stroke", Json::object({{"expr", "page"}}));
  values.emplace_back("LABEL_HALO", label.set("strokeWidth", 3));
  values.emplace_back("YTITLE",
                      fmt::format("held-out loss, nats ({} images)", in.heldout_examples));
  values.emplace_back("YDOMAIN", y.domain());
  values.emplace_back("YTICKS", Json(log_ticks(y.low, y.high, 8)));
  draw(figure, kSpec, {"cell", "law", "touch", "prediction"}, values);
}

}  // namespace

Figure loss_figure(const FigureInputs& families) {
  Figure figure;
  figure.name = "figure2-loss";
  figure.title = "Held-out loss against compute";
  for (const FigureInput& in : families) add_cells(in, figure);
  if (figure.rows.empty()) {
    figure.waits = "Held-out loss against compute waits for the first cell with a loss.";
    return figure;
  }
  for (const FigureInput& in : families) {
    add_law(in, figure);
    add_predictions(in, figure);
  }
  figure.reading = reading_of(families);
  figure.caption = caption_of(families, figure);
  draw_loss(families, figure);
  return figure;
}

}  // namespace nfscale
