// Vision Transformers (arXiv 2106.04560, google-research/big_vision, timm).
#pragma once

#include "model/forward.h"

namespace nfscale {

// forward() of a Vision Transformer. Images are of type filters.compute, in channels-last memory.
at::Tensor forward_vit(const Model& model, Filters& filters, const at::Tensor& images,
                       const Masks* masks, const Observer& observe);

// The position embedding [1, prefix + from[0] from[1], D] for a grid of `to` patches; the rows of
// the prefix are copied. deepmind: bilinear with aligned corners (big_vision: scipy.ndimage.zoom,
// order 1); timm: bicubic (a = -0.5) with antialiasing.
at::Tensor resize_position_embedding(const at::Tensor& embedding, int64_t prefix, Sides from,
                                     Sides to, Numerics numerics);

}  // namespace nfscale
