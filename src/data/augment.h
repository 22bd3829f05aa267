// From a decoded picture to one row of a batch: which part of it, mirrored or not, normalised.
//
// Everything random is drawn for (seed, slot), so a row is the same on every thread and machine.
// Rows are float32, size * size * 3, channel last: (x - mean * 255) * (1 / (std * 255)), both
// constants rounded once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/config.h"
#include "data/mix.h"
#include "data/order.h"
#include "data/picture.h"
#include "data/randaugment.h"

namespace nfscale {

struct Normalisation {
  float mean[3] = {}, scale[3] = {};
  explicit Normalisation(const DataConfig& data);
  void apply(const Picture& picture, float* row) const;
  void apply(const std::vector<float>& values, float* row) const;  // of 0 to 255
};

struct CropBox {
  Box box;
  int attempt = 0;  // 10 is the fallback, a centred box
};
// A box of 8 to 100% of the area with a ratio of 3/4 to 4/3 ("Inception" crop).
CropBox inception_box(int64_t width, int64_t height, uint64_t seed, const Slot& slot);

// The part that is evaluated, `size` x `size` pixels. `rule`: "squash32" resizes to size + 32
// whatever the shape and takes the centre; "pct:P" resizes the shorter side to size / P and takes
// the centre; "center32" takes the centred square of size / (size + 32) of the shorter side.
// "squash" resizes to `size`, whatever the shape. "auto" is "pct:1" below 128 pixels, else
// "squash32". Exit::usage for another rule.
Picture evaluation_crop(const Picture& picture, const std::string& rule, int64_t size);
void check_eval_crop(const std::string& rule);

// The larger square, with its own rule, that the evaluated part is the centre of (to a pixel); of
// the same size where a rule takes the whole picture.
struct Frame {
  std::string rule;
  int64_t size;
};
Frame frame_of(const std::string& rule, int64_t size);

// What training does to the picture of a slot, for people.
struct RowDraw {
  // The part of the picture that is resized; of "pad" the window, which may reach over its sides.
  // Nothing where the evaluated part is taken.
  std::optional<Box> box;
  bool mirrored = false;
  std::vector<AugmentationDraw> operations;
};
RowDraw row_draw(const Picture& picture, const DataConfig& data, uint64_t seed, const Slot& slot,
                 int64_t size);

void training_row(const Picture& picture, const DataConfig& data, const Normalisation& normalise,
                  uint64_t seed, const Slot& slot, int64_t size, float* row);
// The same of two pictures, each cut and mirrored as its own slot says, then mixed, and only then
// through RandAugment, as NFNets have it.
void mixed_row(const Picture& picture, const Slot& slot, const Picture& partner,
               const Slot& partner_slot, const Mix& mix, const DataConfig& data,
               const Normalisation& normalise, uint64_t seed, int64_t size, float* row);

}  // namespace nfscale
