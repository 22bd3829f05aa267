// Any bytes as a picture: broken with a reason, or pixels that can be cut and resized.
#include "data/augment.h"
#include "data/decode.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  using namespace nfscale;
  DecodeOptions options;
  options.max_pixels = 1 << 16;
  const Decoded d = decode({reinterpret_cast<const char*>(data), size}, options);
  const auto pixels = static_cast<size_t>(d.picture.width * d.picture.height);
  if (d.picture.rgb.size() != 3 * pixels || d.broken.empty() != (pixels > 0)) __builtin_trap();
  if (d.broken.empty()) {
    evaluation_crop(d.picture, "pct:0.875", 16);
    evaluation_crop(d.picture, "squash32", 16);
  }
  return 0;
}
