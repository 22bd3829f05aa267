// Convolutions as sums of matrix products, one for each tap of the kernel, over activations in
// channels-last memory, with the activation in front, the bias behind, and its two gradients.
//
// SAME padding as TensorFlow has it: ceil(side / stride) outputs, the odd row or column of padding
// at the end.
#pragma once

#include <functional>

#include "kernels/types.h"
#include "model/pch.h"

namespace nfscale {

// Whether these convolutions have such a layer; ATen's has all.
bool has_convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t groups);

struct ConvSettings {
  int64_t stride = 1, groups = 1;
  Activation activation = Activation::none;  // applied to x in front of the convolution
  Activation behind = Activation::none;      // applied to y, in evaluation only
};

// behind(act(x) * filter + bias): [N, O, ceil(H / stride), ceil(W / stride)], of the type of x. x
// [N, I, H, W] in channels-last memory; filter [O, k, k, I / groups] contiguous, of the type of x;
// bias [O] float. `packed` may be pack_filter's, which is made otherwise.
at::Tensor conv_forward(const ConvSettings& settings, const at::Tensor& x, const at::Tensor& filter,
                        const at::Tensor& bias, const at::Tensor& packed = {});

// The filter as the products of the forward pass read it, for filters that are used many times.
at::Tensor pack_filter(const at::Tensor& filter, int64_t groups);

struct ConvGradients {
  at::Tensor x;     // undefined unless asked for; of the type of x
  at::Tensor bias;  // float
};

// Receives the gradient of the filters [first, first + count), rows [k, k, I / groups] in float, in
// a buffer that it may change, from several threads. The pictures may come in parts, whose
// gradients add up.
using FilterSink =
    std::function<void(int64_t first, int64_t count, float* rows, bool first_part, bool last_part)>;
ConvGradients conv_backward(const ConvSettings& settings, const at::Tensor& d_y,
                            const at::Tensor& x, const at::Tensor& filter, bool wants_x,
                            const FilterSink& sink);

}  // namespace nfscale
