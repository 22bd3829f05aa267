#include "data/randaugment.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/files.h"
#include "base/random.h"

namespace nfscale {
namespace {

constexpr int64_t kWidth = 24, kHeight = 16;

// As tests/data/randaugment/make_randaugment.py makes it.
Picture picture() {
  Picture p(kWidth, kHeight);
  size_t i = 0;
  for (int64_t y = 0; y < kHeight; ++y)
    for (int64_t x = 0; x < kWidth; ++x)
      for (int64_t c = 0; c < 3; ++c)
        p.rgb[i++] =
            static_cast<uint8_t>((20 + 9 * x + 3 * y + 40 * c + x * y * (c + 3) % 61) % 251);
  return p;
}

bool has_sign(Augmentation a) {
  return a == Augmentation::rotate ||
         (a >= Augmentation::shear_x && a <= Augmentation::translate_y);
}
// Blends are of whole numbers and a factor that has no exact binary form.
bool is_blend(Augmentation a) {
  return a >= Augmentation::color && a <= Augmentation::sharpness;
}

TEST(RandAugment, OperationsAreThoseOfPillow) {
  const std::string expected =
      read_file(Path(NFSCALE_SOURCE_DIR) / "tests/data/randaugment/pillow.bin");
  size_t at = 0;
  for (uint32_t op = 0; op < kAugmentations; ++op)
    for (const double strength : {0.05, 0.1, 0.5, 1.0, 1.5})
      for (const bool negative : {false, true}) {
        const auto operation = static_cast<Augmentation>(op);
        if (negative && !has_sign(operation)) continue;
        Picture p = picture();
        augment(p, {operation, strength, negative, 7, 5});
        ASSERT_LE(at + p.rgb.size(), expected.size());
        int most = 0, off = 0;
        for (const uint8_t v : p.rgb) {
          const int d = std::abs(v - static_cast<int>(static_cast<uint8_t>(expected[at++])));
          most = std::max(most, d);
          off += d > 0;
        }
        // A turned pixel may come from exactly between two.
        const bool tied = operation == Augmentation::rotate && off <= kWidth * kHeight * 3 / 100;
        EXPECT_LE(most, is_blend(operation) ? 1
                        : tied              ? 255
                                            : 0)
            << fmt::format("operation {} of strength {} {}: {} values differ", op, strength,
                           negative ? "-" : "+", off);
        EXPECT_LE(off, kWidth * kHeight * 3 / 10) << op;
      }
  EXPECT_EQ(at, expected.size());
}

TEST(RandAugment, EveryOperationIsDrawnAboutAsOften) {
  const Picture p = picture();
  std::map<Augmentation, int> counts;
  int negative = 0;
  for (uint64_t example = 0; example < 3200; ++example) {
    const AugmentationDraw d = draw_augmentation(3, {1, example, 0}, 2, 5, p);
    ++counts[d.operation];
    negative += d.negative;
    EXPECT_EQ(d.strength, 0.5);
    EXPECT_LT(d.x, kWidth);
    EXPECT_LT(d.y, kHeight);
  }
  ASSERT_EQ(counts.size(), kAugmentations);
  for (const auto& [operation, n] : counts) EXPECT_NEAR(n, 200, 60);
  EXPECT_NEAR(negative, 1600, 120);
}

// Another layer, copy or epoch is another draw; the same one is the same.
TEST(RandAugment, ADrawIsAFunctionOfTheSlot) {
  const Picture p = picture();
  std::set<std::pair<int, int64_t>> seen;
  for (const uint32_t layer : {0u, 1u})
    for (const uint64_t epoch : {0u, 1u})
      for (const uint32_t copy : {0u, 1u}) {
        const Slot slot = {epoch, 17, copy};
        const AugmentationDraw a = draw_augmentation(3, slot, layer, 5, p),
                               b = draw_augmentation(3, slot, layer, 5, p);
        EXPECT_EQ(a.operation, b.operation);
        EXPECT_EQ(a.x, b.x);
        seen.insert({static_cast<int>(a.operation), 100 * a.x + a.y});
      }
  EXPECT_GE(seen.size(), 7u);
}

}  // namespace
}  // namespace nfscale
