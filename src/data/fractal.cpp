#include "data/fractal.h"

#include <algorithm>
#include <bitset>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/random.h"

namespace nfscale {
namespace {

constexpr double kOne = 1 << 20;
constexpr int64_t kFar = int64_t{1} << 40;  // nothing that contracts gets there

int64_t fixed(double v) {
  return static_cast<int64_t>(std::floor(v * kOne + 0.5));
}
double part(uint32_t w) {
  return double{uniform(w)};
}

// Words of a class or of one of its pictures, one after the other.
class Draws {
 public:
  Draws(uint64_t seed, uint64_t example, uint32_t copy, uint32_t block = 0)
      : seed_(seed), example_(example), copy_(copy), block_(block) {}
  uint32_t next() {
    if (at_ == 4) {
      words_ = words(seed_, Op::generator, example_, block_ >> 16, copy_, block_ & 0xFFFF);
      ++block_;
      at_ = 0;
    }
    return words_[at_++];
  }

 private:
  uint64_t seed_, example_;
  uint32_t copy_, block_;
  size_t at_ = 4;
  Words words_{};
};

struct Point {
  int64_t x = 0, y = 0;
};

Point follow(const FractalSystem& system, Point p, uint32_t choice) {
  uint64_t left = choice;
  const AffineMap* map = &system.maps.back();
  for (const AffineMap& m : system.maps) {
    if (left < m.weight) {
      map = &m;
      break;
    }
    left -= m.weight;
  }
  return {std::clamp(((map->a * p.x + map->b * p.y) >> 20) + map->e, -kFar, kFar),
          std::clamp(((map->c * p.x + map->d * p.y) >> 20) + map->f, -kFar, kFar)};
}

struct Sizes {
  double first, second;
};

AffineMap draw_map(Draws& draws, Sizes& sizes) {
  constexpr double kPi = std::numbers::pi;
  const double t = kPi * (2 * part(draws.next()) - 1), p = kPi * (2 * part(draws.next()) - 1);
  sizes.first = 0.3 + 0.6 * part(draws.next());
  sizes.second = sizes.first * (0.2 + 0.7 * part(draws.next()));
  const double dx = coin(draws.next()) ? -1 : 1, dy = coin(draws.next()) ? -1 : 1;
  const double x = 2 * part(draws.next()) - 1, y = 2 * part(draws.next()) - 1;
  const double ct = std::cos(t), st = std::sin(t), cp = std::cos(p), sp = std::sin(p);
  // R(t) diag(first, second) R(p) D
  AffineMap map{};
  map.a = fixed(dx * (ct * sizes.first * cp - st * sizes.second * sp));
  map.b = fixed(dy * (-ct * sizes.first * sp - st * sizes.second * cp));
  map.c = fixed(dx * (st * sizes.first * cp + ct * sizes.second * sp));
  map.d = fixed(dy * (-st * sizes.first * sp + ct * sizes.second * cp));
  map.e = fixed(x);
  map.f = fixed(y);
  map.weight = static_cast<uint64_t>(fixed(sizes.first * sizes.second + 0.01));
  return map;
}

void share_weights(std::vector<AffineMap>& maps) {
  uint64_t sum = 0;
  for (const AffineMap& m : maps) sum += m.weight;
  for (AffineMap& m : maps) m.weight = (m.weight << 32) / sum;
}

constexpr int kTrial = 1000, kDropped = 20;

// Where the points of a trial lie; false where they spread over too little.
bool frame(FractalSystem& system, Draws& draws) {
  std::vector<Point> points;
  Point p;
  for (int i = 0; i < kTrial + kDropped; ++i) {
    p = follow(system, p, draws.next());
    if (i >= kDropped) points.push_back(p);
  }
  const auto [left, right] = std::minmax_element(
      points.begin(), points.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
  const auto [top, bottom] = std::minmax_element(
      points.begin(), points.end(), [](const Point& a, const Point& b) { return a.y < b.y; });
  const int64_t width = right->x - left->x, height = bottom->y - top->y,
                side = std::max(width, height);
  system.centre = {(left->x + right->x) / 2, (top->y + bottom->y) / 2};
  system.radius = std::max<int64_t>(1, side / 2);
  std::bitset<64 * 64> seen;
  for (const Point& q : points) {
    const int64_t x = std::min<int64_t>(63, 64 * (q.x - left->x) / (side + 1)),
                  y = std::min<int64_t>(63, 64 * (q.y - top->y) / (side + 1));
    seen.set(static_cast<size_t>(64 * y + x));
  }
  return 20 * seen.count() >= seen.size();
}

using Colour = std::array<double, 3>;
Colour draw_colour(Draws& draws) {
  Colour c;
  for (double& v : c) v = 255 * part(draws.next());
  return c;
}

// How often the points of the system fall on each pixel.
std::vector<uint32_t> count_hits(const FractalSystem& system, Draws& draws, int64_t size) {
  const double angle = 2 * std::numbers::pi * part(draws.next());
  const bool mirrored = coin(draws.next());
  // The circle around the frame of the trial fills the picture.
  const double scale = static_cast<double>(size) / (2 * 1.2 * static_cast<double>(system.radius));
  const int64_t cx = fixed(scale * std::cos(angle) * kOne),
                sx = fixed(scale * std::sin(angle) * kOne);
  std::vector<uint32_t> hits(static_cast<size_t>(size * size));
  Point p = {system.centre[0], system.centre[1]};
  for (int64_t i = 0; i < 8 * size * size + kDropped; ++i) {
    p = follow(system, p, draws.next());
    if (i < kDropped) continue;
    const int64_t u = std::clamp(p.x - system.centre[0], -4 * system.radius, 4 * system.radius),
                  v = std::clamp(p.y - system.centre[1], -4 * system.radius, 4 * system.radius);
    int64_t x = ((cx * u - sx * v) >> 40) + size / 2;
    const int64_t y = ((sx * u + cx * v) >> 40) + size / 2;
    if (mirrored) x = size - 1 - x;
    if (x >= 0 && x < size && y >= 0 && y < size) ++hits[static_cast<size_t>(y * size + x)];
  }
  return hits;
}

}  // namespace

FractalSystem fractal_system(uint64_t seed, uint64_t label) {
  constexpr uint32_t kTries = 1000, kBlocks = 512;  // words of a try: 8 a map, 1020 of the trial
  for (uint32_t attempt = 0; attempt < kTries; ++attempt) {
    Draws draws(seed, label, 0, attempt * kBlocks);
    FractalSystem system;
    double contraction = 0;
    const auto count = 2 + below(draws.next(), 3);
    for (uint32_t i = 0; i < count; ++i) {
      Sizes sizes{};
      system.maps.push_back(draw_map(draws, sizes));
      contraction += (sizes.first + 2 * sizes.second) / count;
    }
    share_weights(system.maps);
    if (contraction >= 0.9 && contraction <= 1.4 && frame(system, draws)) return system;
  }
  NFSCALE_CHECK(false);  // about one try of ten succeeds
  return {};
}

Picture draw_fractal(const FractalSystem& system, uint64_t seed, uint64_t label, uint64_t number,
                     int64_t size) {
  // Class and picture share the 48 bits of an example.
  Draws draws(seed, label << 24 | number, 1);
  FractalSystem own = system;
  for (AffineMap& m : own.maps) {
    const int64_t factor = fixed(1 + 0.1 * (part(draws.next()) - 0.5));
    for (int64_t* v : {&m.a, &m.b, &m.c, &m.d}) *v = (*v * factor) >> 20;
  }
  const Colour dim = draw_colour(draws), bright = draw_colour(draws), corner = draw_colour(draws),
               other = draw_colour(draws);
  const std::vector<uint32_t> hits = count_hits(own, draws, size);
  const double most = std::log1p(*std::max_element(hits.begin(), hits.end()));
  Picture p(size, size);
  for (int64_t y = 0; y < size; ++y)
    for (int64_t x = 0; x < size; ++x) {
      const uint32_t n = hits[static_cast<size_t>(y * size + x)];
      const double b = most > 0 ? std::log1p(n) / most : 0,
                   down = static_cast<double>(x + y) / static_cast<double>(2 * size);
      for (size_t c = 0; c < 3; ++c) {
        const double ground = 0.4 * (corner[c] + down * (other[c] - corner[c]));
        const double mark = dim[c] + b * (bright[c] - dim[c]);
        const double v = n ? ground + std::min(1.0, 0.3 + b) * (mark - ground) : ground;
        p.rgb[static_cast<size_t>(3 * (y * size + x)) + c] =
            static_cast<uint8_t>(std::clamp(v + 0.5, 0.0, 255.0));
      }
    }
  return p;
}

}  // namespace nfscale
