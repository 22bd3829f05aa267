// Convolutions as sums of matrix products, one for each tap of the kernel, over activations in
// channels-last memory. The products are libtorch's small ones (at::native::cpublas::brgemm, oneDNN
// underneath); everything around them is here: padding, strides, groups, the activation in front,
// the bias behind, and its two gradients.
//
// SAME padding as TensorFlow has it: ceil(side / stride) outputs, the odd row or column of padding
// at the end.
#pragma once

#include "kernels/types.h"
#include "model/pch.h"

namespace nfscale {

// Whether products of this type (float or bfloat16) run on this machine.
bool has_products(at::ScalarType type);

struct ConvSettings {
  int64_t stride = 1, groups = 1;
  Activation activation = Activation::none;  // applied to x in front of the convolution
};

// act(x) * filter + bias: [N, O, ceil(H / stride), ceil(W / stride)], of the type of x. x [N, I, H,
// W] in channels-last memory; filter [O, k, k, I / groups] contiguous, of the type of x; bias [O]
// float.
at::Tensor conv_forward(const ConvSettings& settings, const at::Tensor& x, const at::Tensor& filter,
                        const at::Tensor& bias);

struct ConvGradients {
  at::Tensor x;     // undefined unless asked for; of the type of x
  at::Tensor bias;  // float
};

// `d_filter` float [O, k, k, I / groups] receives the gradient of the filter: added to what it
// holds, or in its place.
ConvGradients conv_backward(const ConvSettings& settings, const at::Tensor& d_y,
                            const at::Tensor& x, const at::Tensor& filter, at::Tensor& d_filter,
                            bool add, bool wants_x);

}  // namespace nfscale
