// fractal: pictures of the attractors of random affine maps, a class for every system of maps, for
// pretraining without data (Kataoka et al., arXiv 2101.08515; the singular values of Anderson and
// Farrell, arXiv 2110.03091).
//
// ?classes=2..10000&per_class=N&size=8..512&seed=S&split=train|heldout
//
// Coefficients are rounded to 2^-20 and points are iterated in whole numbers, so that they fall on
// the same pixels on every machine. Held-out pictures of a class are those with numbers from 2^23
// on.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "data/picture.h"

namespace nfscale {

// x -> (a x + b y + e, c x + d y + f), in units of 2^-20; chosen with `weight` of 2^32.
struct AffineMap {
  int64_t a, b, c, d, e, f;
  uint64_t weight;
};

struct FractalSystem {
  std::vector<AffineMap> maps;  // 2 to 4; the points of 2 hardly ever spread enough
  std::array<int64_t, 2> centre{};
  int64_t radius = 1;  // of nearly all points, in units of 2^-20
};

// The system of a class: drawn again until it contracts neither too much nor too little, and its
// points spread.
FractalSystem fractal_system(uint64_t seed, uint64_t label);

inline constexpr uint64_t kFractalHeldout = uint64_t{1} << 23;

// Picture `number` of the class: the maps a little larger or smaller, the view turned and perhaps
// mirrored, colours of its own.
Picture draw_fractal(const FractalSystem& system, uint64_t seed, uint64_t label, uint64_t number,
                     int64_t size);

}  // namespace nfscale
