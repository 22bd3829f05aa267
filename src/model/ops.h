// The operations of an NFNet, as plain functions of tensors with their gradients. Those of the
// first part are ordinary compositions of ATen calls, for every type: what runs where the kernels
// do not, and the oracle of the second part, which is made of kernels.
//
// Activations are NCHW in channels-last memory, of type float, double or bfloat16; weights and
// their gradients are float (double where the activations are).
#pragma once

#include <cstdint>

#include "kernels/types.h"
#include "model/filters.h"

namespace nfscale {

// Scaled weight standardisation (B21 section 4.1; both programs' epsilons): for every output
// channel factor * (w - mean) * gain / sqrt(fan_in * variance). w [O, I/G, k, k], gain [O, 1, 1,
// 1].
at::Tensor standardize(const at::Tensor& w, const at::Tensor& gain, Numerics numerics,
                       double factor = 1);

// The tanh form for deepmind, erf for timm; without the factor of B21's activations, see
// standardize.
at::Tensor gelu(const at::Tensor& x, Numerics numerics);

// Convolution with SAME padding as TensorFlow has it: ceil(side / stride) outputs, the odd row or
// column of padding at the end. `weight` is cast to the type of x.
at::Tensor conv_same(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     int64_t stride, int64_t groups);

// Mean of 2 x 2 windows with stride 2; windows cut by the edge divide by the pixels they have.
at::Tensor shortcut_pool(const at::Tensor& x);

// The end of a residual block: shortcut + x * gate * factor with the gate sigmoid(fc2(relu(fc1(mean
// of x over space)))). factor is a number or [N, 1].
struct SqueezeExcite {
  at::Tensor w1, b1, w2, b2;  // [E, C, 1, 1], [E], [C, E, 1, 1], [C]
  // Where the kernels leave the gradients of w1 and w2; null: with autograd.
  DenseGradient *d_w1 = nullptr, *d_w2 = nullptr;
};
struct SqueezeExciteResult {
  at::Tensor out, gate;  // gate [N, C]
};
SqueezeExciteResult squeeze_excite_add(const at::Tensor& shortcut, const at::Tensor& x,
                                       const SqueezeExcite& se, const at::Tensor& factor);

// ---- by kernels: float and bfloat16. On a GPU they are cuDNN's convolution and compositions, with
// the kernels of model/cuda.h for the activation; gradients of filters are autograd's.

// conv_same(gelu(x)) with the filter of a layer; only x is kept for the backward pass. The gradient
// of the filter goes into filters.of_layer[layer].
at::Tensor convolve(const at::Tensor& x, Activation activation, Filters& filters, size_t layer,
                    const at::Tensor& bias, int64_t stride, int64_t groups);

// The layer of a Transformer on gelu(x), x [N, T, I] contiguous: [N, T, O]; see convolve.
at::Tensor linear_by_kernels(const at::Tensor& x, Activation activation, Filters& filters,
                             size_t layer, const at::Tensor& bias);

// Attention of the queries, keys and values that lie beside each other in the rows of `kv`, [N, T,
// 3 D], or of queries q [N, T, D] of their own with the keys and values in `kv`, [N, S, 2 D]: [N,
// T, D]. See model/attention.h.
at::Tensor attend_by_kernels(const at::Tensor& q, const at::Tensor& kv, int64_t heads);

// shortcut_pool(gelu(x)), of which only x is kept.
at::Tensor shortcut_pool_by_kernels(const at::Tensor& x, Activation activation);

// The mean of gelu(x) over space, [N, C], float.
at::Tensor mean_by_kernels(const at::Tensor& x, Activation activation);

// squeeze_excite_add, with everything but the activations in float; the gate has no gradient.
SqueezeExciteResult squeeze_excite_add_by_kernels(const at::Tensor& shortcut, const at::Tensor& x,
                                                  const SqueezeExcite& se,
                                                  const at::Tensor& factor);

}  // namespace nfscale
