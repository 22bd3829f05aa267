// A run directory: who may write it, what it was started with, where it goes on, how it ended.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/lease.h"
#include "config/load.h"
#include "train/checkpoint.h"

namespace nfscale {

// Everything about a run that its result depends on but its configuration does not say.
struct RunIdentity {
  std::string train_fingerprint, heldout_fingerprint;  // empty: no held-out set
  std::string init_hash;                               // of the weights it starts from; empty: none
  std::string precision;    // what "auto" meant on the machine of the start
  int64_t micro_batch = 0;  // what 0 meant there
};

struct RunDirectory {
  Path path;
  std::unique_ptr<Lease> lease;
  RunIdentity identity;  // of the start, where the run goes on
  std::string id;
  std::optional<Json> result;                 // of a run that has ended "done" or "diverged"
  std::optional<FoundCheckpoint> checkpoint;  // where it goes on
};

// Out of a run.json.
RunIdentity stored_identity(const Json& run);

// Opens or makes the directory and takes its lease. Exit::usage where another process has it, or
// where a key that changes results, the data or the first weights are not those of the start: with
// the key, both values, and how a new run starts from here. `resume` "never" refuses a directory
// with a run. `device` is written down, no more: a run may go on with another.
RunDirectory open_run(const Path& path, const LoadedConfig& loaded, RunIdentity identity,
                      const std::string& device, const std::string& resume);

// Durable; the last word about how the run ended.
void write_result(const Path& run, const Json& result);

}  // namespace nfscale
