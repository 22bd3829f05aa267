// How far a study is: a state for every cell, what is left, and where the hours went.
#pragma once

#include <ctime>
#include <string>
#include <vector>

#include "study/predict.h"
#include "study/trials.h"

namespace nfscale {

// "planned", "running", "searching", "done" or "failed", in the order of Grid::cells.
std::vector<std::string> cell_states(const Grid& grid, const StudyView& view);

struct Spent {
  std::string outcome;      // used, noise, target, diverged, failed, running
  int trials = 0;           // or attempts, of failed
  double wall_s = 0;        // run time of the trials
  double device_hours = 0;  // of failed and running: from the run time, as the finished ones took
};

// In that order, without those that no trial has. `now`: for what is running.
std::vector<Spent> time_spent(const StudyView& view, std::time_t now);

// {"cells", "trials", "spent", "predictions", "eta_s"} of `study status`.
Json status_json(const Study& study, const Grid& grid, const StudyView& view,
                 const std::vector<Prediction>& predictions = {});
// Models down, epochs across; the best loss and the state in each place.
std::vector<std::vector<std::string>> status_rows(const Grid& grid, const StudyView& view);
std::string status_text(const Study& study, const Grid& grid, const StudyView& view,
                        const std::vector<Prediction>& predictions = {});

}  // namespace nfscale
