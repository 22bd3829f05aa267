// Losses of examples.
#pragma once

#include "model/pch.h"

namespace nfscale {

// [N], in the type of the logits. Targets are (1 - s) y + s / K with smoothing
// s. softmax: -sum y' log softmax; sigmoid: sum over the classes of the binary cross-entropy.
at::Tensor softmax_loss(const at::Tensor& logits, const at::Tensor& labels, double smoothing);
at::Tensor sigmoid_loss(const at::Tensor& logits, const at::Tensor& targets, double smoothing);

}  // namespace nfscale
