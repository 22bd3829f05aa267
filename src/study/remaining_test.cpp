#include "study/remaining.h"

#include <gtest/gtest.h>

#include <cmath>

#include "study/plan.h"
#include "study/test_study.h"

namespace nfscale {
namespace {

Study both_families(const TestFolder& folder, const std::string& target) {
  folder.write("base.toml", kTestBase);
  folder.write("s.toml",
               "study.name = \"t\"\nstudy.base = \"base.toml\"\n"
               "grid.models = [\"nfnet_n0\", \"nfnet_n2\", \"vit_n0\"]\ngrid.epochs = [0.25, 0.5]\n"
               "executor.slots = 2\npredict.targets = [\"" +
                   target + "\"]\n");
  return load_study(folder.path / "s.toml", folder.path / "out");
}

// The search is through, all certified. train() gives a model a trial of each budget.
struct Searched {
  TestFolder folder;
  Study study;
  Grid grid;
  StudyView view;

  explicit Searched(const std::string& target)
      : study(both_families(folder, target)), grid(make_grid(study, test_data())) {
    view.search.finished = true;
    view.search.cells.resize(grid.cells.size());
    for (CellSearch& cell : view.search.cells) cell.searched = cell.certified = true;
  }

  // Operations with those of the evaluation: 64 pictures, 2 a multiply-add.
  static double operations(const Cell& cell) {
    return cell.flops + 2 * 64 * static_cast<double>(cell.macs);
  }

  template <class Seconds>
  void train(const std::string& model, Seconds seconds) {
    for (size_t c = 0; c < grid.cells.size(); ++c) {
      if (grid.cells[c].model != model) continue;
      TrialView t;
      t.trial.cell = c;
      t.state = "done";
      t.result = TrialResult();
      t.result->wall_s = seconds(grid.cells[c]);
      view.trials.push_back(t);
    }
  }
};

double macs(const Cell& cell) {
  return static_cast<double>(cell.macs);
}

TEST(Remaining, NothingIsToldBeforeTheFirstTrial) {
  Searched s("nfnet_n2@1");
  s.view.search.finished = false;
  EXPECT_EQ(remaining_seconds(s.study, s.grid, s.view), std::nullopt);
}

TEST(Remaining, AModelTakesWhatItTookBefore) {
  Searched s("nfnet_n2@1");
  s.train("nfnet_n0", [](const Cell& c) { return 5e-9 * Searched::operations(c); });
  s.train("nfnet_n2", [](const Cell& c) { return 3e-9 * Searched::operations(c); });
  EXPECT_NEAR(*remaining_seconds(s.study, s.grid, s.view),
              3e-9 * Searched::operations(s.grid.targets[0]) / 2, 1e-9);
}

// Twice the multiply-adds at 0.7 times the seconds of an operation.
TEST(Remaining, AnUntriedSizeFollowsTheLineThroughItsFamily) {
  Searched s("nfnet_n5@1");
  const auto seconds = [](const Cell& c) {
    return 1e-5 * std::pow(macs(c), -0.5) * Searched::operations(c);
  };
  s.train("nfnet_n0", seconds);
  s.train("nfnet_n2", seconds);
  s.train("vit_n0", [&](const Cell& c) { return 9 * seconds(c); });
  EXPECT_NEAR(*remaining_seconds(s.study, s.grid, s.view) / (seconds(s.grid.targets[0]) / 2), 1,
              1e-9);
}

// Slower the larger: two trials on a machine that was shared.
TEST(Remaining, ALineThatRisesIsNotFollowed) {
  Searched s("nfnet_n7@1");
  s.train("nfnet_n0", [](const Cell& c) { return 1e-9 * Searched::operations(c); });
  s.train("nfnet_n2", [](const Cell& c) { return 4e-9 * Searched::operations(c); });
  EXPECT_NEAR(*remaining_seconds(s.study, s.grid, s.view),
              2e-9 * Searched::operations(s.grid.targets[0]) / 2, 1e-9);
}

TEST(Remaining, TrialsThatRunCountOnce) {
  Searched s("nfnet_n2@1");
  s.view.search.finished = false;
  for (CellSearch& cell : s.view.search.cells) cell.searched = cell.certified = false;
  double expected = 1;  // the target
  for (size_t c = 0; c < s.grid.cells.size(); ++c) expected += expected_trials(s.study, s.grid, c);
  const double before = remaining_trials(s.study, s.grid, s.view);
  EXPECT_NEAR(before, expected, 0.5);
  TrialView running;
  running.trial.cell = 0;
  running.state = "running";
  s.view.trials.push_back(running);
  EXPECT_EQ(remaining_trials(s.study, s.grid, s.view), before);
}

}  // namespace
}  // namespace nfscale
