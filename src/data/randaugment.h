// RandAugment (Cubuk et al., arXiv 1909.13719) as the NFNets' code has it: a number of layers, each
// one of 16 operations, always applied. On pictures of 8 bits; what an operation uncovers is 128.
#pragma once

#include <cstdint>
#include <string>

#include "data/order.h"
#include "data/picture.h"

namespace nfscale {

// In the order in which they are drawn.
enum class Augmentation {
  auto_contrast,
  equalize,
  invert,
  rotate,
  posterize,
  solarize,
  color,
  contrast,
  brightness,
  sharpness,
  shear_x,
  shear_y,
  translate_x,
  translate_y,
  cutout,
  solarize_add,
};
constexpr uint32_t kAugmentations = 16;

struct AugmentationDraw {
  Augmentation operation = Augmentation::invert;
  double strength = 1;    // the magnitude / 10
  bool negative = false;  // of rotations, shears and translations
  int64_t x = 0, y = 0;   // centre of a cutout
};
// "rotate -15", "posterize 2", "equalize": the operation and the number that it works with
// (degrees, bits, a factor, pixels).
std::string augmentation_text(const AugmentationDraw& draw);
void augment(Picture& picture, const AugmentationDraw& draw);

// The draw of a layer, 0, 1, ..., of a slot's picture.
AugmentationDraw draw_augmentation(uint64_t seed, const Slot& slot, uint32_t layer,
                                   double magnitude, const Picture& picture);

}  // namespace nfscale
