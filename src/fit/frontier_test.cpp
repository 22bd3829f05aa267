#include "fit/frontier.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fit/influence.h"

namespace nfscale {
namespace {

// Six sizes by six budgets whose parabolas touch 2.6 C^-0.05 at C = N^1.8: the optimal size grows
// as C^(1/1.8), epochs as C^(1 - 1/1.8) where compute is size times epochs.
std::vector<FrontierPoint> exact() {
  std::vector<FrontierPoint> points;
  for (int i = 0; i < 6; ++i)
    for (int j = -4; j <= 5; ++j) {
      FrontierPoint p;
      p.model = std::string(1, static_cast<char>('a' + i));
      p.size = 100 * std::exp2(i);
      p.macs = 7 * std::pow(p.size, 1.1);
      const double touch = std::pow(p.size, 1.8);
      p.compute = touch * std::exp2(j);
      p.epochs = p.compute / p.size;
      const double d = std::log(p.compute / touch);
      p.loss = 2.6 * std::pow(p.compute, -0.05) * std::exp(0.01 * d * d);
      points.push_back(p);
    }
  return points;
}

TEST(Frontier, TheTangentOfExactCurvesIsTheirEnvelope) {
  const auto t = common_tangent(exact());
  ASSERT_TRUE(t);
  EXPECT_NEAR(t->exponent, 0.05, 1e-7);
  EXPECT_EQ(t->touches.size(), 6u);
  EXPECT_NEAR(t->rates.size, 1 / 1.8, 1e-6);
  EXPECT_NEAR(t->rates.epochs, 1 - 1 / 1.8, 1e-6);
  EXPECT_NEAR(t->rates.macs, 1.1 / 1.8, 1e-6);
  EXPECT_NEAR(t->at(1e5), 2.6 * std::pow(1e5, -0.05), 1e-7);
  for (const FrontierPoint& p : exact()) EXPECT_NEAR(t->cell_at(p.size, p.compute), p.loss, 1e-6);
}

TEST(Frontier, SlicesAgreeWithTheTangent) {
  const auto s = budget_slices(exact());
  ASSERT_TRUE(s);
  EXPECT_NEAR(s->exponent, 0.05, 2e-3);
  EXPECT_NEAR(s->rates.size, 1 / 1.8, 1e-2);
  EXPECT_NEAR(s->rates.ratio(), 0.8, 0.05);
}

TEST(Frontier, ALineThroughTheBestCellsLiesAboveTheLaw) {
  const auto line = pareto_line(exact());
  ASSERT_TRUE(line);
  std::vector<FrontierPoint> points = exact();
  double above = 0;
  for (const size_t i : pareto_set(points))
    above += points[i].loss - 2.6 * std::pow(points[i].compute, -0.05);
  EXPECT_GT(above, 0);
  for (const size_t i : lower_hull(points))
    for (const FrontierPoint& p : points)
      EXPECT_FALSE(p.compute < points[i].compute && p.loss < points[i].loss);
}

TEST(Frontier, WithoutTouchingModelsThereIsNoTangent) {
  std::vector<FrontierPoint> few = exact();
  std::erase_if(few, [](const FrontierPoint& p) { return p.model > "b"; });
  EXPECT_FALSE(common_tangent(few));
  EXPECT_FALSE(budget_slices(few));
  EXPECT_FALSE(common_tangent({}));
  std::vector<FrontierPoint> short_ones = exact();  // all budgets before the best one
  std::erase_if(short_ones,
                [](const FrontierPoint& p) { return p.compute > std::pow(p.size, 1.8) * 0.9; });
  EXPECT_FALSE(common_tangent(short_ones));
}

TEST(Frontier, DrawsAreKeyedAndScatterAsTheNoiseDoes) {
  std::vector<FrontierPoint> points = exact();
  for (size_t i = 0; i < points.size(); ++i)
    points[i].loss *= 1 + 0.001 * std::cos(7.0 * static_cast<double>(i));
  DrawOptions options;
  options.draws = 100;
  const FrontierDraws a = draw_frontier(points, LawKind::tangent, options);
  const FrontierDraws b = draw_frontier(points, LawKind::tangent, options);
  EXPECT_EQ(a.tangent_exponent, b.tangent_exponent);
  options.seed = 5;
  EXPECT_NE(draw_frontier(points, LawKind::tangent, options).tangent_exponent, a.tangent_exponent);
  options.sigma = 10 * a.noise;
  EXPECT_NEAR(draw_frontier(points, LawKind::tangent, options).noise, 10 * a.noise, 1e-12);
}

TEST(Influence, NamesTheCellThatWasRaised) {
  std::vector<FrontierPoint> points = exact();
  for (size_t i = 0; i < points.size(); ++i)
    points[i].loss *= 1 + 0.0005 * std::cos(7.0 * static_cast<double>(i));
  EXPECT_TRUE(suspects(points).empty());
  points[27].loss *= 1.02;
  const auto found = suspects(points);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].point, 27u);
  points[27].loss /= 1.04;  // better than believed: no fault
  EXPECT_TRUE(suspects(points).empty());
  points.resize(8);
  EXPECT_TRUE(std::isnan(influences(points)[0].z));
}

}  // namespace
}  // namespace nfscale
