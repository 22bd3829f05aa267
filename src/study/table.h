// The tables of a study: trials.csv, a row for every trial, cells.csv, a row for every cell with
// the estimate that laws are fitted to, and finetuned.csv, a row for every candidate and recipe.
// Full precision; the same study gives the same bytes.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/csv.h"
#include "study/trials.h"

namespace nfscale {

// A row of cells.csv; NaN is unknown.
struct CellRow {
  std::string cell, model, family;  // family: "nfnet", "vit", "" where a table does not say
  double params = 0, macs = 0, epochs = 0, examples = 0, flops = 0;
  double device_hours = std::nan("");  // steps times the typical step time
  int trials = 0;                      // that ended
  double lr_best = std::nan(""), lr_index = std::nan("");
  double loss = std::nan("");         // nats, as measured
  double loss_vertex = std::nan("");  // nats, of the parabola through the rates; for fits
  double lr_vertex = std::nan(""), curvature = std::nan("");
  std::string bracket = "none";  // both, low, high, none
  bool certified = false, edge = false, frontier = false;
  double sigma = std::nan("");  // nats
  // Once a law is fitted: ln loss - ln law, and whether that is at most 0.005.
  double excess = std::nan("");
  std::optional<bool> near;
  bool flagged = false;
  std::string reason;

  // On the axis of a study: device hours or operations.
  double compute(bool by_hours) const { return by_hours ? device_hours : flops; }
};

// Of a cell that nothing is known of yet.
CellRow empty_row(const Cell& cell);

// Targets of predictions have rows in trials.csv but none in cells.csv.
Csv trials_table(const Study& study, const Grid& grid, const StudyView& view,
                 const StoreState& store);
// `lr` is that of the pretraining.
Csv finetuned_table(const Grid& grid, const StudyView& view);
std::vector<CellRow> cell_rows(const Study& study, const Grid& grid, const StudyView& view);
Csv cells_table(const std::vector<CellRow>& rows);

// Cells of a table of trials, as trials.csv or a part of its columns (model, params, epochs, lr,
// status, heldout_loss, device_hours or flops; certificate_ok, seed where they are there). The loss
// at the vertex of the parabola through the three rates around the best. Exit::usage with line and
// column for values that cannot be.
std::vector<CellRow> cells_of_trials(const Csv& trials);

// The rows of a table of cells, as cells.csv or a part of its columns (model, params, epochs, loss,
// device_hours or flops; loss_vertex, lr_vertex, flagged where they are there).
std::vector<CellRow> cells_of_table(const Csv& cells);

}  // namespace nfscale
