#include "study/plan.h"

#include <gtest/gtest.h>

#include "study/fake_executor.h"

namespace nfscale {
namespace {

const std::string kFour =
    "grid.skip = []\nnoise.repeats = 2\ncompute.axis = \"flops\"\nexecutor.slots = 2\n";

TEST(Plan, BeforeTheFirstTrialItSaysHowToLearnTheSpeed) {
  Bench bench(kFour);
  const Plan plan = make_plan(bench.study, bench.grid, bench.view(), 2);
  EXPECT_FALSE(plan.device_hours);
  const std::string text = plan_text(bench.study, bench.grid, plan, 0);
  EXPECT_NE(text.find("--measure"), std::string::npos);
  EXPECT_EQ(text.find("ends about"), std::string::npos);
}

TEST(Plan, HoursFollowFromTheTrialsThatRan) {
  Bench bench(kFour);
  FakeExecutor executor(bench.grid, 1);
  bench.run(executor);  // a quarter of an hour a trial, whatever its size
  const Plan plan = make_plan(bench.study, bench.grid, bench.view(), 2);
  ASSERT_TRUE(plan.device_hours);
  // 64 held-out pictures in a forward pass, a third of a step's operations, behind 64 or 128
  // pictures.
  double hours = 0, busy = 0;
  for (size_t c = 0; c < plan.cells.size(); ++c) {
    const double own = *plan.cells[c].device_hours;
    hours += own;
    busy += own * (1 + 64.0 / (3 * static_cast<double>(bench.grid.cells[c].images)));
  }
  EXPECT_DOUBLE_EQ(*plan.device_hours, hours);
  EXPECT_NEAR(*plan.wall_s, busy * 1800, 1e-6);  // two at a time
  EXPECT_EQ(plan.measured, executor.started.size());
  EXPECT_EQ(plan.left_s, 0.0);
  const auto says = [&](const Plan& p, const char* words) {
    return plan_text(bench.study, bench.grid, p, 0).find(words) != std::string::npos;
  };
  EXPECT_TRUE(says(plan, "nothing is left to do"));
  Plan half = plan;
  half.left_s = 3600;
  EXPECT_TRUE(says(half, "what is left ends about "));
}

TEST(Plan, TargetsCountAndAreQuestionedFarBeyondTheGrid) {
  Bench bench(kFour);
  const Plan without = make_plan(bench.study, bench.grid, bench.view(), 1);
  bench.change(kFour + "predict.targets = [\"nfnet_n1@2\", \"nfnet_n7@8\"]\n");
  const Plan with = make_plan(bench.study, bench.grid, bench.view(), 1);
  EXPECT_EQ(with.trials, without.trials + 2);
  EXPECT_GT(with.memory_bytes, without.memory_bytes);
  EXPECT_EQ(cell_at(bench.grid, with.dearest[0]).name, "nfnet_n7@8ep");
  size_t warned = 0;
  for (const std::string& warning : with.warnings) {
    if (!warning.starts_with("predict.targets")) continue;
    ++warned;
    EXPECT_TRUE(warning.starts_with("predict.targets: nfnet_n7@8ep")) << warning;
  }
  EXPECT_EQ(warned, 1u);
  EXPECT_EQ(plan_rows(bench.grid, with).back()[0], "target");
}

TEST(Plan, WhatExceedsTheBudgetIsRefusedWithTheCellsThatFit) {
  Bench bench("budget.trials = 7\nnoise.repeats = 0\n");
  const Plan plan = make_plan(bench.study, bench.grid, bench.view(), 1);
  EXPECT_NE(plan.refused.find("budget.trials: about 12 trials are needed, 7 allowed; these cells "
                              "would fit: nfnet_n0@0.25ep, nfnet_n1@0.25ep"),
            std::string::npos)
      << plan.refused;
}

}  // namespace
}  // namespace nfscale
