#include "data/shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numbers>

#include "base/random.h"

namespace nfscale {
namespace {

// All lengths in 1/256 pixel, angles in 1/1024 turn; >> rounds down (arithmetic shift).
using Int = int64_t;
using Colour = std::array<Int, 3>;

constexpr uint32_t kClutterBlock = 8, kNoiseBlock = 64;

const std::array<Int, 1024>& sine() {
  static const std::array<Int, 1024> table = [] {
    std::array<Int, 1024> t{};
    for (size_t k = 0; k < t.size(); ++k)
      t[k] = static_cast<Int>(
          std::floor(16384 * std::sin(2 * std::numbers::pi * static_cast<double>(k) / 1024) + 0.5));
    return t;
  }();
  return table;
}
Int sin_of(Int angle) {
  return sine()[static_cast<size_t>(angle & 1023)];
}
Int cos_of(Int angle) {
  return sin_of(angle + 256);
}

// floor(sqrt(x^2 + y^2)); the sum is below 2^53, so double is exact.
Int length(Int x, Int y) {
  return static_cast<Int>(std::sqrt(static_cast<double>(x * x + y * y)));
}

// Negative inside; u to the right, v downward, in units of the radius / 4096.
Int shape_distance(Int shape, Int u, Int v) {
  const Int au = std::abs(u), av = std::abs(v);
  switch (shape) {
    case 0:  // disc
      return length(u, v) - 3900;
    case 1:  // ring
      return std::abs(length(u, v) - 3000) - 1000;
    case 2:  // square
      return std::max(au, av) - 3400;
    case 3:  // triangle, one corner up
      return std::max(v, (au * 14189 - v * 8192) >> 14) - 2200;
    case 4: {  // star: inside four of five half-planes, so the second largest of the distances
      Int first = INT64_MIN, second = INT64_MIN;
      for (const Int normal : {256, 461, 666, 870, 51}) {
        const Int d = (u * cos_of(normal) + v * sin_of(normal)) >> 14;
        second = std::max(second, std::min(first, d));
        first = std::max(first, d);
      }
      return second - 1500;
    }
    case 5:  // cross
      return std::max(std::max(au, av) - 4000, std::min(au, av) - 1200);
    case 6:  // crescent, open to the right
      return std::max(length(u, v) - 4000, 3300 - length(u - 2000, v));
    case 7: {  // arrow to the right
      const Int head = std::max(-u, ((u + av) * 11585 >> 14) - 2828);
      return std::min(head, std::max(std::abs(u + 1900) - 2100, av - 1000));
    }
    case 8: {  // heart
      const Int lobe = length(au - 1800, v + 1200) - 2050;
      return std::min(lobe, std::max(((au + std::abs(v - 200)) * 11585 >> 14) - 2550, -v - 1200));
    }
    default:  // three bars
      return std::max(std::min(std::abs(au - 2900), au) - 900, av - 3800);
  }
}

Int texture_distance(Int texture, Int u, Int v, Int d) {
  const auto cell = [](Int t) { return std::abs((t & 2047) - 1024); };
  switch (texture) {
    case 0:  // solid
      return d;
    case 1:  // striped
      return std::max(d, cell(u) - 512);
    case 2:  // dotted
      return std::max(d, length(cell(u), cell(v)) - 700);
    case 3: {  // checked
      const Int a = cell(u), b = cell(v);
      return std::max(d, std::min(std::max(a - 512, b - 512), std::max(512 - a, 512 - b)));
    }
    default:  // outlined
      return std::max(d, -d - 1100);
  }
}

Int clip(Int value) {
  return std::clamp<Int>(value, 0, 255);
}

// Paints where distance(u, v) is negative, with an edge one pixel wide; fade(v) of 256 is how much
// of the ground stays visible.
template <class Distance, class Fade>
void paint(Picture& picture, Int x0, Int y0, Int angle, Int radius, const Colour& colour,
           const Distance& distance, const Fade& fade) {
  const Int size = picture.width, c = cos_of(angle), s = sin_of(angle);
  const Int inv = (Int{1} << 28) / radius;
  // Nothing reaches further than 2.1 radii (the ends of a bar).
  const Int reach = radius * 9 / 4 + 512;
  const Int left = std::clamp<Int>((x0 - reach) >> 8, 0, size);
  const Int right = std::clamp<Int>((x0 + reach) >> 8, 0, size);
  const Int top = std::clamp<Int>((y0 - reach) >> 8, 0, size);
  const Int bottom = std::clamp<Int>((y0 + reach) >> 8, 0, size);
  for (Int y = top; y < bottom; ++y) {
    const Int dy = 256 * y + 128 - y0;
    uint8_t* at = picture.rgb.data() + 3 * (y * size + left);
    for (Int x = left; x < right; ++x, at += 3) {
      const Int dx = 256 * x + 128 - x0;
      const Int u = ((dx * c + dy * s) >> 14) * inv >> 16;
      const Int v = ((dy * c - dx * s) >> 14) * inv >> 16;
      const Int d = distance(u, v);
      Int cover = std::clamp<Int>(128 - (d * radius >> 12), 0, 256);
      if (cover == 0) continue;
      cover = cover * (256 - fade(v)) >> 8;
      for (size_t k = 0; k < 3; ++k)
        at[k] = static_cast<uint8_t>((at[k] * (256 - cover) + colour[k] * cover + 128) >> 8);
    }
  }
}

// The 32 words of a picture and what is derived from them.
struct Draws {
  std::array<uint32_t, 32> w;
  Int q;  // difficulty, 0 to 254

  Draws(uint64_t seed, uint64_t example) {
    for (uint32_t block = 0; block < 8; ++block) {
      const Words four = words(seed, Op::generator, example, 0, 0, block);
      std::copy(four.begin(), four.end(), w.begin() + 4 * block);
    }
    q = std::max<Int>(byte(2) - 72, 0) * 256 / 184;
  }
  Int byte(size_t i) const { return w[i] >> 24; }
  Int share(size_t i) const { return q * (96 + (byte(i) * 5 >> 3)) >> 8; }  // of the difficulty
};

struct Palette {
  std::array<Int, 3> base;
  Int contrast;
};

void paint_clutter(Picture& picture, uint64_t seed, uint64_t example, uint32_t k,
                   const Palette& palette) {
  const Words a = words(seed, Op::generator, example, 0, 0, kClutterBlock + 2 * k);
  const Words b = words(seed, Op::generator, example, 0, 0, kClutterBlock + 2 * k + 1);
  const Int size = picture.width, radius = size * (12 + (Int{a[0] >> 24} * 24 >> 8));
  Colour colour{};
  const std::array<uint32_t, 3> tints = {b[1], b[2], b[3]};
  for (size_t i = 0; i < 3; ++i)
    colour[i] = clip(palette.base[i] + ((Int{tints[i] >> 24} - 128) * palette.contrast >> 7));
  const uint32_t kind = below(b[0], 3);
  paint(
      picture, Int{a[1] >> 24} * size, Int{a[2] >> 24} * size, a[3] >> 22, radius, colour,
      [kind](Int u, Int v) {
        const Int au = std::abs(u), av = std::abs(v);
        const Int d = kind == 0   ? length(u, v)                // disc
                      : kind == 1 ? std::max(au, av)            // square
                                  : std::max(au >> 1, 3 * av);  // bar
        return d - 4096;
      },
      [](Int) { return Int{0}; });
}

void add_noise(Picture& picture, uint64_t seed, uint64_t example, Int amplitude) {
  uint8_t* at = picture.rgb.data();
  size_t left = picture.rgb.size();
  for (uint32_t block = kNoiseBlock; left > 0; ++block) {
    const Words four = words(seed, Op::generator, example, 0, 0, block);
    for (size_t j = 0; j < 16 && left > 0; ++j, --left, ++at) {
      const int byte = static_cast<int>(four[j / 4] >> (8 * (j % 4)) & 255);
      *at = static_cast<uint8_t>(clip(*at + ((byte - 128) * amplitude >> 7)));
    }
  }
}

}  // namespace

ShapesLabel shapes_label(const ShapesOptions& options, uint64_t example) {
  const Words w = words(options.seed, Op::generator, example);
  const auto classes = static_cast<uint32_t>(options.classes);
  const Int true_class = below(w[0], classes);
  const Int redrawn = static_cast<Int>(std::floor(options.noise * 65536 + 0.5));
  if ((w[1] >> 16) >= redrawn) return {true_class, true_class};
  return {Int{w[1] & 0xFFFF} * options.classes >> 16, true_class};
}

Picture draw_shapes(const ShapesOptions& options, uint64_t example) {
  const Int size = options.size, c = shapes_label(options, example).true_class;
  const Int shape = c % 10, texture = c / 10 % 5, two = c / 50;
  const Draws d(options.seed, example);

  const Int radius = size * (118 - (d.share(3) * 78 >> 8));
  const Int room = std::max<Int>(128 * size - radius, 0), spread = 64 + (3 * d.q >> 2);
  const Int x0 = 128 * size + (room * ((d.byte(4) - 128) * spread) >> 15);
  const Int y0 = 128 * size + (room * ((d.byte(5) - 128) * spread) >> 15);
  const Int angle = (Int{d.w[6] >> 22} - 512) * d.share(7) >> 8;
  const Int easy = 256 - d.share(8);
  const Int sign = d.q >= 48 && d.byte(9) >= 128 ? -1 : 1;
  const Int amplitude = 6 + (d.share(10) * 46 >> 8);
  const auto pieces = static_cast<uint32_t>(d.share(11) * (options.clutter + 1) >> 8);
  const Int squash = 256 + d.share(24), shade = d.share(27);

  Palette palette{.base = {}, .contrast = 20 + (120 * easy * easy >> 16)};
  Colour colour{};
  std::array<Int, 3> across{}, down{};
  for (size_t k = 0; k < 3; ++k) {
    palette.base[k] = (sign > 0 ? 80 : 176) + ((d.byte(12 + k) - 128) * d.share(25) >> 9);
    const Int tint = d.byte(15 + k) * d.share(26) >> 8;
    colour[k] = clip(palette.base[k] + (sign * palette.contrast * (256 - (tint >> 1)) >> 8));
    across[k] = (d.byte(18 + k) - 128) * d.q >> 9;
    down[k] = (d.byte(21 + k) - 128) * d.q >> 9;
  }

  Picture picture(size, size);
  uint8_t* at = picture.rgb.data();
  for (Int y = 0; y < size; ++y)
    for (Int x = 0; x < size; ++x)
      for (size_t k = 0; k < 3; ++k) {
        const Int slope = across[k] * (2 * x + 1 - size) + down[k] * (2 * y + 1 - size);
        *at++ = static_cast<uint8_t>(clip(palette.base[k] + (slope * (65536 / size) >> 16)));
      }

  for (uint32_t k = 0; k < pieces; k += 2)  // even numbers lie under the object
    paint_clutter(picture, options.seed, example, k, palette);
  for (Int k = 0; k <= two; ++k) {
    const Int own = two ? radius >> 1 : radius, shift = two ? own * (2 * k - 1) : 0;
    paint(
        picture, x0 + shift, y0, angle, own, colour,
        [=](Int u, Int v) {
          const Int flat = v * squash >> 8;
          return texture_distance(texture, u, flat, shape_distance(shape, u, flat));
        },
        [=](Int v) {
          return std::clamp<Int>(128 + ((v * squash >> 8) >> 5), 0, 256) * shade >> 8;
        });
  }
  for (uint32_t k = 1; k < pieces; k += 2)  // odd numbers lie over it
    paint_clutter(picture, options.seed, example, k, palette);
  add_noise(picture, options.seed, example, amplitude);
  return picture;
}

}  // namespace nfscale
