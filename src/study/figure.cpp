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

Json scale_of(const std::vector<std::string>& domain, const std::vector<std::string>& all) {
  std::vector<std::string> range;
  for (size_t i = 0; i < domain.size(); ++i) range.push_back(all[i % all.size()]);
  return Json::object({{"domain", Json(domain)}, {"range", Json(range)}});
}

Json maybe(double v) {
  return std::isnan(v) ? Json() : Json(v);
}

Json range_of(double low, double high) {
  return Json::array({low, high});
}

// A specification as text, with @NAME@ replaced by JSON.
Json fill(std::string text, const std::vector<std::pair<std::string, Json>>& values) {
  for (const auto& [name, value] : values) {
    const std::string token = "@" + name + "@", json = value.dump();
    for (size_t at = text.find(token); at != std::string::npos; at = text.find(token, at))
      text.replace(at, token.size(), json), at += json.size();
  }
  return parse_json(text, "figure");
}

constexpr const char* kLossSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "width": "container", "height": 420,
  "params": [{"name": "ink", "value": "#333333"}],
  "datasets": {"cells": @CELLS@, "law": @LAW@, "touch": @TOUCH@},
  "encoding": {
    "x": {"field": "compute", "type": "quantitative", "title": @XTITLE@,
          "scale": {"type": "log", "domain": @XDOMAIN@, "nice": false},
          "axis": {"values": @XTICKS@, "format": "~g", "labelOverlap": true}},
    "y": {"type": "quantitative", "title": @YTITLE@,
          "scale": {"type": "log", "domain": @YDOMAIN@, "nice": false},
          "axis": {"values": @YTICKS@, "format": "~g"}}
  },
  "layer": [
    {"data": {"name": "law"},
     "mark": {"type": "area", "opacity": 0.18, "color": {"expr": "ink"}, "clip": true},
     "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}}},
    {"data": {"name": "law"}, "transform": [{"filter": "datum.measured"}],
     "mark": {"type": "line", "color": {"expr": "ink"}, "strokeWidth": 2, "clip": true},
     "encoding": {"y": {"field": "law"}}},
    {"data": {"name": "law"}, "transform": [{"filter": "datum.before"}],
     "mark": {"type": "line", "color": {"expr": "ink"}, "strokeWidth": 2, "strokeDash": [6, 5], "clip": true},
     "encoding": {"y": {"field": "law"}}},
    {"data": {"name": "law"}, "transform": [{"filter": "datum.after"}],
     "mark": {"type": "line", "color": {"expr": "ink"}, "strokeWidth": 2, "strokeDash": [6, 5], "clip": true},
     "encoding": {"y": {"field": "law"}}},
    {"data": {"name": "cells"},
     "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.8},
     "encoding": {"y": {"field": "loss"}, "color": {"field": "model", "type": "nominal", "scale": @COLORS@, "title": "model"}}},
    {"data": {"name": "cells"},
     "mark": {"type": "point", "size": 70, "strokeWidth": 2},
     "encoding": {
       "y": {"field": "loss"},
       "color": {"field": "model", "type": "nominal", "scale": @COLORS@, "title": "model",
                 "legend": {"orient": "top", "columns": 3, "symbolOpacity": 1, "symbolStrokeWidth": 2}},
       "shape": {"field": "model", "type": "nominal", "scale": @SHAPES@, "title": "model"},
       "fill": {"condition": {"test": "datum.flagged", "value": "transparent"},
                "field": "model", "type": "nominal", "scale": @COLORS@, "title": "model"},
       "tooltip": [
         {"field": "cell", "title": "cell"}, {"field": "loss", "title": "loss (nats)", "format": ".5g"},
         {"field": "loss_vertex", "title": "loss at the best rate", "format": ".5g"},
         {"field": "compute", "title": @XTITLE@, "format": ".4g"},
         {"field": "lr", "title": "learning rate", "format": ".4g"},
         {"field": "trials", "title": "trials"}, {"field": "certified", "title": "certified"},
         {"field": "excess", "title": "above the law, ln", "format": ".3g"}, {"field": "reason", "title": "note"}]}},
    {"data": {"name": "cells"},
     "mark": {"type": "text", "dx": 9, "dy": -7, "fontSize": 10, "align": "left"},
     "encoding": {"y": {"field": "loss"}, "text": {"field": "epochs", "type": "quantitative", "format": "~g"},
                  "color": {"field": "model", "type": "nominal", "scale": @COLORS@, "title": "model"}}},
    {"data": {"name": "touch"},
     "mark": {"type": "point", "shape": "M-1,-1L1,1M-1,1L1,-1", "size": 90, "strokeWidth": 2, "color": {"expr": "ink"}},
     "encoding": {"y": {"field": "loss"},
       "tooltip": [{"field": "model", "title": "law touches"}, {"field": "epochs", "title": "best epochs", "format": ".3g"},
                   {"field": "compute", "title": @XTITLE@, "format": ".4g"}, {"field": "loss", "format": ".5g"}]}}
  ]
})vl";

constexpr const char* kRateSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "width": "container", "height": 360,
  "params": [{"name": "ink", "value": "#333333"}],
  "datasets": {"cells": @CELLS@},
  "data": {"name": "cells"},
  "encoding": {
    "x": {"field": "x", "type": "quantitative", "title": "epochs",
          "scale": {"type": "log", "base": 2, "domain": @XDOMAIN@, "nice": false},
          "axis": {"values": @XTICKS@, "format": "~g", "grid": false}},
    "y": {"type": "quantitative", "title": "best learning rate",
          "scale": {"type": "log", "base": 2, "domain": @YDOMAIN@, "nice": false},
          "axis": {"values": @YTICKS@, "format": "~g", "grid": true}},
    "color": {"field": "model", "type": "nominal", "scale": @COLORS@, "title": "model",
              "legend": {"orient": "top", "columns": 3, "symbolOpacity": 1, "symbolStrokeWidth": 2}}
  },
  "layer": [
    {"mark": {"type": "rule", "strokeWidth": 5, "opacity": 0.25},
     "encoding": {"y": {"field": "below"}, "y2": {"field": "above"}}},
    {"mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.7},
     "encoding": {"y": {"field": "lr_vertex"}}},
    {"mark": {"type": "point", "size": 90, "strokeWidth": 2},
     "encoding": {
       "y": {"field": "lr"},
       "shape": {"field": "model", "type": "nominal", "scale": @SHAPES@, "title": "model"},
       "fill": {"condition": {"test": "!datum.certified", "value": "transparent"},
                "field": "model", "type": "nominal", "scale": @COLORS@, "title": "model"},
       "tooltip": [
         {"field": "cell", "title": "cell"}, {"field": "lr", "title": "best rate tried", "format": ".4g"},
         {"field": "lr_vertex", "title": "estimated best rate", "format": ".4g"},
         {"field": "bracket", "title": "neighbours tried"}, {"field": "certified", "title": "certified"},
         {"field": "trials", "title": "trials"}, {"field": "reason", "title": "note"}]}},
    {"transform": [{"filter": "datum.edge"}],
     "mark": {"type": "text", "dy": 16, "fontSize": 14, "text": "\u2195"},
     "encoding": {"y": {"field": "lr"}}}
  ]
})vl";

}  // namespace

std::vector<double> log_ticks(double low, double high, int count) {
  std::vector<double> ticks;
  if (!(low > 0) || !(high > low)) return {low};
  const double decades = std::log10(high / low);
  if (decades >= 1) {
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
  const double raw = (high - low) / count, unit = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * unit;
  for (const double m : {5.0, 2.0, 1.0})
    if (m * unit >= raw) step = m * unit;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); ++k)
    ticks.push_back(k * step);
  // Sums of decimal fractions, as they are written.
  for (double& t : ticks) t = parse_double(fmt::format("{:.12g}", t)).value_or(t);
  return ticks;
}

Figure loss_figure(const std::vector<CellRow>& cells, const FrontierFit& fit,
                   uint64_t heldout_examples) {
  Figure figure;
  figure.name = "figure2-loss";
  figure.title = "Held-out loss against compute";
  const bool hours = fit.axis == "device hours";
  const std::vector<std::string> models = models_of(cells);
  figure.data = {figure.name + ".csv",
                 {"kind", "model", "epochs", "compute", "loss", "loss_vertex", "low", "high",
                  "excess", "certified", "flagged"},
                 {}};
  Json points = Json::array(), law = Json::array(), touch = Json::array();
  double x0 = INFINITY, x1 = 0, y0 = INFINITY, y1 = 0;
  const auto include = [&](double x, double y) {
    x0 = std::min(x0, x);
    x1 = std::max(x1, x);
    y0 = std::min(y0, y);
    y1 = std::max(y1, y);
  };
  for (const CellRow& c : cells) {
    const double compute = hours ? c.device_hours : c.flops;
    if (std::isnan(c.loss) || !(compute > 0)) continue;
    include(compute, c.loss);
    points.push(Json::object({{"cell", c.cell},
                              {"model", c.model},
                              {"epochs", c.epochs},
                              {"compute", compute},
                              {"loss", c.loss},
                              {"loss_vertex", c.loss_vertex},
                              {"lr", c.lr_best},
                              {"trials", c.trials},
                              {"certified", c.certified},
                              {"flagged", c.flagged},
                              {"excess", maybe(c.excess)},
                              {"reason", c.reason}}));
    figure.data.rows.push_back({"cell", c.model, csv_number(c.epochs), csv_number(compute),
                                csv_number(c.loss), csv_number(c.loss_vertex), "", "",
                                csv_number(c.excess), c.certified ? "1" : "0",
                                c.flagged ? "1" : "0"});
  }
  for (size_t i = 0; i < fit.line.size(); ++i) {
    const double x = fit.compute[i];
    const bool band = i < fit.low.size();
    // Solid where the law was measured; the dashes begin at the neighbouring places.
    const bool measured = x >= fit.measured_low && x <= fit.measured_high;
    const bool before = x < fit.measured_low || (i > 0 && fit.compute[i - 1] < fit.measured_low);
    const bool after =
        x > fit.measured_high ||
        (i + 1 < fit.compute.size() && fit.compute[i + 1] > fit.measured_high && measured);
    include(x, fit.line[i]);
    law.push(Json::object({{"compute", x},
                           {"law", fit.line[i]},
                           {"low", band ? Json(fit.low[i]) : Json(fit.line[i])},
                           {"high", band ? Json(fit.high[i]) : Json(fit.line[i])},
                           {"measured", measured},
                           {"before", before},
                           {"after", after}}));
    figure.data.rows.push_back({"law", "", "", csv_number(x), csv_number(fit.line[i]), "",
                                band ? csv_number(fit.low[i]) : "",
                                band ? csv_number(fit.high[i]) : "", "", "", ""});
  }
  if (fit.method == "tangent")
    for (const TouchPoint& t : fit.law->touches) {
      touch.push(Json::object(
          {{"model", t.model}, {"compute", t.compute}, {"loss", t.loss}, {"epochs", t.epochs}}));
      figure.data.rows.push_back({"touch", t.model, csv_number(t.epochs), csv_number(t.compute),
                                  csv_number(t.loss), "", "", "", "", "", ""});
    }
  if (!(x1 > 0)) x0 = 1, x1 = 10, y0 = 1, y1 = 2;
  const double px = std::pow(x1 / x0 * 1.01, 0.05), py = std::pow(y1 / y0 * 1.01, 0.06);
  x0 /= px, x1 *= px, y0 /= py, y1 *= py;
  figure.spec = fill(
      kLossSpec, {{"TITLE", figure.title},
                  {"CELLS", points},
                  {"LAW", law},
                  {"TOUCH", touch},
                  {"XTITLE", hours ? "device hours" : "operations (6 x multiply-adds x images)"},
                  {"YTITLE", fmt::format("held-out loss, nats ({} images)", heldout_examples)},
                  {"XDOMAIN", range_of(x0, x1)},
                  {"YDOMAIN", range_of(y0, y1)},
                  {"XTICKS", Json(log_ticks(x0, x1, 8))},
                  {"YTICKS", Json(log_ticks(y0, y1, 7))},
                  {"COLORS", scale_of(models, kColors)},
                  {"SHAPES", scale_of(models, kShapes)}});
  figure.reading =
      fit.method == "tangent"
          ? "Each curve is one model trained for more and more epochs (the numbers beside the "
            "marks); the black line touches every curve once, and where it touches (crosses) is "
            "that model's best epoch budget. Dashed: outside of what was measured."
      : fit.method == "pareto"
          ? "Each curve is one model trained for more and more epochs (the numbers beside the "
            "marks); the black line runs through the cells that no cheaper cell beats."
          : "Each curve is one model trained for more and more epochs (the numbers beside the "
            "marks); there is no law yet.";
  return figure;
}

Figure rate_figure(const std::vector<CellRow>& cells, double factor) {
  Figure figure;
  figure.name = "figure3-rate";
  figure.title = "Best learning rate against epochs";
  const std::vector<std::string> models = models_of(cells);
  figure.data = {
      figure.name + ".csv",
      {"model", "epochs", "lr", "lr_vertex", "below", "above", "bracket", "certified", "edge"},
      {}};
  Json points = Json::array();
  double x0 = INFINITY, x1 = 0, y0 = INFINITY, y1 = 0;
  std::vector<double> epochs;
  for (const CellRow& c : cells) {
    if (std::isnan(c.lr_best)) continue;
    const bool low = c.bracket == "low" || c.bracket == "both";
    const bool high = c.bracket == "high" || c.bracket == "both";
    const double below = low ? c.lr_best / factor : c.lr_best;
    const double above = high ? c.lr_best * factor : c.lr_best;
    // Models side by side, so that equal rates do not hide each other.
    const auto place =
        static_cast<double>(std::find(models.begin(), models.end(), c.model) - models.begin()) -
        static_cast<double>(models.size() - 1) / 2;
    epochs.push_back(c.epochs);
    x0 = std::min(x0, c.epochs);
    x1 = std::max(x1, c.epochs);
    y0 = std::min(y0, c.lr_best / factor);
    y1 = std::max(y1, c.lr_best * factor);
    points.push(Json::object({{"cell", c.cell},
                              {"model", c.model},
                              {"epochs", c.epochs},
                              {"x", c.epochs * std::exp2(0.09 * place)},
                              {"lr", c.lr_best},
                              {"lr_vertex", c.lr_vertex},
                              {"below", below},
                              {"above", above},
                              {"bracket", c.bracket},
                              {"certified", c.certified},
                              {"edge", c.edge},
                              {"trials", c.trials},
                              {"reason", c.reason}}));
    figure.data.rows.push_back({c.model, csv_number(c.epochs), csv_number(c.lr_best),
                                csv_number(c.lr_vertex), csv_number(below), csv_number(above),
                                c.bracket, c.certified ? "1" : "0", c.edge ? "1" : "0"});
  }
  std::sort(epochs.begin(), epochs.end());
  epochs.erase(std::unique(epochs.begin(), epochs.end()), epochs.end());
  std::vector<double> rates;
  if (!epochs.empty()) {
    const auto best = std::find_if(cells.begin(), cells.end(),
                                   [](const CellRow& c) { return !std::isnan(c.lr_best); });
    double rate = best->lr_best;
    while (rate > y0 * 1.0001) rate /= factor;
    for (; rate <= y1 * 1.0001; rate *= factor) rates.push_back(rate);
  } else {
    x0 = 1, x1 = 2, y0 = 1, y1 = 2;
  }
  figure.spec = fill(kRateSpec, {{"TITLE", figure.title},
                                 {"CELLS", points},
                                 {"XDOMAIN", range_of(x0 / 1.4, x1 * 1.4)},
                                 {"YDOMAIN", range_of(y0 / 1.3, y1 * 1.3)},
                                 {"XTICKS", Json(epochs)},
                                 {"YTICKS", Json(rates)},
                                 {"COLORS", scale_of(models, kColors)},
                                 {"SHAPES", scale_of(models, kShapes)}});

  // Slope of ln rate over ln epochs, the same for all models.
  double xx = 0, xy = 0;
  for (const std::string& model : models) {
    double mx = 0, my = 0, n = 0;
    for (const CellRow& c : cells)
      if (c.model == model && !std::isnan(c.lr_vertex)) {
        mx += std::log2(c.epochs);
        my += std::log2(c.lr_vertex);
        ++n;
      }
    for (const CellRow& c : cells)
      if (c.model == model && !std::isnan(c.lr_vertex)) {
        xx += std::pow(std::log2(c.epochs) - mx / n, 2);
        xy += (std::log2(c.epochs) - mx / n) * (std::log2(c.lr_vertex) - my / n);
      }
  }
  const double slope = xx > 0 ? xy / xx : 0;
  figure.reading =
      "Filled marks have both neighbouring rates tried and found worse (certified), "
      "hollow ones do not; the bar is the range of rates that were tried next to the "
      "best, the line is the estimated best rate.";
  if (xx > 0)
    figure.reading +=
        fmt::format(" The best rate {} with epochs: by a factor {:.3g} for each doubling.",
                    slope < -0.05  ? "falls"
                    : slope > 0.05 ? "rises"
                                   : "hardly changes",
                    std::exp2(slope));
  return figure;
}

}  // namespace nfscale
