// Any bytes as an EXIF block: an orientation of 1 to 8, and turning keeps the pixels.
#include "data/decode.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  using namespace nfscale;
  const int orientation = exif_orientation({reinterpret_cast<const char*>(data), size});
  if (orientation < 1 || orientation > 8) __builtin_trap();
  const Picture turned_picture = turned(Picture(3, 2), orientation);
  if (turned_picture.rgb.size() != 18) __builtin_trap();
  return 0;
}
