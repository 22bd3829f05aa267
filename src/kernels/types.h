// The element types of kernels and what they may do to an element. Kernels know no tensor and no
// thread; each is compiled for several instruction sets by Highway and chosen at run time.
#pragma once

#include <cstdint>

namespace nfscale {

// The upper half of a float.
struct Bf16 {
  uint16_t bits;
};

// tanh is DeepMind's form of GELU, erf is timm's; without the factor of B21's activations.
enum class Activation { none, gelu_tanh, gelu_erf };

}  // namespace nfscale
