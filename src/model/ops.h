// The operations of an NFNet, as plain functions of tensors. Each is an ordinary composition of
// ATen calls or one kernel over rows; a faster one can replace it here without touching a model.
//
// Activations are NCHW in channels-last memory, of type float, double or bfloat16; weights and
// their gradients are float (double where the activations are).
#pragma once

#include <cstdint>

#include "model/pch.h"

namespace nfscale {

enum class Numerics { deepmind, timm };  // which reference program is followed where they differ

// Scaled weight standardisation (B21 section 4.1; both programs' epsilons): for every output
// channel factor * (w - mean) * gain / sqrt(fan_in * variance), in the type of w. w [O, I/G, k, k],
// gain [O, 1, 1, 1]. The factor is that of the activation in front of the convolution, which
// commutes with it: that saves a pass over the activations in each direction.
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

// sigmoid(fc2(relu(fc1(mean over space)))): [N, C]. Weights [E, C, 1, 1] and [C, E, 1, 1].
at::Tensor squeeze_excite_gate(const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1,
                               const at::Tensor& w2, const at::Tensor& b2);

// short + x * factor, factor [N, C] over all positions.
at::Tensor add_scaled(const at::Tensor& shortcut, const at::Tensor& x, const at::Tensor& factor);

// Losses of examples, [N], in the type of the logits. Targets are (1 - s) y + s / K with smoothing
// s. softmax: -sum y' log softmax; sigmoid: sum over the classes of the binary cross-entropy.
at::Tensor softmax_loss(const at::Tensor& logits, const at::Tensor& labels, double smoothing);
at::Tensor sigmoid_loss(const at::Tensor& logits, const at::Tensor& targets, double smoothing);

}  // namespace nfscale
