// Figure 5: how the best size and the best number of epochs grow with compute.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/figure.h"

namespace nfscale {
namespace {

// One panel: QUANTITY is "size" or "epochs".
constexpr const char* kPanel = R"vl({
  "width": 400, "height": 280,
  "encoding": {
    "x": @COMPUTE@,
    "y": {"type": "quantitative", "title": @TITLE@,
          "scale": {"type": "log", "domain": @DOMAIN@, "nice": false},
          "axis": {"values": @TICKS@, "format": @FORMAT@}}
  },
  "layer": [
    {"data": {"name": "slope"},
     "mark": {"type": "line", "strokeWidth": 1.8, "color": {"expr": "ink"}, "clip": true},
     "encoding": {"y": {"field": "QUANTITY"},
       "strokeDash": {"field": "method", "type": "nominal", "title": null,
                      "scale": {"domain": ["common tangent", "slices"], "range": [[1, 0], [5, 4]]},
                      "legend": null}}},
    {"name": "optimumNAME", "data": {"name": "optimum"},
     "mark": {"type": "point", "shape": "circle", "size": 30, "strokeWidth": 1.2, "opacity": 0.8, "color": {"expr": "ink"}},
     "encoding": {"y": {"field": "QUANTITY"},
       "tooltip": [{"field": "compute", "title": @XTITLE@, "format": ".4g"}, {"field": "size", "title": "best size, parameters", "format": ".4s"},
                   {"field": "epochs", "title": "best epochs", "format": ".3g"}, {"field": "loss", "title": "loss, nats", "format": ".5g"}]}},
    {"name": "touchNAME", "data": {"name": "touch"},
     "mark": {"type": "point", "size": 80, "strokeWidth": 2, "opacity": 1, "filled": true},
     "encoding": {"y": {"field": "QUANTITY"}, "color": @COLOR@, "shape": @SHAPE@,
       "tooltip": [{"field": "model", "title": "the law touches"}, {"field": "compute", "title": @XTITLE@, "format": ".4g"},
                   {"field": "size", "title": "size, parameters", "format": ".4s"}, {"field": "epochs", "title": "best epochs", "format": ".3g"},
                   {"field": "loss", "title": "loss, nats", "format": ".5g"}, {"field": "runs", "title": "runs"}]}}
  ]
})vl";

constexpr const char* kSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "usermeta": {"columns": 2, "side": 78, "below": 700, "narrow": {"columns": 1}},
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "columns": 2, "spacing": 24,
  "concat": [@SIZE_PANEL@, @EPOCHS_PANEL@]
})vl";

void add_touches(const FigureInput& in, const Tangent& law, Figure& figure) {
  for (const TouchPoint& t : law.touches) {
    std::vector<std::string> runs;
    for (const CellRow& c : in.conclusions.cells)
      if (c.model == t.model && !in.run(c.cell).empty()) runs.push_back(in.run(c.cell));
    figure.add("touch", {{"model", t.model},
                         {"compute", t.compute},
                         {"size", t.size},
                         {"epochs", t.epochs},
                         {"loss", t.loss},
                         {"runs", join(runs, ", ")}});
  }
}

// The ends of a fitted line: least squares in logarithms runs through the mean of its points.
void add_slope(const std::string& method, const std::vector<TouchPoint>& points, const Rates& rates,
               Figure& figure) {
  if (points.empty()) return;
  double x = 0, size = 0, epochs = 0;
  LogRange range;
  for (const TouchPoint& p : points) {
    const auto n = static_cast<double>(points.size());
    x += std::log(p.compute) / n;
    size += std::log(p.size) / n;
    epochs += std::log(p.epochs) / n;
    range.include(p.compute);
  }
  for (const double compute : {range.low, range.high}) {
    const double d = std::log(compute) - x;
    figure.add("slope", {{"method", method},
                         {"compute", compute},
                         {"size", std::exp(size + rates.size * d)},
                         {"epochs", std::exp(epochs + rates.epochs * d)}});
  }
}

Json panel(const Figure& figure, const std::string& quantity, const std::string& title,
           const FigureValues& shared) {
  LogRange y;
  for (const FigureRow& row : figure.rows) y.include(row.values.at(quantity).as_double());
  y.widen(0.1);
  std::string text = kPanel;
  const auto put = [&](const std::string& token, const std::string& value) {
    for (size_t at = text.find(token); at != std::string::npos; at = text.find(token, at))
      text.replace(at, token.size(), value), at += value.size();
  };
  put("QUANTITY", quantity);
  put("NAME", quantity == "size" ? "" : "_epochs");
  Figure part;
  part.name = figure.name;
  part.title = title;
  FigureValues values = shared;
  values.emplace_back("DOMAIN", y.domain());
  values.emplace_back("TICKS", Json(log_ticks(y.low, y.high, 6)));
  values.emplace_back("FORMAT", quantity == "size" ? "~s" : "~g");
  draw(part, text, {}, values);
  return part.spec;
}

void draw_growth(const FigureInput& in, Figure& figure) {
  LogRange x;
  for (const FigureRow& row : figure.rows) x.include(row.values.at("compute").as_double());
  x.widen(0.08);
  FigureValues values = model_values({in});
  const auto params = values.back();
  for (const auto& v : compute_values(in, x.low, x.high)) values.push_back(v);
  const Json size = panel(figure, "size", "best size, parameters", values);
  const Json epochs = panel(figure, "epochs", "best epochs", values);
  draw(figure, kSpec, {"touch", "optimum", "slope"},
       {{"SIZE_PANEL", size}, {"EPOCHS_PANEL", epochs}, params});
}

std::string slopes(const char* method, const Rates& rates) {
  return fmt::format("{}: size grows as compute^{:.3g}, epochs as compute^{:.3g}", method,
                     rates.size, rates.epochs);
}

}  // namespace

Figure growth_figure(const FigureInput& in) {
  Figure figure;
  figure.name = "figure5-growth";
  figure.title = "Best size and epochs against compute";
  const LawConclusion& law = in.conclusions.law;
  const bool tangent = law.method == "tangent" && law.law;
  if (!tangent && !law.slices) {
    figure.waits =
        waits_for_law(in,
                      "Best size and epochs against compute waits for a law that touches "
                      "three models inside their epoch budgets");
    return figure;
  }
  std::vector<std::string> fits;
  if (tangent) {
    add_touches(in, *law.law, figure);
    fits.push_back(slopes("By the common tangent (solid)", law.law->rates));
  }
  if (law.slices) {
    for (const TouchPoint& t : law.slices->optima)
      figure.add(
          "optimum",
          {{"compute", t.compute}, {"size", t.size}, {"epochs", t.epochs}, {"loss", t.loss}});
    fits.push_back(slopes("by slices of equal compute (dashed, circles)", law.slices->rates));
  }
  if (tangent) add_slope("common tangent", law.law->touches, law.law->rates, figure);
  if (law.slices) add_slope("slices", law.slices->optima, law.slices->rates, figure);
  const Rates& rates = tangent ? law.law->rates : law.slices->rates;
  figure.reading = "Size and epochs grow at the same rate where the two lines are equally steep.";
  figure.caption = join(fits, "; ") + ". Rate of epochs over rate of size: " +
                   interval_text(rates.ratio(), law.ratio) +
                   (law.ratio ? ", 95 %, the union of both estimators' intervals." : ".");
  draw_growth(in, figure);
  return figure;
}

}  // namespace nfscale
