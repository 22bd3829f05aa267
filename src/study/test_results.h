// A whole study's results on the invented law, without a directory of runs, for tests.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "study/report.h"
#include "study/synthetic_law.h"

namespace nfscale {

struct Made {
  Study study;
  Grid grid;
  StudyView view;
  StudyResults results;
};

// The cells of the law on its anti-diagonals, for the study and for its search; the same again as
// ViTs where there are two families.
inline std::vector<SearchCell> add_cells(Made& m, size_t families) {
  std::vector<SearchCell> cells;
  for (size_t place = 0; place < 11 * 6 * families; ++place) {
    const size_t family = place % families;
    const int i = static_cast<int>(place / families % 6);
    const int j = static_cast<int>(place / families / 6) - i;
    if (j < 0 || j > 5) continue;
    const double epochs = law::kEpochs[static_cast<size_t>(j)];
    Cell c;
    c.family = family ? "vit" : "nfnet";
    c.model = std::string(family ? "vit_" : "") + law::model(i).name;
    c.name = fmt::format("{}@{:g}ep", c.model, epochs);
    c.epochs = epochs;
    c.lr_start = 1.6;
    c.size_rank = i;
    c.epoch_rank = j;
    c.params = static_cast<int64_t>(law::model(i).params);
    c.macs = static_cast<int64_t>(law::model(i).macs);
    c.flops = law::hours(i, epochs) * 1e18;
    m.grid.cells.push_back(c);
    cells.push_back({.i = i, .j = j, .cost = law::hours(i, epochs), .family = family});
    m.view.hours.push_back(cells.back().cost);
  }
  return cells;
}

inline void add_trial(Made& m, const Wanted& w, SearchCell& c) {
  const double lr = 1.6 * std::exp2(w.k);
  c.losses[w.k] =
      law::loss(c.i, law::kEpochs[static_cast<size_t>(c.j)], lr) * (c.family == 1 ? 1.02 : 1.0);
  TrialView t;
  t.trial.cell = w.cell;
  t.trial.lr = lr;
  t.trial.lr_index = w.k;
  t.trial.run_id = run_id(m.grid.cells[w.cell], lr, 0, "0123456789");
  t.state = std::isinf(c.losses[w.k]) ? "diverged" : "done";
  t.result = TrialResult();
  t.result->loss = c.losses[w.k];
  m.view.trials.push_back(t);
}

inline Made made(bool half, std::vector<Prediction> predictions = {}, size_t families = 1) {
  Made m;
  m.study.name = "t";
  m.study.question = "Is <this> escaped & \"safe\" </script>?";
  m.study.bootstrap = 100;
  m.grid.data = {.examples = 1000,
                 .heldout_examples = 100,
                 .classes = 1000,
                 .train_fingerprint = "a",
                 .heldout_fingerprint = "b"};
  m.view.by_hours = true;
  std::vector<SearchCell> cells = add_cells(m, families);
  for (int round = 0; round < (half ? 4 : 100); ++round) {
    m.view.search = search(SearchSettings(), cells);
    for (const Wanted& w : m.view.search.next) add_trial(m, w, cells[w.cell]);
  }
  m.view.search = search(SearchSettings(), cells);
  m.results = results_of(m.study, m.grid, m.view, StoreState(), std::move(predictions));
  return m;
}

// Of a run that is not in the grid.
inline Prediction sealed(std::optional<double> observed) {
  Prediction p;
  p.target = "nfnet_f7+@16ep";
  p.kind = "prediction";
  p.loss = 2.35;
  p.interval50 = {2.345, 2.355};
  p.interval95 = {2.33, 2.37};
  p.device_hours = 200000;
  p.seal = "5ea1";
  p.observed = observed;
  return p;
}

inline FigureInput input_of(const Made& m) {
  FigureInput in;
  in.conclusions = m.results.conclusions.families[0];
  in.best_runs = best_runs(m.grid, m.view);
  return in;
}

inline std::vector<FinetunedPoint> invented_finetuned() {
  std::vector<FinetunedPoint> points;
  for (int i = 0; i < 6; ++i)
    for (const double epochs : {1.0, 4.0}) {
      const std::string model = law::model(i).name;
      points.push_back({.cell = fmt::format("{}@{:g}ep", model, epochs),
                        .model = model,
                        .family = "nfnet",
                        .run_id = "run",
                        .init = "init",
                        .recipe = "recipe",
                        .compute = law::hours(i, epochs),
                        .device_hours = law::hours(i, epochs),
                        .flops = 1e15 * law::hours(i, epochs),
                        .error = 5 * law::best_loss(i, epochs) - 1.5,
                        .repeated_augmentation = i == 5});
    }
  return points;
}

}  // namespace nfscale
