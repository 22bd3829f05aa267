// The forward pass of the model that an Arch describes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/filters.h"

namespace nfscale {

// What training drops, drawn by the caller: 1 keeps, 0 drops.
struct Masks {
  // By branch (Arch::branch_rates): [N], or undefined where nothing is dropped.
  std::vector<at::Tensor> drop_path;
  at::Tensor head;  // [N, features], or undefined
};

// Called with the name and value of every intermediate result that reference files hold.
using Observer = std::function<void(const std::string&, const at::Tensor&)>;

// Logits [N, classes] in float (or double) of images [N, C, H, W], normalised, of the weights'
// type. Activations are of type filters.compute. Masks are null in evaluation. A backward pass
// writes the gradients of an NFNet's convolutions into `filters`, see there.
//
// Exit::usage for pictures whose sides a Vision Transformer's patches do not divide; its position
// embedding is resized to other pictures than those it was made for.
at::Tensor forward(const Model& model, Filters& filters, const at::Tensor& images,
                   const Masks* masks = nullptr, const Observer& observe = {});

}  // namespace nfscale
