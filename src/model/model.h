// A model: an architecture with its parameters.
#pragma once

#include <vector>

#include "arch/arch.h"
#include "model/pch.h"

namespace nfscale {

struct Model {
  Arch arch;
  std::vector<Param> params;        // names and shapes, in the order of a weight file
  std::vector<at::Tensor> weights;  // float (or double), contiguous OIHW; grad is accumulated
};

// Undefined weights of `type`; see init.h and weights.h for their values.
Model make_model(const Arch& arch, at::ScalarType type = at::kFloat);

}  // namespace nfscale
