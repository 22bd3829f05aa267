// Predictions that are sealed before their run: what was predicted, from what, and when; scored
// when the run is through, and never rewritten. A target is a cell outside of every fit.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "study/conclude.h"
#include "study/store.h"

namespace nfscale {

struct Prediction {
  std::string target;  // the cell
  int number = 1;      // of this target's predictions
  // "prediction": sealed before the target's first record; "hindsight": after it; "projection": no
  // run is planned, nothing is sealed.
  std::string kind;
  std::string config_hash, law, input_hash;  // of the target's trial; of cells.csv
  std::vector<std::string> cells;            // that it was made from
  double loss = 0, naive = 0;                // nats; naive may be NaN
  Bounds interval50, interval95;
  double device_hours = 0, lr_guess = 0;
  std::string sealed_at, version;  // time, UTC
  std::string seal;                // SHA-256 of the canonical JSON, hexadecimal
  bool seal_holds = true;
  // Once the run is through: its loss, ln(predicted) - ln(observed), the same of the naive one.
  std::optional<double> observed, error, naive_error;
  std::optional<bool> inside50, inside95;
};

}  // namespace nfscale
