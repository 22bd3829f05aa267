// Weights between a model and safetensors files with timm's names.
#pragma once

#include "base/safetensors.h"
#include "model/forward.h"

namespace nfscale {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;  // float or bfloat16, contiguous
};

// Copies every tensor from that of `prefix` + its name. Exit::usage naming the file and all missing
// tensors, wrong shapes and (without a prefix) surplus tensors at once, these as no tensors of
// `owner`.
void load_named(const std::vector<NamedTensor>& tensors, const SafetensorsFile& file,
                const std::string& owner, const std::string& prefix = "");
std::vector<TensorView> tensor_views(const std::vector<NamedTensor>& tensors);

// Copies every parameter from the tensor `prefix` + its name. Exit::usage naming the file and all
// missing tensors, wrong shapes and (without a prefix) surplus tensors at once.
void load_weights(Model& model, const SafetensorsFile& file, const std::string& prefix = "");

// Views of the weights, or of `tensors` in their place, for writing.
std::vector<TensorView> weight_views(const Model& model, const std::vector<at::Tensor>& tensors);

}  // namespace nfscale
