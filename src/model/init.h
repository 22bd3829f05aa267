// Initial weights (spec of both reference programs), drawn from the counter-based generator.
#pragma once

#include <cstdint>

#include "model/nfnet.h"

namespace nfscale {

// Convolutions N(0, 1 / fan_in), classifier N(0, 0.01^2), gains 1, biases and skip gains 0;
// squeeze-excite as the numerics have it: N(0, 1 / in), truncated at two sigma for deepmind.
// A tensor's values depend on the seed and its place in the list alone.
void init_weights(Model& model, uint64_t seed);

}  // namespace nfscale
