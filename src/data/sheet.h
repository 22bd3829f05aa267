// Pictures with captions on one sheet, as PNG.
#pragma once

#include <string>
#include <vector>

#include "data/picture.h"

namespace nfscale {

struct CaptionedPicture {
  Picture picture;
  std::vector<std::string> lines;  // below it; "?" where it is not ASCII, cut where it is too long
};

// In rows, on white; small pictures are enlarged by a whole factor. All pictures have one size.
Picture contact_sheet(const std::vector<CaptionedPicture>& pictures);

// The file of a picture.
std::string png_bytes(const Picture& picture);

}  // namespace nfscale
