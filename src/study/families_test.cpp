#include "study/families.h"

#include <gtest/gtest.h>

#include <cmath>

#include "study/synthetic_law.h"

namespace nfscale {
namespace {

// The invented study, and the same as ViTs whose loss is `factor` times as high.
std::vector<FrontierPoint> both(double factor, double wobble) {
  std::vector<FrontierPoint> points;
  for (const bool vit : {false, true})
    for (int i = 0; i < 6; ++i)
      for (const double e : law::kEpochs) {
        const double w = 1 + wobble * std::cos(37.0 * static_cast<double>(points.size()));
        points.push_back({(vit ? "vit_" : "nfnet_") + std::to_string(i), law::hours(i, e),
                          law::best_loss(i, e) * (vit ? factor : 1) * w, law::model(i).params, e,
                          law::model(i).macs});
      }
  return points;
}

TEST(Families, TheOneWithTheLowerLawIsAheadByTheDifference) {
  DrawOptions options;
  options.draws = 200;
  const auto c = compare_families(both(1.02, 0.001), options);
  ASSERT_TRUE(c && c->interval);
  EXPECT_EQ(c->ahead, "NFNet");
  EXPECT_NEAR(c->difference, std::log(1.02), 2e-3);
  EXPECT_GT(c->interval->low, 0);
  const auto turned = compare_families(both(0.98, 0.001), options);
  EXPECT_EQ(turned->ahead, "ViT");
}

TEST(Families, EqualFamiliesAreNotDecided) {
  DrawOptions options;
  options.draws = 200;
  const auto c = compare_families(both(1.0001, 0.004), options);
  ASSERT_TRUE(c && c->interval);
  EXPECT_LT(c->interval->low, 0);
  std::vector<FrontierPoint> one = both(1, 0);
  one.resize(36);
  EXPECT_FALSE(compare_families(one, options));
}

}  // namespace
}  // namespace nfscale
