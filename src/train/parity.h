// Golden cases: what a correct program computes, from files that reference programs wrote.
#pragma once

#include <string>

#include "base/error.h"

namespace nfscale {

struct ParityResult {
  std::string name, kind, numerics;  // kind: "train", "digest", "posemb", "schedule"
  bool ok = true;
  struct {
    std::string tensor;
    double error = 0, tolerance = 1;
  } worst;  // the largest error over its tolerance
  int compared = 0;
};

// Runs the case of the file in float32, or in float64 (then every tolerance is at most 1e-6).
// `numerics` other than "" replaces the file's, to show that it matters.
// Exit::usage for a file of another format.
ParityResult run_parity(const Path& file, bool float64, const std::string& numerics = "");

}  // namespace nfscale
