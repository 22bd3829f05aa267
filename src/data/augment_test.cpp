#include "data/augment.h"

#include <gtest/gtest.h>

#include <set>

#include "data/testing.h"

namespace nfscale {
namespace {

TEST(Augment, CropVectors) {
  int seen = 0;
  for (auto& row : test_csv("golden-transforms/crops.csv")) {
    const auto n = [&](const char* key) { return std::stoll(row[key]); };
    const CropBox c =
        inception_box(n("width"), n("height"), static_cast<uint64_t>(n("seed")),
                      {static_cast<uint64_t>(n("epoch")), static_cast<uint64_t>(n("example")),
                       static_cast<uint32_t>(n("copy"))});
    EXPECT_EQ(c.box, (Box{n("x"), n("y"), n("w"), n("h")}));
    EXPECT_EQ(c.attempt, n("attempt"));
    ++seen;
  }
  EXPECT_EQ(seen, 40);
}

Picture gradient(int64_t width, int64_t height) {
  Picture p(width, height);
  for (size_t i = 0; i < p.rgb.size(); ++i) p.rgb[i] = static_cast<uint8_t>(i * 31 >> 2);
  return p;
}

// The evaluated part is the centre of its frame: bit by bit where the frame is resized alike.
TEST(Augment, AFrameHasTheEvaluatedPartInItsMiddle) {
  for (const auto& [w, h] : std::vector<std::pair<int, int>>{{100, 100}, {200, 90}, {90, 200}})
    for (const char* rule : {"squash32", "pct:0.875", "pct:0.9"}) {
      if (w != h && std::string(rule) != "squash32") continue;  // half a pixel off
      const Picture p = gradient(w, h), part = evaluation_crop(p, rule, 40);
      const Frame frame = frame_of(rule, 40);
      const Picture whole = evaluation_crop(p, frame.rule, frame.size);
      ASSERT_EQ(whole.width, frame.size);
      const int64_t at = (frame.size - 40) / 2;
      for (int64_t y = 0; y < 40; ++y)
        EXPECT_TRUE(std::equal(part.rgb.begin() + 3 * y * 40, part.rgb.begin() + 3 * (y + 1) * 40,
                               whole.rgb.begin() + 3 * ((y + at) * frame.size + at)))
            << rule << " of " << w << " x " << h << ", row " << y;
    }
  EXPECT_EQ(frame_of("squash32", 224).size, 256);
  EXPECT_EQ(frame_of("pct:0.875", 224).size, 256);
  EXPECT_EQ(frame_of("pct:1", 32).size, 32);
}

TEST(Augment, EvaluationCropsHaveTheirSizeForAnyShape) {
  for (const auto& [w, h] : {std::pair{1, 1}, {1, 60}, {300, 2}, {37, 23}, {224, 224}, {65500, 1}})
    for (const char* rule : {"squash32", "pct:1", "pct:0.875", "center32", "auto"}) {
      const Picture p = evaluation_crop(gradient(w, h), rule, 32);
      EXPECT_EQ(p.width, 32);
      EXPECT_EQ(p.height, 32);
    }
}

TEST(Augment, TheWholePictureAtItsOwnSizeStaysAsItIs) {
  const Picture p = gradient(24, 24);
  EXPECT_EQ(evaluation_crop(p, "pct:1", 24).rgb, p.rgb);
}

TEST(Augment, WrongCropRulesAreRefused) {
  for (const char* rule : {"", "pct:", "pct:0", "pct:1.5", "pct:nan", "squash16", "center"})
    EXPECT_NE(error_of([&] { check_eval_crop(rule); }).find("data.eval_crop"), std::string::npos);
}

TEST(Augment, NormalisationIsRoundedOnce) {
  const DataConfig data;
  Picture p(1, 1);
  p.rgb = {0, 128, 255};
  float row[3];
  Normalisation(data).apply(p, row);
  EXPECT_EQ(row[0], (0 - static_cast<float>(0.485 * 255)) * static_cast<float>(1 / (0.229 * 255)));
  EXPECT_EQ(row[2],
            (255 - static_cast<float>(0.406 * 255)) * static_cast<float>(1 / (0.225 * 255)));
}

TEST(Augment, PaddingIsTheMeanColourAndTheWindowMoves) {
  DataConfig data;
  data.augment.crop = "pad";
  data.augment.flip = false;
  data.augment.pad = 4;
  const Picture p = gradient(16, 16);
  const Normalisation normalise(data);
  std::vector<float> whole(16 * 16 * 3), row(16 * 16 * 3);
  normalise.apply(p, whole.data());
  std::set<std::pair<int, int>> places;
  for (uint64_t example = 0; example < 300; ++example) {
    const Slot slot = {2, example, 0};
    training_row(p, data, normalise, 7, slot, 16, row.data());
    const Words w = words(7, Op::crop, example, 2, 0, 0);
    const int left = static_cast<int>(below(w[0], 9)) - 4,
              top = static_cast<int>(below(w[1], 9)) - 4;
    places.insert({left, top});
    for (int y = 0; y < 16; ++y)
      for (int x = 0; x < 16; ++x) {
        const int from_x = x + left, from_y = y + top;
        const bool inside = from_x >= 0 && from_x < 16 && from_y >= 0 && from_y < 16;
        const auto at = static_cast<size_t>(3 * (y * 16 + x));
        ASSERT_EQ(row[at], inside ? whole[static_cast<size_t>(3 * (from_y * 16 + from_x))] : 0.0f);
      }
  }
  EXPECT_GT(places.size(), 60u);
}

TEST(Augment, HalfOfThePicturesAreMirrored) {
  DataConfig data;
  data.augment.crop = "center";
  const Picture p = gradient(9, 9);
  const Normalisation normalise(data);
  std::vector<float> plain(9 * 9 * 3), row(9 * 9 * 3);
  normalise.apply(p, plain.data());
  int mirrored = 0;
  for (uint64_t example = 0; example < 400; ++example) {
    training_row(p, data, normalise, 7, {0, example, 0}, 9, row.data());
    if (row == plain) continue;
    ++mirrored;
    for (size_t x = 0; x < 9; ++x) ASSERT_EQ(row[3 * x + 1], plain[3 * (8 - x) + 1]);
  }
  EXPECT_GT(mirrored, 150);
  EXPECT_LT(mirrored, 250);
}

}  // namespace
}  // namespace nfscale
