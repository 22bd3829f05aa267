#include "train/evaluate.h"

#include <gtest/gtest.h>

namespace nfscale {
namespace {

// Four examples by hand: losses 1, 2, 3, 6; two right; one bin holds two.
TEST(Evaluation, AddsUpWhatIsKnownOfExamples) {
  EvaluationSum sum(3);
  sum.add({"", 0, 0, 1, 0.95}, true);
  sum.add({"", 0, 2, 2, 0.97}, true);
  sum.add({"", 1, 1, 3, 0.50}, true);
  sum.add({"", 1, 2, 6, 0.40}, false);
  sum.add_broken();
  const Evaluation e = sum.result();
  EXPECT_DOUBLE_EQ(e.loss, 3);
  // Variance (4 + 1 + 0 + 9) / 3, of a mean of four.
  EXPECT_NEAR(e.loss_se, std::sqrt(14.0 / 3 / 4), 1e-12);
  EXPECT_EQ(e.top1, 0.5);
  EXPECT_EQ(e.top5, 0.75);
  EXPECT_EQ(e.examples, 5);
  EXPECT_EQ(e.broken, 1);
  // Bins of 1/15: {0.95, 0.97} with one right, {0.50} right, {0.40} wrong.
  EXPECT_NEAR(e.ece, (std::abs(1.92 - 1) + 0.5 + 0.4) / 4, 1e-12);
  EXPECT_EQ(e.classes[0].right, 1);
  EXPECT_DOUBLE_EQ(e.classes[1].loss, 4.5);
  EXPECT_EQ(e.classes[2].examples, 0);
  ASSERT_EQ(e.confused.size(), 2u);
  EXPECT_EQ(e.confused[0].predicted, 2);
}

TEST(Evaluation, WhatIsNotFiniteStaysVisible) {
  EvaluationSum sum(2);
  sum.add({"", 0, 0, NAN, NAN}, true);
  sum.add({"", 1, 0, 2, 0.5}, true);
  EXPECT_TRUE(std::isnan(sum.result().loss));
  EXPECT_TRUE(std::isfinite(sum.result().ece));
  EvaluationSum large(2);
  large.add({"", 0, 0, INFINITY, 0.5}, true);
  EXPECT_TRUE(std::isinf(large.result().loss));
}

TEST(Evaluation, NothingToEvaluateIsZero) {
  const Evaluation e = EvaluationSum(2).result();
  EXPECT_EQ(e.loss, 0);
  EXPECT_EQ(e.loss_se, 0);
  EXPECT_TRUE(e.confused.empty());
}

}  // namespace
}  // namespace nfscale
