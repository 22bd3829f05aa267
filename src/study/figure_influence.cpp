// Figure 6: how far every cell lies above the law, and what the law would be without it.
#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "study/figure.h"

namespace nfscale {
namespace {

constexpr const char* kSpec = R"vl({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "description": @TITLE@,
  "usermeta": {"columns": 2, "side": 110, "below": 760, "narrow": {"columns": 1}},
  "params": @PARAMS@,
  "datasets": @DATASETS@,
  "columns": 2, "spacing": 30,
  "resolve": {"scale": {"color": "independent", "shape": "independent"}},
  "concat": [
    {"width": 380, "height": {"step": 38},
     "data": {"name": "excess"},
     "encoding": {
       "x": {"field": "epochs", "type": "ordinal", "title": "epochs", "axis": {"labelAngle": 0, "format": "~g"}},
       "y": {"field": "model", "type": "ordinal", "sort": @LARGEST_FIRST@, "title": null}},
     "layer": [
       {"name": "excess", "mark": {"type": "rect", "stroke": {"expr": "ink"}, "strokeOpacity": 0.15},
        "encoding": {
          "color": {"field": "excess_percent", "type": "quantitative", "title": "loss above the law, %",
                    "scale": {"scheme": "blueorange", "domain": @EXCESS@, "domainMid": 0, "clamp": true},
                    "legend": {"orient": "top", "gradientLength": 160, "tickCount": 5}},
          "tooltip": [{"field": "cell", "title": "cell"}, {"field": "excess_percent", "title": "above the law, %", "format": ".3g"},
            {"field": "z", "title": "from the other cells, robust deviations", "format": ".2f"},
            {"field": "flagged", "title": "flagged"}, {"field": "note", "title": "note"}, {"field": "run", "title": "run"}]}},
       {"transform": [{"calculate": "format(datum.excess_percent, '.1f') + (datum.flagged ? ' !' : '')", "as": "label"}],
        "mark": {"type": "text", "fontSize": 11},
        "encoding": {"text": {"field": "label"},
          "color": {"condition": {"test": "abs(datum.excess_percent) > @DARK@", "value": "#ffffff"}, "value": "#111111"}}}
     ]},
    {"width": 380, "height": 260,
     "encoding": {
       "x": {"type": "quantitative", "title": "exponent without the cell", "scale": {"zero": false, "nice": false, "domain": @EXPONENTS@}, "axis": {"tickCount": 4, "format": @EXPONENT_FORMAT@, "labelOverlap": true, "labelSeparation": 6}},
       "y": {"type": "quantitative", "title": "rate ratio without the cell", "scale": {"zero": false, "nice": false, "domain": @RATIOS@}, "axis": {"tickCount": 5, "format": @RATIO_FORMAT@}}},
     "layer": [
       {"data": {"name": "interval"},
        "mark": {"type": "rect", "opacity": 0.12, "color": {"expr": "ink"}, "clip": true},
        "encoding": {"x": {"field": "exponent_low"}, "x2": {"field": "exponent_high"}, "y": {"field": "ratio_low"}, "y2": {"field": "ratio_high"}}},
       {"name": "without", "data": {"name": "without"},
        "mark": {"type": "point", "size": 60, "strokeWidth": 1.8, "opacity": 0.9},
        "encoding": {"x": {"field": "exponent"}, "y": {"field": "ratio"}, "color": @COLOR@, "shape": @SHAPE@,
          "tooltip": [{"field": "cell", "title": "without"}, {"field": "exponent", "title": "exponent", "format": ".5f"}, {"field": "ratio", "title": "ratio", "format": ".3f"},
            {"field": "z", "title": "from the other cells, robust deviations", "format": ".2f"}, {"field": "run", "title": "run"}]}},
       {"data": {"name": "all"},
        "mark": {"type": "point", "shape": "M-1,-1L1,1M-1,1L1,-1", "size": 120, "strokeWidth": 2.2, "opacity": 1, "color": {"expr": "ink"}},
        "encoding": {"x": {"field": "exponent"}, "y": {"field": "ratio"}}},
       {"data": {"name": "without"}, "transform": [{"filter": "datum.label !== ''"}],
        "mark": {"type": "text", "fontSize": 10, "dy": -11, "stroke": {"expr": "page"}, "strokeWidth": 3},
        "encoding": {"x": {"field": "exponent"}, "y": {"field": "ratio"}, "text": {"field": "label"}}},
       {"data": {"name": "without"}, "transform": [{"filter": "datum.label !== ''"}],
        "mark": {"type": "text", "fontSize": 10, "dy": -11, "color": {"expr": "ink"}},
        "encoding": {"x": {"field": "exponent"}, "y": {"field": "ratio"}, "text": {"field": "label"}}}
     ]}
  ]
})vl";

const CellInfluence* influence_of(const FigureInput& in, const std::string& cell) {
  for (const CellInfluence& i : in.conclusions.influence)
    if (i.cell == cell) return &i;
  return nullptr;
}

void add_excess(const FigureInput& in, Figure& figure) {
  for (const CellRow& c : in.conclusions.cells) {
    if (std::isnan(c.excess)) continue;
    const CellInfluence* i = influence_of(in, c.cell);
    figure.add("excess", {{"cell", c.cell},
                          {"model", c.model},
                          {"epochs", c.epochs},
                          {"excess", c.excess},
                          {"excess_percent", 100 * std::expm1(c.excess)},
                          {"z", i ? finite_json(i->z) : Json()},
                          {"flagged", c.flagged},
                          {"note", i && !i->why.empty() ? i->why : c.reason},
                          {"run", in.run(c.cell)}});
  }
}

// The three cells that move the law most bear their names.
void add_without(const FigureInput& in, const Tangent& law, Figure& figure) {
  const double ratio = law.rates.ratio();
  const auto shift = [&](const CellInfluence& i) {
    return std::abs(i.exponent_without / law.exponent - 1) + std::abs(i.ratio_without / ratio - 1);
  };
  std::vector<double> shifts;
  for (const CellInfluence& i : in.conclusions.influence)
    if (std::isfinite(shift(i))) shifts.push_back(shift(i));
  std::sort(shifts.rbegin(), shifts.rend());
  for (const CellRow& c : in.conclusions.cells) {
    const CellInfluence* i = influence_of(in, c.cell);
    if (!i || !std::isfinite(shift(*i))) continue;
    const bool named = shift(*i) > 0 && shift(*i) >= shifts[std::min<size_t>(2, shifts.size() - 1)];
    figure.add("without", {{"cell", c.cell},
                           {"model", c.model},
                           {"epochs", c.epochs},
                           {"exponent", i->exponent_without},
                           {"ratio", i->ratio_without},
                           {"z", finite_json(i->z)},
                           {"label", named ? c.cell : ""},
                           {"run", in.run(c.cell)}});
  }
}

void add_law(const LawConclusion& law, Figure& figure) {
  figure.add("all", {{"exponent", law.law->exponent}, {"ratio", law.law->rates.ratio()}});
  if (!law.exponent || !law.ratio) return;
  for (const double end : {law.exponent->low, law.exponent->high, law.ratio->low, law.ratio->high})
    if (!std::isfinite(end)) return;
  figure.add("interval", {{"exponent_low", law.exponent->low},
                          {"exponent_high", law.exponent->high},
                          {"ratio_low", law.ratio->low},
                          {"ratio_high", law.ratio->high}});
}

// Ends of an axis that holds what the law is without each cell.
Json shift_domain(const Figure& figure, const char* key) {
  double low = INFINITY, high = -INFINITY;
  for (const FigureRow& row : figure.rows) {
    if (row.kind != "without" && row.kind != "all") continue;
    low = std::min(low, row.values.at(key).as_double());
    high = std::max(high, row.values.at(key).as_double());
  }
  if (!(high >= low)) return Json::array({0, 1});
  const double room = std::max(0.18 * (high - low), 1e-3 * std::abs(high));
  return Json::array({low - room, high + room});
}

// As many decimals as tell the ticks of a range apart.
std::string tick_format(const Json& domain) {
  const double range = domain.items()[1].as_double() - domain.items()[0].as_double();
  return fmt::format(".{:.0f}f", std::max(0.0, std::ceil(-std::log10(range / 5))));
}

// Without a law that touches there is the first field only.
void draw_influence(const FigureInput& in, bool with_law, Figure& figure) {
  double most = 0.5;
  for (const FigureRow& row : figure.rows)
    if (row.kind == "excess")
      most = std::max(most, std::abs(row.values.at("excess_percent").as_double()));
  std::vector<std::string> models = models_of(in.conclusions.cells);
  FigureValues values = model_values({in}, 0.5);
  const Json exponents = shift_domain(figure, "exponent"), ratios = shift_domain(figure, "ratio");
  values.emplace_back("EXPONENTS", exponents);
  values.emplace_back("RATIOS", ratios);
  values.emplace_back("EXPONENT_FORMAT", tick_format(exponents));
  values.emplace_back("RATIO_FORMAT", tick_format(ratios));
  std::reverse(models.begin(), models.end());
  values.emplace_back("LARGEST_FIRST", Json(models));
  values.emplace_back("EXCESS", Json::array({-most, most}));
  values.emplace_back("DARK", 0.6 * most);
  draw(figure, kSpec, {"excess", "without", "all", "interval"}, values);
  if (with_law) return;
  figure.spec.set("concat", Json::array({figure.spec.at("concat").items()[0]}));
}

}  // namespace

Figure influence_figure(const FigureInput& in) {
  Figure figure;
  figure.name = "figure6-influence";
  figure.title = "Residuals and influence";
  add_excess(in, figure);
  if (figure.rows.empty()) {
    figure.waits = waits_for_law(in, "Residuals and influence of the cells wait for a law");
    return figure;
  }
  const LawConclusion& law = in.conclusions.law;
  const bool with_law = law.method == "tangent" && law.law;
  if (with_law) {
    add_without(in, *law.law, figure);
    add_law(law, figure);
  }
  figure.reading =
      "Cells on the law are near 0 %; a cell that alone moves the law is a reason to look at it.";
  figure.caption = "Colours: loss above the law in percent; an exclamation mark: flagged.";
  if (with_law)
    figure.caption +=
        " Marks: exponent and ratio of the rates if one cell is left out; the cross is the law of "
        "all cells, grey what lies within its 95 % intervals; the cells that move it most are "
        "named.";
  draw_influence(in, with_law, figure);
  return figure;
}

}  // namespace nfscale
