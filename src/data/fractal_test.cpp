#include "data/fractal.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/hash.h"
#include "data/source.h"
#include "data/testing.h"

namespace nfscale {
namespace {

// Area of the unit square under a map is |det|: contracting, so that no point runs away.
TEST(Fractal, SystemsContractAndTheirPicturesFillThePlace) {
  std::map<size_t, int> maps;
  for (uint64_t label = 0; label < 60; ++label) {
    const FractalSystem s = fractal_system(0, label);
    ++maps[s.maps.size()];
    double weight = 0, contraction = 0;
    for (const AffineMap& m : s.maps) {
      const auto v = [](int64_t x) { return static_cast<double>(x) / (1 << 20); };
      const double det = v(m.a) * v(m.d) - v(m.b) * v(m.c);
      const double squares = v(m.a) * v(m.a) + v(m.b) * v(m.b) + v(m.c) * v(m.c) + v(m.d) * v(m.d);
      // Singular values from their product and the sum of their squares.
      const double sum = std::sqrt(squares + 2 * std::abs(det)),
                   gap = std::sqrt(std::max(0.0, squares - 2 * std::abs(det)));
      const double first = (sum + gap) / 2, second = (sum - gap) / 2;
      EXPECT_GT(first, 0.3 - 1e-5);
      EXPECT_LT(first, 0.9 + 1e-5);
      EXPECT_LT(second / first, 0.9 + 1e-5);
      contraction += (first + 2 * second) / static_cast<double>(s.maps.size());
      weight += static_cast<double>(m.weight) / 0x1p32;
    }
    EXPECT_NEAR(weight, 1, 1e-6);
    EXPECT_GT(contraction, 0.9 - 1e-4);
    EXPECT_LT(contraction, 1.4 + 1e-4);
    const Picture p = draw_fractal(s, 0, label, 0, 32);
    std::set<std::array<uint8_t, 3>> colours;
    for (size_t i = 0; i < p.rgb.size(); i += 3)
      colours.insert({p.rgb[i], p.rgb[i + 1], p.rgb[i + 2]});
    EXPECT_GT(colours.size(), 60u) << label;
  }
  // Two maps hardly ever spread over enough.
  EXPECT_GT(maps[3], 10);
  EXPECT_GT(maps[4], 10);
}

TEST(Fractal, PicturesDifferByClassNumberAndSplitAndNothingElse) {
  const auto train = open_source({"fractal:?classes=5&per_class=3&size=16"}),
             again = open_source({"fractal:?classes=5&per_class=3&size=16"}),
             heldout = open_source({"fractal:?classes=5&per_class=3&size=16&split=heldout"}),
             seed = open_source({"fractal:?classes=5&per_class=3&size=16&seed=1"});
  ASSERT_EQ(train->size(), 15u);
  EXPECT_EQ(train->fingerprint(), again->fingerprint());
  EXPECT_NE(train->fingerprint(), heldout->fingerprint());
  std::set<std::string> all;
  for (uint64_t i = 0; i < 15; ++i) {
    EXPECT_EQ(train->label(i), static_cast<int64_t>(i % 5));
    EXPECT_EQ(train->read(i).picture->rgb, again->read(i).picture->rgb);
    for (const auto& source : {train, heldout, seed})
      all.insert(sha256(source->read(i).picture->rgb));
  }
  EXPECT_EQ(all.size(), 45u);
}

}  // namespace
}  // namespace nfscale
