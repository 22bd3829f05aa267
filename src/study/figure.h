// Figures as Vega-Lite specifications with their data inside, and the same data as tables.
//
// A figure is a list of rows, each of a kind: the kinds are the datasets of its specification, and
// all rows together are its table, so that what is drawn and what is written cannot differ. A layer
// that draws one mark for each row of a kind bears the kind's name.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/csv.h"
#include "base/json.h"
#include "study/conclude.h"
#include "study/predict.h"
#include "study/table.h"

namespace nfscale {

struct FigureRow {
  std::string kind;
  Json values;  // an object; null is unknown
};

struct Figure {
  std::string name;  // "figure2-loss": of figures/NAME.vl.json and NAME.csv
  std::string title;
  std::string reading;  // one sentence: what to see
  std::string caption;  // what marks and numbers mean
  std::string waits;    // what it waits for; a figure that waits is not drawn
  std::vector<FigureRow> rows;
  Json spec;

  void add(std::string kind, std::initializer_list<std::pair<std::string, Json>> values);
};

// A trial as the curves of the learning rate show it.
struct RateTrial {
  std::string cell, run_id;
  double lr = 0;
  double loss = 0;  // nats; NaN where it diverged
  bool other_seed = false;
};

// All that figures are drawn from, of one family.
struct FigureInput {
  bool several = false;  // the study has other families too
  Conclusions conclusions;
  std::vector<Prediction> predictions;
  std::vector<RateTrial> trials;
  std::vector<FinetunedPoint> finetuned;
  std::map<std::string, std::string> best_runs;  // run id of a cell's best trial
  double lr_factor = 2;
  uint64_t heldout_examples = 0;
  std::string heldout;  // where they come from

  bool by_hours() const { return conclusions.axis == "device hours"; }
  double compute(const CellRow& c) const { return c.compute(by_hours()); }
  std::string run(const std::string& cell) const;  // empty where there is none
};

// Figures 1 to 3 are those of Smith et al., arXiv 2310.16764.
// The first two show all families in one drawing.
using FigureInputs = std::vector<FigureInput>;
Figure finetuned_figure(const FigureInputs& input);  // 1: top-1 error against pretraining compute
Figure loss_figure(const FigureInputs& input);       // 2: held-out loss against compute
Figure rate_figure(const FigureInput& input);        // 3: best learning rate against epochs
Figure curves_figure(const FigureInput& input);      // 4: loss against learning rate, by cell
Figure growth_figure(const FigureInput& input);      // 5: best size and epochs against compute
Figure influence_figure(const FigureInput& input);   // 6: excess and influence of every cell
Figure record_figure(const FigureInput& input);      // 7: predicted against observed

// In the order of their numbers, those of one family together where there are several.
std::vector<Figure> all_figures(const FigureInputs& input);

// The rows with the column "kind" first and every key that comes in one of them.
Csv figure_table(const Figure& figure);

// ---- for the files that make figures

// Models by size, as colours, shapes and legends list them.
std::vector<std::string> models_of(const std::vector<CellRow>& cells);

using FigureValues = std::vector<std::pair<std::string, Json>>;
// COLOR and SHAPE: encodings of the field "model", the same in every figure; COLORS, MODELS;
// PARAMS, which the page sets. The legend takes at most a `share` of the width.
// Where the study has several families, the models of one are shades of one colour.
// `more`: models that have no cell in the grid.
FigureValues model_values(const FigureInputs& families, double share = 1,
                          const std::vector<std::string>& more = {});
std::string family_color(const std::string& family);
// The text of a tick of compute: 110k.
constexpr const char* kComputeLabel =
    "datum.value >= 1000 && datum.value < 1e6 ? format(datum.value / 1000, '~g') + 'k' : "
    "format(datum.value, '~g')";
// Encodings of an axis of compute: COMPUTE.
FigureValues compute_values(const FigureInput& input, double low, double high);

// Fills `text`, a specification with @NAME@ for values and @DATASETS@ for the rows of `kinds`.
void draw(Figure& figure, std::string text, const std::vector<std::string>& kinds,
          const FigureValues& values);

// "WHAT waits for ..." with the cells that a law waits for, as far as they are known.
std::string waits_for_law(const FigureInput& input, const std::string& what);

// The ends of a logarithmic axis.
struct LogRange {
  double low = INFINITY, high = 0;
  void include(double v);        // passes over what has no logarithm
  void widen(double by);         // at both ends, by a share of its length, at least of 1 %
  double share(double v) const;  // 0 at the low end, 1 at the high one
  Json domain() const { return Json::array({low, high}); }
};

// Places for about `count` ticks of a logarithmic axis: 1, 2, 5 of each decade, round numbers where
// less than a decade is covered.
std::vector<double> log_ticks(double low, double high, int count);

// "0.04 [0.03, 0.05]"; an open end is said to be open.
std::string interval_text(double value, const std::optional<Bounds>& bounds);

}  // namespace nfscale
