// Initial weights (spec of both reference programs), drawn from the counter-based generator.
#pragma once

#include <cstdint>

#include "model/forward.h"

namespace nfscale {

// NFNets: convolutions N(0, 1 / fan_in), classifier N(0, 0.01^2), gains 1, biases and skip gains 0;
// squeeze-excite as the numerics have it: N(0, 1 / in), truncated at two sigma for deepmind.
//
// Vision Transformers, deepmind (big_vision): patches LeCun normal, matrices D x D of attention and
// those of MLPs Xavier uniform, biases of MLPs N(0, 1e-6^2), positions N(0, 1 / D), query Xavier
// uniform, class token and classifier 0, its bias model.head_bias. timm: linear layers and
// positions N(0, 0.02^2), the query N(0, 1 / D), class token N(0, 1e-6^2), patches as PyTorch has
// them.
//
// A tensor's values depend on the seed and its place in the list alone.
void init_weights(Model& model, uint64_t seed);

}  // namespace nfscale
