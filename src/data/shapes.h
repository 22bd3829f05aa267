// shapes: pictures drawn from integers only, so that every machine draws the same bytes.
//
// ?classes=10..100&count=N&size=8..512&clutter=0..24&noise=0..1&seed=S&split=train|heldout
//
// The class is a shape (class mod 10), a texture (class / 10 mod 5) and a number of objects (1 or
// 2); each picture has a difficulty from which position, size, angle, contrast, clutter and noise
// follow. `noise` is the share of labels drawn anew, so the least possible loss is known. Held-out
// pictures are those with numbers from 2^40 on. About 10 us a picture at 24 pixels.
#pragma once

#include <cstdint>

#include "data/picture.h"

namespace nfscale {

struct ShapesOptions {
  int64_t classes = 10, size = 32, clutter = 6;
  double noise = 0;
  uint64_t seed = 0;
};

inline constexpr uint64_t kShapesHeldout = uint64_t{1} << 40;

struct ShapesLabel {
  int64_t label = 0, true_class = 0;
};
ShapesLabel shapes_label(const ShapesOptions& options, uint64_t example);
Picture draw_shapes(const ShapesOptions& options, uint64_t example);

}  // namespace nfscale
