// Weights between a model and safetensors files with timm's names.
#pragma once

#include "base/safetensors.h"
#include "model/nfnet.h"

namespace nfscale {

// Copies every parameter from the tensor `prefix` + its name. Exit::usage naming the file and all
// missing tensors, wrong shapes and (without a prefix) surplus tensors at once.
void load_weights(Model& model, const SafetensorsFile& file, const std::string& prefix = "");

// Views of the weights, or of `tensors` in their place, for writing.
std::vector<TensorView> weight_views(const Model& model, const std::vector<at::Tensor>& tensors);

}  // namespace nfscale
