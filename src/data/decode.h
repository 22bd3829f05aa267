// Encoded bytes to a picture. The bytes decide the format (JPEG, PNG, WebP), never a name.
//
// One rule for the whole program: a picture is broken if a block of it is missing or its checksum
// does not hold. What libjpeg only warns of counts, except a missing end marker where every block
// is there, extraneous bytes before a marker, and oddities of the JFIF and Adobe versions. Gray is
// replicated, alpha is dropped without blending, 16 bits are cut to the high byte, of an animation
// the first frame counts, colour profiles and gamma are ignored. CMYK is taken as stored inverted
// (Adobe's way) with or without the marker that says so.
//
// Size limits are checked on the header, before anything of that size is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/config.h"
#include "data/picture.h"

namespace nfscale {

struct DecodeOptions {
  int64_t max_pixels = int64_t{1} << 27, max_bytes = int64_t{256} << 20;
  bool exif = true;  // turn the picture as its EXIF orientation says

  DecodeOptions() = default;
  explicit DecodeOptions(const DataConfig& data)
      : max_pixels(data.max_pixels), max_bytes(data.max_bytes), exif(data.exif == "apply") {}
};

inline constexpr int64_t kMaxSide = 65500;

struct Decoded {
  Picture picture;
  // Why there is no picture; empty if there is one. It begins with one of: empty, not-an-image,
  // unsupported, too-large, bad-header, truncated, bad-data.
  std::string broken;
};

// "too-large: ..." or "bad-header: ..." for a size that is not allowed, else empty.
std::string size_fault(int64_t width, int64_t height, const DecodeOptions& options);

Decoded decode(std::string_view bytes, const DecodeOptions& options = {});

// EXIF orientation 1..8 of a TIFF block ("II*\0..." or "MM\0*..."); 1 for anything damaged.
int exif_orientation(std::string_view tiff);

// The picture as the orientation says it is to be seen.
Picture turned(Picture picture, int orientation);

}  // namespace nfscale
