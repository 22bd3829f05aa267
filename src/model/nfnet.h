// The NFNet that an Arch describes, as parameters and one forward function.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "arch/arch.h"
#include "model/ops.h"

namespace nfscale {

struct Model {
  Arch arch;
  std::vector<Param> params;        // names and shapes, in the order of a weight file
  std::vector<at::Tensor> weights;  // float (or double), contiguous OIHW; grad is accumulated
};

// What training drops, drawn by the caller: 1 keeps, 0 drops.
struct Masks {
  std::vector<at::Tensor> drop_path;  // by block: [N], or undefined where nothing is dropped
  at::Tensor head;                    // [N, features], or undefined
};

// Called with the name and value of every intermediate result that reference files hold.
using Observer = std::function<void(const std::string&, const at::Tensor&)>;

// Undefined weights of `type`; see init.h and weights.h for their values.
Model make_model(const Arch& arch, at::ScalarType type = at::kFloat);

// Logits [N, classes] in float (or double) of images [N, C, H, W], normalised, of the weights'
// type. Activations are of type `compute`. Masks are null in evaluation.
at::Tensor forward(const Model& model, const at::Tensor& images, at::ScalarType compute,
                   const Masks* masks = nullptr, const Observer& observe = {});

}  // namespace nfscale
