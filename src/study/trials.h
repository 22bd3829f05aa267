// What is known of a study's trials at a moment, from the run directories and the store.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/json.h"
#include "study/search.h"
#include "study/store.h"
#include "study/study.h"

namespace nfscale {

// result.json of a run that is done or diverged; NaN and empty where it does not say.
struct TrialResult {
  std::string status;                         // "done" or "diverged"
  double loss = 0, top1 = 0, train_loss = 0;  // nats, share, nats; NaN where diverged
  double steps = 0, examples = 0, device_hours = 0, wall_s = 0, mfu = 0, broken = 0;
  double save_s = 0;  // the longest time that saving took; 0: not known
  std::optional<bool> certificate_ok;
  std::string device, fingerprint, config_hash;
};

// Nothing where the file is missing, is not whole, or tells of another end: the trial then runs.
std::optional<TrialResult> read_result(const Path& run_folder);

struct TrialView {
  Trial trial;
  std::string state;  // done, diverged, failed (for good), running, planned
  std::optional<TrialResult> result;
  TrialRecord record;  // empty where the store has none
  std::string why;     // of the search
  int repeat = 0;      // 1..N: for the noise
};

struct StudyView {
  SearchResult search;
  std::vector<TrialView> trials;       // asked for by the search, known ones first in that order
  std::vector<TrialView> targets;      // of sealed predictions, in the order of Grid::targets
  std::vector<TrialView> finetunings;  // of each candidate with each recipe
  bool candidates_due = false;         // there are recipes, and no candidates for them yet
  std::vector<std::string> other;      // run ids in the store that this study does not ask for
  bool by_hours = false;               // the axis of compute is known in device hours
  std::vector<double> hours;  // of each cell: steps times the typical step time; NaN: unknown
  // Device seconds of a step that was measured before the first trial, by model.
  std::map<std::string, double> measured_steps;
};

bool is_open(const TrialView& t);  // it runs or has to

// Trials, targets and fine-tunings.
std::vector<const TrialView*> all_trials(const StudyView& view);

// What a trial is for: "used" (in the search), "noise", "target", "fine-tuning".
std::string use_of(const StudyView& view, const TrialView& trial);

// The search is through, every sealed target has been trained and every candidate fine-tuned.
bool complete(const StudyView& view);

// What does not change from one look to the next at the same study: results that are there, and the
// names of trials.
struct ResultCache {
  std::map<std::string, TrialResult> results;            // by run id
  std::map<std::tuple<size_t, int, int>, Trial> trials;  // by cell, step of the rate, repeat
  bool empty() const { return results.empty(); }
};

// Searches as far as the results on the disk go. `running` are run ids at work now.
StudyView look(const Study& study, const Grid& grid, const StoreState& store,
               const std::vector<std::string>& running, ResultCache& cache);

// The trial that a sealed prediction speaks of; nothing where it is not of that target (a place in
// Grid::targets) or of another recipe than today's.
std::optional<Trial> sealed_trial(const Study& study, const Grid& grid, size_t target,
                                  const SealedRecord& record);

SearchSettings search_settings(const Study& study);

// Places of a cell's rates, see rate_at, that lr.min and lr.max allow.
struct RateLimits {
  std::optional<int> low, high;
};
RateLimits rate_limits(const Study& study, const Grid& grid, const Cell& cell);

// The cell of each family that is repeated with other seeds: noise.cell, else its cheapest.
std::vector<size_t> noise_cells(const Study& study, const Grid& grid);

// "MODEL BATCH DEVICE" of a step time, and the seconds of a device that a step took.
std::string step_key(const Cell& cell, const std::string& device);
std::optional<double> step_seconds(const TrialResult& result);

// Device hours of a trial of a cell of the grid or outside of it: by its model's trials, else by
// its measured step, else by the model of its family nearest in size that has either; NaN without
// any.
double hours_of(const Grid& grid, const StudyView& view, const Cell& cell);

// Operations of one evaluation on the held-out pictures: 2 a multiply-add, a third of a training
// step's.
double evaluation_flops(const Grid& grid, const Cell& cell);

// Operations a second of a device over all that is done; nothing before the first.
std::optional<double> device_speed(const Grid& grid, const StudyView& view);

}  // namespace nfscale
