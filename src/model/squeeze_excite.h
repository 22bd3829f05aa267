// The end of a residual block: shortcut + x * gate * factor with the gate
// sigmoid(fc2(relu(fc1(mean of x over space)))). Activations x and shortcut are [N, C, H, W] in
// channels-last memory, float or bfloat16; all else is float. factor is one number or [N, 1].
#pragma once

#include "model/pch.h"

namespace nfscale {

struct SqueezeExcite {
  at::Tensor w1, b1, w2, b2;  // [E, C, 1, 1], [E], [C, E, 1, 1], [C]
};

// What the backward pass needs again.
struct SqueezeExciteState {
  at::Tensor pooled, hidden, gate;  // [N, C], [N, E], [N, C]
};

at::Tensor squeeze_excite_forward(const at::Tensor& shortcut, const at::Tensor& x,
                                  const SqueezeExcite& se, const at::Tensor& factor,
                                  SqueezeExciteState& state);

struct SqueezeExciteGradients {
  at::Tensor x, factor;
  SqueezeExcite se;
};
// The gradient of the shortcut is d_out itself.
SqueezeExciteGradients squeeze_excite_backward(const at::Tensor& d_out, const at::Tensor& x,
                                               const SqueezeExcite& se, const at::Tensor& factor,
                                               const SqueezeExciteState& state);

}  // namespace nfscale
