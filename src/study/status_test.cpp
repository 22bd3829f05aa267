#include "study/status.h"

#include <gtest/gtest.h>

#include "study/fake_executor.h"
#include "study/test_results.h"

namespace nfscale {
namespace {

const Spent* find(const std::vector<Spent>& spent, const std::string& outcome) {
  for (const Spent& s : spent)
    if (s.outcome == outcome) return &s;
  return nullptr;
}

TEST(Status, EveryPlaceOfTheGridHasAState) {
  Bench bench("grid.skip = [\"nfnet_n0@0.5\"]\nnoise.repeats = 0\ncompute.axis = \"flops\"\n");
  std::vector<std::vector<std::string>> rows = status_rows(bench.grid, bench.view());
  EXPECT_EQ(rows, (std::vector<std::vector<std::string>>{{"model", "0.25 epochs", "0.5 epochs"},
                                                         {"nfnet_n0", "planned", "-"},
                                                         {"nfnet_n1", "planned", "planned"}}));
  FakeExecutor executor(bench.grid, 1);
  bench.run(executor);
  for (const std::string& state : cell_states(bench.grid, bench.view())) EXPECT_EQ(state, "done");
  const Json status = status_json(bench.study, bench.grid, bench.view(), {});
  EXPECT_EQ(status.at("cells").items().size(), 3u);
  EXPECT_EQ(status.at("trials").at("done").as_int() + status.at("trials").at("diverged").as_int(),
            static_cast<int64_t>(executor.started.size()));
  EXPECT_EQ(status.at("trials").at("planned").as_int(), 0);
  EXPECT_EQ(status.at("trials").at("running").as_int(), 0);
  EXPECT_TRUE(status.at("finished").as_bool());
  EXPECT_EQ(status.at("eta_s").as_double(), 0);
}

TEST(Status, CountsCellsAndTrials) {
  const Made m = made(false);
  const Json status = status_json(m.study, m.grid, m.view);
  EXPECT_EQ(status.at("cells").items().size(), 36u);
  EXPECT_EQ(status.at("trials").at("planned").as_int(), 0);
  EXPECT_EQ(status.at("trials").at("running").as_int(), 0);
}

TEST(Status, HoursAreToldByTheirOutcome) {
  StudyView view;
  const auto add = [](std::vector<TrialView>& trials, const char* state, int repeat, double wall_s,
                      size_t cell = 0) {
    TrialView t;
    t.trial.cell = cell;
    t.state = state;
    t.repeat = repeat;
    if (t.state == "done" || t.state == "diverged") {
      t.result = TrialResult();
      t.result->wall_s = wall_s;
      t.result->device_hours = 2 * wall_s / 3600;  // two devices
    }
    trials.push_back(t);
  };
  add(view.trials, "done", 0, 3600);
  add(view.trials, "done", 0, 1800);
  add(view.trials, "done", 1, 900);
  add(view.trials, "diverged", 0, 360);
  add(view.trials, "running", 0, 0);
  add(view.trials, "planned", 0, 0);
  view.search.cells.resize(1);
  add(view.targets, "done", 0, 720, 1);  // behind the cells of the grid
  add(view.finetunings, "done", 0, 90);
  view.finetunings[0].trial.init = "run";
  view.trials[1].record.failures = 2;  // it came through at last
  view.trials[1].record.failed_s = 180;
  view.trials[4].record.submitted = "1970-01-01T01:00:00Z";
  const std::vector<Spent> spent = time_spent(view, 2 * 3600);
  ASSERT_EQ(spent.size(), 7u);
  EXPECT_DOUBLE_EQ(find(spent, "used")->device_hours, 3);
  EXPECT_DOUBLE_EQ(find(spent, "noise")->device_hours, 0.5);
  EXPECT_DOUBLE_EQ(find(spent, "diverged")->device_hours, 0.2);
  EXPECT_DOUBLE_EQ(find(spent, "target")->device_hours, 0.4);
  EXPECT_DOUBLE_EQ(find(spent, "fine-tuning")->device_hours, 0.05);
  EXPECT_EQ(find(spent, "failed")->trials, 2);
  EXPECT_DOUBLE_EQ(find(spent, "failed")->device_hours, 0.1);
  EXPECT_DOUBLE_EQ(find(spent, "running")->device_hours, 2);
}

TEST(Status, ATargetThatIsNotTrainedYetKeepsTheStudyOpen) {
  StudyView view;
  view.search.finished = true;
  EXPECT_TRUE(complete(view));
  view.targets.emplace_back().state = "planned";
  EXPECT_FALSE(complete(view));
  view.targets[0].state = "diverged";
  EXPECT_TRUE(complete(view));
}

}  // namespace
}  // namespace nfscale
