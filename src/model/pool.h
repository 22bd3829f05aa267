// Poolings of activations.
#pragma once

#include "kernels/types.h"
#include "model/pch.h"

namespace nfscale {

// Of a shortcut: the mean of act(x) over windows of 2 x 2 with stride 2; windows cut by
// the edge divide by the pixels they have. x [N, C, H, W] in channels-last memory, float or
// bfloat16.
at::Tensor pool_forward(Activation act, const at::Tensor& x);
at::Tensor pool_backward(Activation act, const at::Tensor& d_y, const at::Tensor& x);

// The mean of act(x) over all pixels: [N, C], float.
at::Tensor mean_forward(Activation act, const at::Tensor& x);
at::Tensor mean_backward(Activation act, const at::Tensor& d_y, const at::Tensor& x);

}  // namespace nfscale
