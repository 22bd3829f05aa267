// Figures 3 and 4: the best learning rate of every cell against epochs, with the rates that were
// tried next to it; and the curves of the loss over the rate that it was read from.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/figure.h"

namespace nfscale {
namespace {

// Models stand side by side, so that equal rates do not hide each other.
constexpr const char* kRateSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "width": "container", "height": 380,
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "encoding": {
    "x": {"field": "x", "type": "quantitative", "title": "epochs",
          "scale": {"type": "log", "base": 2, "domain": @XDOMAIN@, "nice": false},
          "axis": {"values": @XTICKS@, "format": "~g", "grid": false}},
    "y": {"type": "quantitative", "title": "best learning rate",
          "scale": {"type": "log", "base": 2, "domain": @YDOMAIN@, "nice": false},
          "axis": {"values": @YTICKS@, "format": "~g", "grid": true}}
  },
  "layer": [
    {"data": {"name": "trend"}, "transform": [{"calculate": @PLACE@, "as": "x"}],
     "mark": {"type": "line", "strokeWidth": 1.4, "opacity": 0.85, "clip": true},
     "encoding": {"y": {"field": "lr"}, "color": @COLOR@}},
    {"data": {"name": "cell"}, "transform": [{"calculate": @PLACE@, "as": "x"}],
     "mark": {"type": "rule", "strokeWidth": {"expr": "page_width < 600 ? 3 : 4"}, "opacity": 0.3},
     "encoding": {"y": {"field": "below"}, "y2": {"field": "above"}, "color": @COLOR@}},
    {"name": "cell", "data": {"name": "cell"}, "transform": [{"calculate": @PLACE@, "as": "x"}],
     "mark": {"type": "point", "size": {"expr": "page_width < 600 ? 28 : 70"}, "strokeWidth": {"expr": "page_width < 600 ? 1.4 : 2"}, "opacity": 1},
     "encoding": {
       "y": {"field": "lr"}, "color": @COLOR@, "shape": @SHAPE@,
       "fill": {"condition": {"test": "!datum.certified", "value": "transparent"},
                "field": "model", "type": "nominal", "scale": @COLORS@, "title": null},
       "tooltip": [
         {"field": "cell", "title": "cell"}, {"field": "lr", "title": "best rate tried", "format": ".4g"},
         {"field": "lr_vertex", "title": "estimated best rate", "format": ".4g"},
         {"field": "bracket", "title": "neighbours tried"}, {"field": "certified", "title": "certified"},
         {"field": "trials", "title": "trials"}, {"field": "note", "title": "note"}, {"field": "run", "title": "run"}]}},
    {"data": {"name": "cell"}, "transform": [{"calculate": @PLACE@, "as": "x"}, {"filter": "datum.edge !== ''"}],
     "mark": {"type": "text", "fontSize": 16, "fontWeight": "bold", "color": {"expr": "ink"}, "dy": {"expr": "datum.edge === 'down' ? 15 : -15"}},
     "encoding": {"y": {"field": "lr"},
                  "text": {"condition": [{"test": "datum.edge === 'up'", "value": "↑"}, {"test": "datum.edge === 'down'", "value": "↓"}], "value": "↕"}}}
  ]
})vl";

// In a wide page a grid of models and epochs, in a narrow one two cells abreast.
constexpr const char* kCurvesSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "usermeta": {"columns": @COLUMNS@, "side": 50, "below": 760,
    "narrow": {"columns": 2, "spacing": {"row": 26, "column": 46}, "facet": {"field": "cell", "type": "nominal", "sort": @CELLS@, "title": null, "header": {"labelFontSize": 11, "labelPadding": 4}}}},
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "data": {"name": "curve"},
  "facet": {
    "row": {"field": "model", "type": "nominal", "sort": @MODELS@, "title": null, "header": {"labelFontSize": 12, "labelOrient": "left", "labelPadding": 34}},
    "column": {"field": "epochs", "type": "ordinal", "title": "epochs", "header": {"labelFontSize": 12, "titleFontSize": 13, "format": "~g"}}},
  "spacing": {"row": 14, "column": 46}, "bounds": "flush",
  "resolve": {"scale": {"y": "independent"}},
  "spec": {
    "width": 110, "height": 86,
    "encoding": {
      "x": {"field": "lr", "type": "quantitative", "title": null,
            "scale": {"type": "log", "base": 2, "domain": @XDOMAIN@, "nice": false},
            "axis": {"values": @XTICKS@, "format": "~g", "labelFontSize": 9, "labelOverlap": true, "grid": false}},
      "y": {"field": "loss", "type": "quantitative", "title": null, "scale": {"zero": false, "padding": 7},
            "axis": {"tickCount": 3, "labelFontSize": 9, "format": "~g"}},
      "color": {"field": "model", "type": "nominal", "scale": @COLORS@, "legend": null}
    },
    "layer": [
      {"transform": [{"filter": "datum.part === 'parabola'"}],
       "mark": {"type": "line", "strokeWidth": 1.4, "opacity": 0.7, "clip": true},
       "encoding": {"detail": {"field": "cell"}}},
      {"name": "vertex", "transform": [{"filter": "datum.part === 'vertex'"}],
       "mark": {"type": "point", "shape": "M-1,-1L1,1M-1,1L1,-1", "size": 45, "strokeWidth": 1.8, "opacity": 1},
       "encoding": {"color": {"value": {"expr": "ink"}},
                    "tooltip": [{"field": "cell", "title": "vertex of"}, {"field": "lr", "title": "learning rate", "format": ".4g"}, {"field": "loss", "title": "loss, nats", "format": ".5g"}]}},
      {"name": "trial", "transform": [{"filter": "datum.part === 'trial'"}],
       "mark": {"type": "point", "shape": "circle", "size": 34, "strokeWidth": 1.6, "opacity": 1},
       "encoding": {"fill": {"condition": {"test": "datum.other_seed", "value": "transparent"}, "field": "model", "type": "nominal", "scale": @COLORS@, "legend": null},
                    "tooltip": [{"field": "cell", "title": "cell"}, {"field": "lr", "title": "learning rate", "format": ".4g"}, {"field": "loss", "title": "loss, nats", "format": ".5g"}, {"field": "run", "title": "run"}]}},
      {"name": "diverged", "transform": [{"filter": "datum.part === 'diverged'"}],
       "mark": {"type": "text", "text": "×", "fontSize": 15, "fontWeight": "bold", "baseline": "top"},
       "encoding": {"y": {"value": 0}, "color": {"value": {"expr": "ink"}},
                    "tooltip": [{"field": "cell", "title": "diverged"}, {"field": "lr", "title": "learning rate", "format": ".4g"}, {"field": "run", "title": "run"}]}}
    ]
  }
})vl";

// The side on which no neighbour of the best was tried.
std::string open_side(const CellRow& c) {
  if (!c.edge) return "";
  return c.bracket == "low" ? "up" : c.bracket == "high" ? "down" : "both";
}

void add_rates(const FigureInput& in, Figure& figure) {
  for (const CellRow& c : in.conclusions.cells) {
    if (std::isnan(c.lr_best)) continue;
    const bool low = c.bracket == "low" || c.bracket == "both";
    const bool high = c.bracket == "high" || c.bracket == "both";
    figure.add("cell", {{"cell", c.cell},
                        {"model", c.model},
                        {"epochs", c.epochs},
                        {"lr", c.lr_best},
                        {"lr_vertex", finite_json(c.lr_vertex)},
                        {"below", low ? c.lr_best / in.lr_factor : c.lr_best},
                        {"above", high ? c.lr_best * in.lr_factor : c.lr_best},
                        {"bracket", c.bracket},
                        {"certified", c.certified},
                        {"edge", open_side(c)},
                        {"trials", c.trials},
                        {"note", c.reason},
                        {"run", in.run(c.cell)}});
  }
}

// The fitted rate of every model at its epoch budgets.
void add_trend(const FigureInput& in, Figure& figure) {
  const auto& rate = in.conclusions.rate;
  if (!rate) return;
  for (const CellRow& c : in.conclusions.cells)
    if (!std::isnan(c.lr_best))
      figure.add("trend", {{"cell", c.cell},
                           {"model", c.model},
                           {"epochs", c.epochs},
                           {"lr", std::exp(rate->i + rate->p * std::log(c.params) +
                                           rate->q * std::log(c.epochs))}});
}

// Rates of the search's grid between two rates.
std::vector<double> grid_rates(double some, double factor, double low, double high) {
  std::vector<double> rates;
  while (some > low * 1.0001) some /= factor;
  for (; some <= high * 1.0001; some *= factor) rates.push_back(some);
  return rates;
}

std::vector<double> epochs_of(const std::vector<CellRow>& cells) {
  std::vector<double> epochs;
  for (const CellRow& c : cells) epochs.push_back(c.epochs);
  std::sort(epochs.begin(), epochs.end());
  epochs.erase(std::unique(epochs.begin(), epochs.end()), epochs.end());
  return epochs;
}

std::string rate_reading(const FigureInput& in) {
  const auto& rate = in.conclusions.rate;
  if (!rate)
    return "The best of the rates that were tried in every cell, and how far its neighbours were "
           "tried.";
  const auto word = [](double v, const std::optional<Bounds>& b) {
    if (b && b->low <= 0 && b->high >= 0) return "does not clearly change";
    return v < 0 ? "falls" : "rises";
  };
  return fmt::format(
      "The best rate {} with epochs (exponent {}) and {} with size (exponent {}); the lines are "
      "this trend.",
      word(rate->q, rate->q_interval), interval_text(rate->q, rate->q_interval),
      word(rate->p, rate->p_interval), interval_text(rate->p, rate->p_interval));
}

void draw_rates(const FigureInput& in, Figure& figure) {
  LogRange x, y;
  double some = 0;
  for (const CellRow& c : in.conclusions.cells) {
    if (std::isnan(c.lr_best)) continue;
    some = c.lr_best;
    x.include(c.epochs);
    y.include(c.lr_best / in.lr_factor);
    y.include(c.lr_best * in.lr_factor);
  }
  const std::vector<double> rates = grid_rates(some, in.lr_factor, y.low, y.high);
  const std::vector<std::string> models = models_of(in.conclusions.cells);
  FigureValues values = model_values({in});
  values.emplace_back("PLACE",
                      fmt::format("datum.epochs * pow(2, {:.4g} * (indexof({}, datum.model) - {}))",
                                  std::min(0.13, 0.8 / static_cast<double>(models.size())),
                                  Json(models).dump(), static_cast<double>(models.size() - 1) / 2));
  values.emplace_back("XDOMAIN", Json::array({x.low / 1.4, x.high * 1.4}));
  values.emplace_back("YDOMAIN", Json::array({y.low / 1.25, y.high * 1.25}));
  values.emplace_back("XTICKS", Json(epochs_of(in.conclusions.cells)));
  values.emplace_back("YTICKS", Json(rates));
  draw(figure, kRateSpec, {"cell", "trend"}, values);
}

// loss = loss at the vertex + a (log_factor(lr / vertex))^2, a grid step around the best rate.
void add_parabola(const CellRow& c, double factor, Figure& figure) {
  if (!(c.curvature > 0) || std::isnan(c.lr_vertex) || std::isnan(c.loss_vertex)) return;
  constexpr int kSteps = 16;
  for (int k = 0; k <= kSteps; ++k) {
    const double lr = c.lr_best * std::pow(factor, 2.0 * k / kSteps - 1);
    const double octaves = std::log(lr / c.lr_vertex) / std::log(factor);
    figure.add("curve", {{"part", "parabola"},
                         {"cell", c.cell},
                         {"model", c.model},
                         {"epochs", c.epochs},
                         {"lr", lr},
                         {"loss", c.loss_vertex + c.curvature * octaves * octaves}});
  }
  figure.add("curve", {{"part", "vertex"},
                       {"cell", c.cell},
                       {"model", c.model},
                       {"epochs", c.epochs},
                       {"lr", c.lr_vertex},
                       {"loss", c.loss_vertex}});
}

void add_curve(const FigureInput& in, const CellRow& c, Figure& figure) {
  for (const RateTrial& t : in.trials)
    if (t.cell == c.cell)
      figure.add("curve", {{"part", std::isfinite(t.loss) ? "trial" : "diverged"},
                           {"cell", c.cell},
                           {"model", c.model},
                           {"epochs", c.epochs},
                           {"lr", t.lr},
                           {"loss", finite_json(t.loss)},
                           {"other_seed", t.other_seed},
                           {"run", t.run_id}});
  add_parabola(c, in.lr_factor, figure);
}

void draw_curves(const FigureInput& in, Figure& figure) {
  LogRange x;
  for (const RateTrial& t : in.trials) x.include(t.lr);
  const double some = x.low;
  const std::vector<double> rates = grid_rates(some, in.lr_factor, x.low, x.high);
  const std::vector<std::string> models = models_of(in.conclusions.cells);
  std::vector<const CellRow*> order;
  for (const CellRow& c : in.conclusions.cells) order.push_back(&c);
  const auto rank = [&](const CellRow* c) {
    return std::pair(std::find(models.begin(), models.end(), c->model) - models.begin(), c->epochs);
  };
  std::sort(order.begin(), order.end(),
            [&](const CellRow* a, const CellRow* b) { return rank(a) < rank(b); });
  std::vector<std::string> names;
  for (const CellRow* c : order) names.push_back(c->cell);
  FigureValues values = model_values({in});
  values.emplace_back("CELLS", Json(names));
  values.emplace_back("COLUMNS", epochs_of(in.conclusions.cells).size());
  const double side = std::sqrt(in.lr_factor);
  values.emplace_back("XDOMAIN", Json::array({x.low / side, x.high * side}));
  values.emplace_back("XTICKS", Json(rates));
  draw(figure, kCurvesSpec, {"curve"}, values);
}

}  // namespace

Figure rate_figure(const FigureInput& in) {
  Figure figure;
  figure.name = "figure3-rate";
  figure.title = "Best learning rate against epochs";
  add_rates(in, figure);
  if (figure.rows.empty()) {
    figure.waits = "The best learning rate against epochs waits for the first cell with a loss.";
    return figure;
  }
  add_trend(in, figure);
  figure.reading = rate_reading(in);
  figure.caption =
      "Filled: certified, both neighbouring rates were tried and found worse; hollow: not. Bars: "
      "the neighbours that were tried. Arrows: the search met a limit on that side. Horizontal "
      "lines: the rates of the search. Models stand side by side around their number of epochs.";
  draw_rates(in, figure);
  return figure;
}

Figure curves_figure(const FigureInput& in) {
  Figure figure;
  figure.name = "figure4-curves";
  figure.title = "Learning-rate curves";
  for (const CellRow& c : in.conclusions.cells) add_curve(in, c, figure);
  if (figure.rows.empty()) {
    figure.waits = "The learning-rate curves wait for the first trial that ends.";
    return figure;
  }
  figure.reading =
      "Held-out loss against learning rate in every cell: the best rate is where the parabola "
      "through the trials has its vertex.";
  figure.caption =
      "Each field is a cell with its own axis of the loss, in nats; across: learning rate. Dots: "
      "trials, hollow with another seed. Curve and cross: the parabola and its vertex, which fits "
      "use as the loss of the cell. x at the top: diverged.";
  draw_curves(in, figure);
  return figure;
}

}  // namespace nfscale
