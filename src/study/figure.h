// Figures as Vega-Lite specifications with their data inside, and the same data as tables.
#pragma once

#include <string>
#include <vector>

#include "base/csv.h"
#include "base/json.h"
#include "study/fit.h"
#include "study/table.h"

namespace nfscale {

struct Figure {
  std::string name;  // "figure2-loss": of figures/NAME.vl.json and NAME.csv
  std::string title;
  std::string reading;  // one sentence: what to see
  Json spec;
  Csv data;
};

// Figure 2 of Smith et al.: held-out loss against compute, a curve for every model over its epoch
// budgets, the law with its band, dashed where nothing was measured.
Figure loss_figure(const std::vector<CellRow>& cells, const FrontierFit& fit,
                   uint64_t heldout_examples);

// Figure 3: the best learning rate against epochs, with the bracket of rates that were tried.
Figure rate_figure(const std::vector<CellRow>& cells, double lr_factor);

// Places for about `count` ticks of a logarithmic axis: 1, 2, 5 of each decade, round numbers where
// less than a decade is covered.
std::vector<double> log_ticks(double low, double high, int count);

}  // namespace nfscale
