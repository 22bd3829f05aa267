// What a study is going to cost, before anything runs: trials, compute, warnings, and whether it
// fits the budget.
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "study/study.h"
#include "study/trials.h"

namespace nfscale {

struct PlanCell {
  double trials = 0;  // expected
  std::optional<double> device_hours;
};

struct Plan {
  std::vector<PlanCell> cells;    // as Grid::cells
  std::vector<PlanCell> targets;  // as Grid::targets
  PlanCell finetuning;            // at most, all of it; part of the sums below
  double trials = 0, flops = 0;
  std::optional<double> device_hours, wall_s;  // where the speed of a device is known
  std::optional<double> left_s;                // of wall_s
  std::optional<double> speed;                 // operations a second of a device, as measured
  size_t measured = 0;                         // by that many trials
  int64_t memory_bytes = 0;                    // of the largest trial; an estimate
  std::vector<size_t> dearest;                 // places of cell_at, at most ten
  std::vector<std::string> warnings;
  std::string refused;  // key, what is needed, what is allowed and the cells that would fit
};

// Trials that a cell is expected to take; 2.1 without, 2.7 with certification of the frontier and
// 3.2 of all cells (replays of 200 synthetic studies), one more in the first.
double expected_trials(const Study& study, const Grid& grid, size_t cell);

// Speed is that of the trials in `view`; `devices` work at once.
Plan make_plan(const Study& study, const Grid& grid, const StudyView& view, double devices);

Json plan_json(const Study& study, const Grid& grid, const Plan& plan);
std::vector<std::vector<std::string>> plan_rows(const Grid& grid, const Plan& plan);
// Below the table; `now` is when the study would start.
std::string plan_text(const Study& study, const Grid& grid, const Plan& plan, std::time_t now);

// What the plan.json of the study says of its data, if the sources are still the same: looking at a
// study then needs no data.
std::optional<StudyData> planned_data(const Study& study);

// "1.2e+15", "3.4k", "57.0M": for tables.
std::string count_text(double value);
// Three digits as they are spoken: "0.0123", "2730", "94400", "1.2e+15".
std::string plain_number(double value);

}  // namespace nfscale
