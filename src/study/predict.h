// Predictions that are sealed before their run: what was predicted, from what, and when; scored
// when the run is through, and never rewritten. A target is a cell outside of every fit.
//
// A seal is the SHA-256 of the prediction's canonical JSON, so that anybody can check it with
// `jq -j '.[0].canonical' predictions.json | sha256sum`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "study/conclude.h"
#include "study/store.h"
#include "study/trials.h"

namespace nfscale {

struct Prediction {
  std::string target;  // the cell
  int number = 1;      // of this target's predictions
  // "prediction": sealed before the target's first record; "hindsight": made after it, also of
  // cells held out for scoring; "projection": not run yet, nothing is sealed.
  std::string kind;
  // Of the target's trial; config_hash decides whether it is the recipe of today.
  std::string config_hash, run_id;
  std::string law, input_hash;     // input_hash: see input_hash_of
  std::vector<std::string> cells;  // that it was made from
  double loss = 0, naive = 0;      // nats; naive may be NaN
  Bounds interval50, interval95;
  double device_hours = 0, flops = 0;  // of the run; device_hours may be NaN
  double lr_guess = 0;
  std::string sealed_at, version;  // time, UTC
  std::string seal;                // SHA-256 of the canonical JSON, hexadecimal
  std::string canonical;           // what is sealed
  bool seal_holds = true;
  // Once the run is through: its loss, ln(predicted) - ln(observed), the same of the naive one.
  std::optional<double> observed, error, naive_error;
  std::optional<bool> inside50, inside95;
};

// Sorted keys, no white space, numbers as %.17g, null for what is not finite.
std::string canonical_text(const Json& json);

// conclude_families() with the options and the targets of a study; cells held out for scoring enter
// no fit and are forecast like the targets. Marks the cells.
StudyConclusions conclude_study(const Study& study, const Grid& grid, const StudyView& view,
                                std::vector<CellRow>& cells, int draws);

// Of the rows of cells.csv that fits may use, before a law has marked them: what is sealed does not
// depend on how a later version draws its conclusions. Also that of fits.json.
uint64_t input_hash_of(const Study& study, const Grid& grid, const StudyView& view);

// Targets (places in Grid::targets) without a prediction from these cells for today's recipe.
std::vector<size_t> due_targets(const Study& study, const Grid& grid, const StoreState& store,
                                uint64_t input_hash);

// Those of the targets that have a forecast, ready to be sealed.
std::vector<Prediction> new_predictions(const Study& study, const Grid& grid, const StudyView& view,
                                        const StoreState& store,
                                        const StudyConclusions& conclusions,
                                        const std::vector<size_t>& targets, const std::string& now);
Json sealed_record(const Prediction& prediction);

// What was sealed, in order, with the outcomes that the run directories know.
std::vector<Prediction> sealed_predictions(const Study& study, const StoreState& store);
// These, then forecasts of targets that are not sealed yet, then of the cells held out.
std::vector<Prediction> predictions_of(const Study& study, const Grid& grid, const StudyView& view,
                                       const StoreState& store, const std::vector<CellRow>& cells,
                                       const StudyConclusions& conclusions);

Json predictions_json(const std::vector<Prediction>& predictions);  // predictions.json
// "nfnet_f0@16ep: held-out loss 2.3102 [2.2811, 2.3397] (95 %), ...": one line.
std::string prediction_line(const Prediction& prediction);

}  // namespace nfscale
