// The pooling of a shortcut: the mean of act(x) over windows of 2 x 2 with stride 2; windows cut by
// the edge divide by the pixels they have. x [N, C, H, W] in channels-last memory, float or
// bfloat16.
#pragma once

#include "kernels/types.h"
#include "model/pch.h"

namespace nfscale {

at::Tensor pool_forward(Activation act, const at::Tensor& x);
at::Tensor pool_backward(Activation act, const at::Tensor& d_y, const at::Tensor& x);

}  // namespace nfscale
