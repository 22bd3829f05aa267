// The decisions of a study: append-only logs, one for each time that a controller ran, so that two
// writers never share a file. A record is one line, "length TAB xxh3-64 TAB json", written at once
// and synced before the action that it announces.
//
// The run directories are the truth about trials, the store about decisions: without the store no
// training is lost, without a run directory its trial comes back.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/lease.h"

namespace nfscale {

// A trial as the records tell it.
struct TrialRecord {
  Json chosen;  // cell, model, epochs, batch, lr, lr_index, seed, config_hash, why
  // submitting, submitted, done, diverged, preempted, lost, failed; empty before the first start
  std::string state;
  std::string handle;            // of the last start, by which its executor knows it
  bool final = false;            // of failed and lost: no further attempt
  int starts = 0, failures = 0;  // failures since it was last chosen anew
  double failed_s = 0;           // run time of all attempts that failed
  std::string reason, started, finished;
  std::string submitted;  // time of the last start
};

// A prediction as it was sealed (study/predict.h). There is no record that changes one.
struct SealedRecord {
  Json prediction;
  std::string seal;
  bool late = false;  // trials of its target were chosen before
};

struct StoreState {
  std::map<std::string, TrialRecord> trials;  // by run id
  std::vector<SealedRecord> sealed;           // in the order of their records
  std::map<std::string, double> step_times;   // device seconds, by "MODEL BATCH DEVICE"
  Json candidates;  // to be fine-tuned: [{"run_id", "cell", "role", "why"}]; null: not chosen yet
  size_t records = 0;
};

// Pure: the state is a function of the records in order. Unknown kinds are passed over.
void apply(const Json& record, StoreState& state);

std::string record_line(const Json& record);

struct StoreContents {
  StoreState state;
  std::vector<std::string> torn;  // files whose last line is not whole
  int last_number = 0;
};

// All logs of `folder` in order of their numbers. A last line that is not whole is a torn tail and
// ignored; another one is Exit::damaged with file and line. A missing folder is an empty store.
StoreContents read_store(const Path& folder);

// Moves damaged logs of the study in `out` aside as NAME.damaged and tells which. Exit::usage where
// a controller is at work.
std::vector<std::string> repair_store(const Path& out);

// The one controller of a study, which holds store/controller. Exit::usage naming host and process
// where there is another.
class Store {
 public:
  explicit Store(const Path& out);
  const StoreState& state() const { return contents_.state; }
  const std::vector<std::string>& torn() const { return contents_.torn; }
  // Adds kind and time, appends durably, and applies. Exit::usage where another controller has
  // taken over.
  void append(std::string_view kind, const Json& record);

 private:
  Path folder_;
  Lease lease_;
  StoreContents contents_;
  AppendLog log_;  // made with the first record
};

// Host and process of a controller that is at work, if it can be told.
std::optional<std::string> live_controller(const Path& out);

}  // namespace nfscale
