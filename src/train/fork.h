// A run that goes on from a checkpoint of another one, the trunk: with its data order, optimizer
// and count of steps, but another end. One long run of schedule.kind = "rsqrt" so serves several
// budgets, each with a cool-down of its own (Zhai et al., arXiv 2106.04560, section 3.5).
#pragma once

#include <string>

#include "config/config.h"
#include "train/run.h"

namespace nfscale {

struct Fork {
  std::string trunk;  // id of the run
  FoundCheckpoint checkpoint;
  uint64_t step = 0, examples = 0;  // where the trunk was left
  RunIdentity identity = {};        // of the trunk
};

// `text` is RUN or RUN@STEP; without a step the newest intact checkpoint. Exit::usage for what is
// not there, with the steps that are; and where `config` differs from the trunk's in anything but
// train.duration and the schedule.
Fork open_fork(const std::string& text, const Config& config);

}  // namespace nfscale
