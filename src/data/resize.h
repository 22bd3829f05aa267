// Resizing, bit for bit as Pillow before version 13 does it: two passes, horizontal first, 8 bits
// between them, coefficients of 22 bits. A pass that changes no size is left out. A box is cut out
// first; pixels outside it never enter.
#pragma once

#include <cstdint>

#include "data/picture.h"

namespace nfscale {

enum class Filter { bicubic, bilinear };  // bicubic is Keys' with a = -0.5

// The box must lie within the picture; sizes are at least 1.
Picture resize(const Picture& picture, const Box& box, int64_t width, int64_t height,
               Filter filter = Filter::bicubic);

// The `part` of that result alone, without the cost of the rest.
Picture resize_part(const Picture& picture, const Box& box, int64_t width, int64_t height,
                    const Box& part, Filter filter = Filter::bicubic);

}  // namespace nfscale
