// NFNets (arXiv 2102.06171).
#pragma once

#include "model/forward.h"

namespace nfscale {

// forward() of an NFNet. Images are of type filters.compute, in channels-last memory.
at::Tensor forward_nfnet(const Model& model, Filters& filters, const at::Tensor& images,
                         const Masks* masks, const Observer& observe);

}  // namespace nfscale
