#include "data/randaugment.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/random.h"

namespace nfscale {
namespace {

constexpr uint8_t kUncovered = 128;
using Table = std::array<uint8_t, 256>;

uint8_t clipped(double v) {
  return static_cast<uint8_t>(std::clamp(v, 0.0, 255.0));
}

// value(v) for every value of every channel.
template <class Value>
void map_values(Picture& p, const Value& value) {
  Table table;
  for (size_t v = 0; v < 256; ++v) table[v] = clipped(value(static_cast<int>(v)));
  for (uint8_t& v : p.rgb) v = table[v];
}

// A table for each channel, from its histogram.
template <class MakeTable>
void map_channels(Picture& p, const MakeTable& make) {
  for (size_t channel = 0; channel < 3; ++channel) {
    std::array<int64_t, 256> histogram{};
    for (size_t i = channel; i < p.rgb.size(); i += 3) ++histogram[p.rgb[i]];
    const Table table = make(histogram);
    for (size_t i = channel; i < p.rgb.size(); i += 3) p.rgb[i] = table[p.rgb[i]];
  }
}

Table identity() {
  Table table;
  for (size_t v = 0; v < 256; ++v) table[v] = static_cast<uint8_t>(v);
  return table;
}

// The darkest value becomes 0, the brightest 255.
Table stretched(const std::array<int64_t, 256>& histogram) {
  size_t low = 0, high = 255;
  while (low < 255 && histogram[low] == 0) ++low;
  while (high > 0 && histogram[high] == 0) --high;
  Table table = identity();
  if (high <= low) return table;
  const double scale = 255.0 / static_cast<double>(high - low);
  for (size_t v = 0; v < 256; ++v)
    table[v] = clipped(static_cast<double>(v) * scale - static_cast<double>(low) * scale);
  return table;
}

Table equalized(const std::array<int64_t, 256>& histogram) {
  int64_t pixels = 0, last = 0;
  for (const int64_t n : histogram) {
    pixels += n;
    if (n) last = n;
  }
  Table table = identity();
  const int64_t step = (pixels - last) / 255;
  if (step == 0) return table;
  int64_t sum = step / 2;
  for (size_t v = 0; v < 256; ++v) {
    table[v] = static_cast<uint8_t>(std::min<int64_t>(sum / step, 255));
    sum += histogram[v];
  }
  return table;
}

// ITU-R 601, as Pillow rounds it.
uint8_t luminance(const uint8_t* rgb) {
  return static_cast<uint8_t>((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
}

// other + factor (p - other), cut to whole numbers.
void blend(Picture& p, const Picture& other, double factor) {
  for (size_t i = 0; i < p.rgb.size(); ++i)
    p.rgb[i] = clipped(other.rgb[i] + factor * (p.rgb[i] - other.rgb[i]));
}

Picture grey(const Picture& p) {
  Picture g(p.width, p.height);
  for (size_t i = 0; i < p.rgb.size(); i += 3)
    std::fill_n(g.rgb.begin() + static_cast<ptrdiff_t>(i), 3, luminance(&p.rgb[i]));
  return g;
}

Picture mean_grey(const Picture& p) {
  const Picture g = grey(p);
  double sum = 0;
  for (size_t i = 0; i < g.rgb.size(); i += 3) sum += g.rgb[i];
  Picture flat(p.width, p.height);
  const double pixels = static_cast<double>(std::max<int64_t>(1, p.width * p.height));
  std::fill(flat.rgb.begin(), flat.rgb.end(), clipped(sum / pixels + 0.5));
  return flat;
}

// The mean of 3 x 3 pixels with the middle one five times, rounded; the border is kept.
Picture smooth(const Picture& p) {
  Picture s = p;
  const int64_t row = 3 * p.width;
  for (int64_t y = 1; y + 1 < p.height; ++y)
    for (int64_t i = 3; i < row - 3; ++i) {
      const uint8_t* at = p.rgb.data() + y * row + i;
      int sum = 4 * at[0];
      for (const int64_t dy : {-row, int64_t{0}, row})
        for (const int64_t dx : {-3, 0, 3}) sum += at[dy + dx];
      s.rgb[static_cast<size_t>(y * row + i)] = static_cast<uint8_t>((2 * sum + 13) / 26);
    }
  return s;
}

// Pixel (x, y) comes from (a x + b y + c, d x + e y + f), all from the middle of the picture.
struct Affine {
  double a, b, c, d, e, f;
};
void transform(Picture& p, const Affine& m) {
  const Picture from = p;
  const double cx = static_cast<double>(p.width) / 2, cy = static_cast<double>(p.height) / 2;
  for (int64_t y = 0; y < p.height; ++y)
    for (int64_t x = 0; x < p.width; ++x) {
      const double u = static_cast<double>(x) + 0.5 - cx, v = static_cast<double>(y) + 0.5 - cy;
      const auto sx = static_cast<int64_t>(std::floor(m.a * u + m.b * v + m.c + cx)),
                 sy = static_cast<int64_t>(std::floor(m.d * u + m.e * v + m.f + cy));
      uint8_t* to = p.rgb.data() + 3 * (y * p.width + x);
      if (sx < 0 || sx >= p.width || sy < 0 || sy >= p.height)
        std::fill_n(to, 3, kUncovered);
      else
        std::copy_n(from.rgb.data() + 3 * (sy * p.width + sx), 3, to);
    }
}

void rotate(Picture& p, double degrees) {
  const double angle = degrees * 3.14159265358979323846 / 180, c = std::cos(angle),
               s = std::sin(angle);
  transform(p, {c, -s, 0, s, c, 0});
}

void cut_out(Picture& p, int64_t half, int64_t x, int64_t y) {
  const int64_t x0 = std::max<int64_t>(0, x - half), x1 = std::min(p.width, x + half);
  for (int64_t row = std::max<int64_t>(0, y - half); row < std::min(p.height, y + half); ++row)
    if (x0 < x1) std::fill_n(p.rgb.begin() + 3 * (row * p.width + x0), 3 * (x1 - x0), kUncovered);
}

}  // namespace

void augment(Picture& p, const AugmentationDraw& draw) {
  const double m = draw.strength, sign = draw.negative ? -1 : 1, factor = 0.1 + 1.8 * m;
  const auto part = [&](double of) { return static_cast<int>(of * m + 1e-9); };
  switch (draw.operation) {
    case Augmentation::auto_contrast:
      return map_channels(p, stretched);
    case Augmentation::equalize:
      return map_channels(p, equalized);
    case Augmentation::invert:
      return map_values(p, [](int v) { return 255 - v; });
    case Augmentation::rotate:
      return rotate(p, sign * 30 * m);
    case Augmentation::posterize: {
      const int dropped = 8 - std::min(8, part(4));
      return map_values(p, [=](int v) { return v >> dropped << dropped; });
    }
    case Augmentation::solarize:
      return map_values(p, [&](int v) { return v < part(256) ? v : 255 - v; });
    case Augmentation::color:
      return blend(p, grey(p), factor);
    case Augmentation::contrast:
      return blend(p, mean_grey(p), factor);
    case Augmentation::brightness:
      return blend(p, Picture(p.width, p.height), factor);
    case Augmentation::sharpness:
      return blend(p, smooth(p), factor);
    case Augmentation::shear_x:
      return transform(p, {1, sign * 0.3 * m, 0, 0, 1, 0});
    case Augmentation::shear_y:
      return transform(p, {1, 0, 0, sign * 0.3 * m, 1, 0});
    case Augmentation::translate_x:
      return transform(p, {1, 0, sign * 100 * m, 0, 1, 0});
    case Augmentation::translate_y:
      return transform(p, {1, 0, 0, 0, 1, sign * 100 * m});
    case Augmentation::cutout:
      return cut_out(p, part(40), draw.x, draw.y);
    case Augmentation::solarize_add:
      return map_values(p, [&](int v) { return v < 128 ? v + part(110) : v; });
  }
}

std::string augmentation_text(const AugmentationDraw& draw) {
  // The number that an operation works with: `scale` times the strength, more by `offset`.
  struct Shown {
    const char* name;
    double scale = 0, offset = 0;
    bool has_sign = false;
  };
  static constexpr std::array<Shown, kAugmentations> kShown = {{{"auto contrast"},
                                                                {"equalize"},
                                                                {"invert"},
                                                                {"rotate", 30, 0, true},
                                                                {"posterize", 4},
                                                                {"solarize", 256},
                                                                {"color", 1.8, 0.1},
                                                                {"contrast", 1.8, 0.1},
                                                                {"brightness", 1.8, 0.1},
                                                                {"sharpness", 1.8, 0.1},
                                                                {"shear x", 0.3, 0, true},
                                                                {"shear y", 0.3, 0, true},
                                                                {"translate x", 100, 0, true},
                                                                {"translate y", 100, 0, true},
                                                                {"cutout", 40},
                                                                {"solarize add", 110}}};
  const Shown& shown = kShown[static_cast<size_t>(draw.operation)];
  if (shown.scale == 0) return shown.name;
  const double value = shown.offset + shown.scale * draw.strength;
  return fmt::format("{} {:.3g}", shown.name, shown.has_sign && draw.negative ? -value : value);
}

AugmentationDraw draw_augmentation(uint64_t seed, const Slot& slot, uint32_t layer,
                                   double magnitude, const Picture& p) {
  const Words w = words(seed, Op::randaugment, slot.example, static_cast<uint32_t>(slot.epoch),
                        slot.copy, layer);
  return {static_cast<Augmentation>(below(w[0], kAugmentations)), magnitude / 10, coin(w[1]),
          below(w[2], static_cast<uint32_t>(p.width)),
          below(w[3], static_cast<uint32_t>(p.height))};
}

}  // namespace nfscale
