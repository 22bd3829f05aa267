// How fast this machine trains, before anything runs.
#pragma once

#include <map>
#include <string>

#include "study/study.h"

namespace nfscale {

// Device seconds (a device is a core here) of a training step of a resolved configuration, the
// median of some seconds; with the pictures of data.train where they can be read, else made-up
// ones, with a warning.
double measure_step(const Config& config, int64_t classes, int threads);

// The same of each model of a study, targets included.
std::map<std::string, double> measure_models(const Grid& grid, int threads);

}  // namespace nfscale
