// A whole training run, from its configuration to result.json.
#pragma once

#include <c10/core/Device.h>

#include <optional>
#include <string>

#include "config/load.h"

namespace nfscale {

struct TrainOptions {
  Path out;
  std::optional<Path> init;  // a run, checkpoint or weight file to start from
  bool finetune = false;     // with the model of `init` and a new classifier
  std::string fork;          // RUN or RUN@STEP that the run goes on from; empty: none
  std::string resume = "auto";
  int threads = 1;
  at::Device device = at::kCPU;
};

// Ends with result.json for every end that the program survives. Returns when the run is done;
// otherwise throws: Exit::diverged, Exit::preempted (all saved), Exit::damaged, Exit::system.
void train(LoadedConfig loaded, const TrainOptions& options);

}  // namespace nfscale
