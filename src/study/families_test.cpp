#include "study/families.h"

#include <gtest/gtest.h>

#include <cmath>

#include "study/synthetic_law.h"

namespace nfscale {
namespace {

// The invented study, its losses `factor` times as high at compute 1 and `turn` times more for
// every e-fold of it.
FamilyPoints invented(const std::string& family, double factor, double wobble, double turn = 1) {
  FamilyPoints f = {family, {}, 0};
  for (int i = 0; i < 6; ++i)
    for (const double e : law::kEpochs) {
      const double w = 1 + wobble * std::cos(37.0 * static_cast<double>(f.points.size()) + factor);
      f.points.push_back({family + std::to_string(i), law::hours(i, e),
                          law::best_loss(i, e) * factor * w *
                              std::pow(turn, std::log(law::hours(i, e) / law::hours(2, 1))),
                          law::model(i).params, e, law::model(i).macs});
    }
  return f;
}

DrawOptions few_draws() {
  DrawOptions options;
  options.draws = 200;
  return options;
}

TEST(Families, TheOneWithTheLowerLawIsAheadByTheDifference) {
  for (const double factor : {1.02, 0.98}) {
    const auto c =
        compare_families(invented("nfnet", 1, 0.001), invented("vit", factor, 0.001), few_draws());
    ASSERT_TRUE(c && c->middle.interval);
    EXPECT_EQ(c->first, "nfnet");
    EXPECT_NEAR(c->middle.difference, std::log(factor), 2e-3);
    EXPECT_LT(c->middle.interval->low, std::log(factor));
    EXPECT_GT(c->middle.interval->high, std::log(factor));
    EXPECT_GT(c->middle.interval->low * c->middle.interval->high, 0) << "decided";
  }
}

TEST(Families, EqualFamiliesAreNotDecided) {
  const auto c =
      compare_families(invented("nfnet", 1, 0.004), invented("vit", 1.0001, 0.004), few_draws());
  ASSERT_TRUE(c && c->middle.interval);
  EXPECT_LT(c->middle.interval->low, 0);
  EXPECT_GT(c->middle.interval->high, 0);
  EXPECT_FALSE(compare_families(invented("nfnet", 1, 0), {"vit", {}, 0}, few_draws()));
}

TEST(Families, LawsThatCrossDifferInSignAtTheEnds) {
  const auto c =
      compare_families(invented("nfnet", 1, 0.001), invented("vit", 1, 0.001, 0.99), few_draws());
  ASSERT_TRUE(c);
  EXPECT_LT(c->low.compute, c->middle.compute);
  EXPECT_GT(c->low.difference, 0);
  EXPECT_LT(c->high.difference, 0);
}

// The noise of one run, where it is known, widens what few runs that happen to fit a line would
// claim.
TEST(Families, TheNoiseOfARunKeepsALuckyLineFromDeciding) {
  FamilyPoints first = invented("nfnet", 1, 0), second = invented("vit", 1.003, 0);
  ASSERT_GT(compare_families(first, second, few_draws())->middle.interval->low, 0);
  first.sigma = second.sigma = 0.02;
  EXPECT_LT(compare_families(first, second, few_draws())->middle.interval->low, 0);
}

}  // namespace
}  // namespace nfscale
