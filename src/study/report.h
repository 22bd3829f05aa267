// The report of a study as one page that needs no network: verdicts first, then figures with the
// tables behind them. It also works while the study runs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "study/figure.h"
#include "study/plan.h"
#include "study/trials.h"

namespace nfscale {

// All that is made of a study at a moment.
struct StudyResults {
  std::vector<CellRow> cells;
  Csv trials, finetuned;
  StudyConclusions conclusions;
  std::vector<Prediction> predictions;  // may be empty
  std::vector<Figure> figures;          // by number, those that wait too
  std::vector<std::string> limits;      // what the study cannot say
  Json fits;                            // fits.json
};

// `more`: predictions that the study does not know of, to be shown beside its own.
StudyResults results_of(const Study& study, const Grid& grid, const StudyView& view,
                        const StoreState& store, const std::vector<Prediction>& more = {});

// Run id of the best trial, by cell.
std::map<std::string, std::string> best_runs(const Grid& grid, const StudyView& view);

// trials.csv, cells.csv, finetuned.csv where there is any, fits.json, predictions.json and figures/
// in the folder of the study.
void write_tables(const Study& study, const StudyResults& results);

std::string report_html(const Study& study, const Grid& grid, const StudyView& view,
                        const StudyResults& results);

// The verdicts and the numbers of every figure.
Json report_json(const Study& study, const StudyResults& results);
// [{"name", "state", "sentence", "cells"}], and a line for each.
Json verdicts_json(const StudyResults& results);
std::string verdicts_text(const StudyResults& results);

}  // namespace nfscale
