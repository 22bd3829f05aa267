#include "data/augment.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "data/randaugment.h"
#include "data/resize.h"

namespace nfscale {
namespace {

Words words_for(uint64_t seed, Op op, const Slot& slot, uint32_t block) {
  return words(seed, op, slot.example, static_cast<uint32_t>(slot.epoch), slot.copy, block);
}

// The centre of the picture resized to width x height.
Picture center(const Picture& picture, int64_t width, int64_t height, int64_t size) {
  return resize_part(picture, {0, 0, picture.width, picture.height}, width, height,
                     {(width - size) / 2, (height - size) / 2, size, size});
}

// P of "pct:P"; 0 where the rule is another.
double part_of(std::string_view rule) {
  if (!rule.starts_with("pct:")) return 0;
  const double p = parse_double(rule.substr(4)).value_or(0);
  return p > 0 && p <= 1 ? p : 0;
}

template <class T>
void mirror(T* row, int64_t size) {
  for (int64_t y = 0; y < size; ++y)
    for (int64_t x = 0; x < size / 2; ++x)
      std::swap_ranges(row + 3 * (y * size + x), row + 3 * (y * size + x) + 3,
                       row + 3 * (y * size + size - 1 - x));
}

// Where the window of a padded picture lies, from the picture's corner.
std::pair<int64_t, int64_t> pad_offset(const DataConfig& data, uint64_t seed, const Slot& slot,
                                       int64_t size) {
  const int64_t pad = data.augment.pad.value_or(size / 8);
  const Words w = words_for(seed, Op::crop, slot, 0);
  const auto places = static_cast<uint32_t>(2 * pad + 1);
  return {below(w[0], places) - pad, below(w[1], places) - pad};
}

// The window of the padded picture; the padding is the mean colour, that is 0 once normalised.
void padded_window(const Picture& picture, const DataConfig& data, const Normalisation& normalise,
                   uint64_t seed, const Slot& slot, int64_t size, float* row) {
  const auto [left, top] = pad_offset(data, seed, slot, size);
  std::vector<float> all(static_cast<size_t>(size * size * 3));
  normalise.apply(picture, all.data());
  std::fill_n(row, size * size * 3, 0.0f);
  const int64_t x0 = std::max<int64_t>(0, -left), x1 = std::min(size, size - left);
  for (int64_t y = std::max<int64_t>(0, -top); y < std::min(size, size - top) && x0 < x1; ++y)
    std::copy_n(all.data() + 3 * ((y + top) * size + x0 + left), 3 * (x1 - x0),
                row + 3 * (y * size + x0));
}

}  // namespace

Normalisation::Normalisation(const DataConfig& data) {
  for (size_t k = 0; k < 3; ++k) {
    mean[k] = static_cast<float>(data.mean[k] * 255);
    scale[k] = static_cast<float>(1 / (data.std[k] * 255));
  }
}

void Normalisation::apply(const Picture& picture, float* row) const {
  const uint8_t* from = picture.rgb.data();
  for (int64_t i = 0; i < picture.width * picture.height; ++i, from += 3, row += 3)
    for (size_t k = 0; k < 3; ++k) row[k] = (static_cast<float>(from[k]) - mean[k]) * scale[k];
}

void Normalisation::apply(const std::vector<float>& values, float* row) const {
  for (size_t i = 0; i < values.size(); ++i) row[i] = (values[i] - mean[i % 3]) * scale[i % 3];
}

CropBox inception_box(int64_t width, int64_t height, uint64_t seed, const Slot& slot) {
  const auto w = static_cast<double>(width), h = static_cast<double>(height);
  const double low = std::log(3.0 / 4), high = std::log(4.0 / 3);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const Words r = words_for(seed, Op::crop, slot, static_cast<uint32_t>(attempt));
    const double area = (0.08 + 0.92 * double{uniform(r[0])}) * w * h;
    const double ratio = std::exp(low + (high - low) * double{uniform(r[1])});
    const auto box_w = static_cast<int64_t>(std::floor(std::sqrt(area * ratio) + 0.5));
    const auto box_h = static_cast<int64_t>(std::floor(std::sqrt(area / ratio) + 0.5));
    if (box_w < 1 || box_w > width || box_h < 1 || box_h > height) continue;
    return {{below(r[2], static_cast<uint32_t>(width - box_w + 1)),
             below(r[3], static_cast<uint32_t>(height - box_h + 1)), box_w, box_h},
            attempt};
  }
  Box box = {0, 0, width, height};
  if (4 * width < 3 * height)
    box.height = std::max<int64_t>(1, static_cast<int64_t>(std::floor(w / (3.0 / 4) + 0.5)));
  else if (3 * width > 4 * height)
    box.width = std::max<int64_t>(1, static_cast<int64_t>(std::floor(h * (4.0 / 3) + 0.5)));
  box.x = (width - box.width) / 2;
  box.y = (height - box.height) / 2;
  return {box, 10};
}

void check_eval_crop(const std::string& rule) {
  if (rule == "auto" || rule == "squash32" || rule == "center32" || rule == "squash" ||
      part_of(rule) > 0)
    return;
  fail(
      Exit::usage,
      "data.eval_crop: expected \"squash32\", \"center32\", \"squash\", \"pct:P\" with P of (0, 1] "
      "or \"auto\", found \"{}\"",
      rule);
}

Frame frame_of(const std::string& rule, int64_t size) {
  check_eval_crop(rule);
  if (rule == "squash32" || (rule == "auto" && size >= 128)) return {"squash", size + 32};
  if (rule == "center32") return {"pct:1", size + 32};
  if (part_of(rule) > 0)
    return {"pct:1", static_cast<int64_t>(std::floor(static_cast<double>(size) / part_of(rule)))};
  return {rule, size};
}

Picture evaluation_crop(const Picture& picture, const std::string& rule, int64_t size) {
  check_eval_crop(rule);
  const int64_t width = picture.width, height = picture.height, shorter = std::min(width, height);
  if (rule == "squash32" || (rule == "auto" && size >= 128))
    return center(picture, size + 32, size + 32, size);
  if (rule == "squash") return center(picture, size, size, size);
  if (rule == "center32") {
    const int64_t side = std::max<int64_t>(1, shorter * size / (size + 32));
    return resize(picture, {(width - side) / 2, (height - side) / 2, side, side}, size, size);
  }
  const double part = rule == "auto" ? 1 : part_of(rule);
  const auto side = static_cast<int64_t>(std::floor(static_cast<double>(size) / part));
  const int64_t longer = std::max(side, side * std::max(width, height) / shorter);
  return width <= height ? center(picture, side, longer, size)
                         : center(picture, longer, side, size);
}

namespace {

bool is_mirrored(const DataConfig& data, uint64_t seed, const Slot& slot) {
  return data.augment.flip && coin(words_for(seed, Op::flip, slot, 0)[0]);
}

// Before anything is normalised; padding is the mean colour, rounded.
Picture cut(const Picture& picture, const DataConfig& data, uint64_t seed, const Slot& slot,
            int64_t size) {
  if (data.augment.crop == "inception")
    return resize(picture, inception_box(picture.width, picture.height, seed, slot).box, size,
                  size);
  Picture part = evaluation_crop(picture, data.eval_crop, size);
  if (data.augment.crop != "pad") return part;
  Picture window(size, size);
  const auto [left, top] = pad_offset(data, seed, slot, size);
  for (int64_t y = 0; y < size; ++y)
    for (int64_t x = 0; x < size; ++x) {
      const int64_t sx = x + left, sy = y + top;
      const bool inside = sx >= 0 && sx < size && sy >= 0 && sy < size;
      for (int64_t c = 0; c < 3; ++c)
        window.rgb[static_cast<size_t>(3 * (y * size + x) + c)] =
            inside ? part.rgb[static_cast<size_t>(3 * (sy * size + sx) + c)]
                   : static_cast<uint8_t>(255 * data.mean[static_cast<size_t>(c)] + 0.5);
    }
  return window;
}

Picture cut_and_mirrored(const Picture& picture, const DataConfig& data, uint64_t seed,
                         const Slot& slot, int64_t size) {
  Picture part = cut(picture, data, seed, slot, size);
  if (is_mirrored(data, seed, slot)) mirror(part.rgb.data(), size);
  return part;
}

// Only the size of the picture matters, which no operation changes.
std::vector<AugmentationDraw> operations_of(const Picture& picture, const DataConfig& data,
                                            uint64_t seed, const Slot& slot) {
  const std::vector<int64_t>& setting = data.augment.randaugment;
  std::vector<AugmentationDraw> draws;
  for (uint32_t layer = 0; !setting.empty() && layer < static_cast<uint32_t>(setting[0]); ++layer)
    draws.push_back(draw_augmentation(seed, slot, layer, static_cast<double>(setting[1]), picture));
  return draws;
}

void randaugment(Picture& picture, const DataConfig& data, uint64_t seed, const Slot& slot) {
  for (const AugmentationDraw& draw : operations_of(picture, data, seed, slot))
    augment(picture, draw);
}

void paste(const Picture& from, const Box& box, Picture& to) {
  for (int64_t y = box.y; y < box.y + box.height; ++y) {
    const int64_t at = 3 * (y * to.width + box.x);
    std::copy_n(from.rgb.begin() + at, 3 * box.width, to.rgb.begin() + at);
  }
}

}  // namespace

RowDraw row_draw(const Picture& picture, const DataConfig& data, uint64_t seed, const Slot& slot,
                 int64_t size) {
  RowDraw draw = {.box = {},
                  .mirrored = is_mirrored(data, seed, slot),
                  .operations = operations_of(Picture(size, size), data, seed, slot)};
  if (data.augment.crop == "inception")
    draw.box = inception_box(picture.width, picture.height, seed, slot).box;
  if (data.augment.crop == "pad") {
    const auto [left, top] = pad_offset(data, seed, slot, size);
    draw.box = {left, top, size, size};
  }
  return draw;
}

void training_row(const Picture& picture, const DataConfig& data, const Normalisation& normalise,
                  uint64_t seed, const Slot& slot, int64_t size, float* row) {
  // Bytes cannot hold padding that is exactly the mean.
  if (data.augment.crop == "pad" && data.augment.randaugment.empty()) {
    const Picture part = evaluation_crop(picture, data.eval_crop, size);
    padded_window(part, data, normalise, seed, slot, size, row);
    if (is_mirrored(data, seed, slot)) mirror(row, size);
    return;
  }
  Picture part = cut_and_mirrored(picture, data, seed, slot, size);
  randaugment(part, data, seed, slot);
  normalise.apply(part, row);
}

void mixed_row(const Picture& picture, const Slot& slot, const Picture& partner,
               const Slot& partner_slot, const Mix& mix, const DataConfig& data,
               const Normalisation& normalise, uint64_t seed, int64_t size, float* row) {
  Picture own = cut_and_mirrored(picture, data, seed, slot, size);
  const Picture other = cut_and_mirrored(partner, data, seed, partner_slot, size);
  if (mix.paste) {
    paste(other, mix.box, own);
  } else {
    const auto share = static_cast<float>(mix.share);
    std::vector<float> values(own.rgb.size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] =
          share * static_cast<float>(own.rgb[i]) + (1 - share) * static_cast<float>(other.rgb[i]);
    if (data.augment.randaugment.empty()) return normalise.apply(values, row);
    for (size_t i = 0; i < values.size(); ++i) own.rgb[i] = static_cast<uint8_t>(values[i]);
  }
  randaugment(own, data, seed, slot);
  normalise.apply(own, row);
}

}  // namespace nfscale
