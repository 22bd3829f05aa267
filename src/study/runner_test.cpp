#include "study/runner.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "base/process.h"
#include "study/fake_executor.h"

namespace nfscale {
namespace {

TEST(Runner, AStudyRunsToItsEndAndASecondRunStartsNothing) {
  Bench bench;
  FakeExecutor executor(bench.grid, 2);
  EXPECT_EQ(bench.run(executor), RunOutcome::finished);
  const std::string cells = bench.cells();
  EXPECT_EQ(bench.view().search.cells[0].certified, true);
  const Csv trials = bench.trials();
  EXPECT_EQ(trials.rows.size(), executor.started.size());
  const size_t status = trials.column("status");
  for (const auto& row : trials.rows)
    EXPECT_TRUE(row[status] == "done" || row[status] == "diverged");
  const size_t before = executor.started.size();
  EXPECT_EQ(bench.run(executor), RunOutcome::finished);
  EXPECT_EQ(executor.started.size(), before);
  EXPECT_EQ(bench.cells(), cells);
}

TEST(Runner, KilledAtAnyWriteItGoesOnToTheSameTables) {
  std::string whole;
  size_t trials = 0;
  {
    Bench bench;
    FakeExecutor executor(bench.grid, 2);
    bench.run(executor);
    whole = bench.cells();
    trials = bench.trials().rows.size();
  }
  // Torn in the middle of a write while trials go on, and before it while they end too.
  for (const bool at_once : {false, true})
    for (int kill = 0;; ++kill) {
      Bench bench;
      DyingFiles door;
      door.left = kill;
      door.after = !at_once;
      bool killed = false;
      size_t starts = 0;
      {
        const ScopedFiles scope(door);
        FakeExecutor executor(bench.grid, 2);
        executor.at_once = at_once;
        executor.per_poll = 1;
        try {
          bench.run(executor);
        } catch (const Killed&) {
          killed = true;
        }
        starts = executor.started.size();
      }
      if (!killed) break;
      FakeExecutor executor(bench.grid, 2);
      ASSERT_EQ(bench.run(executor), RunOutcome::finished);
      ASSERT_EQ(bench.cells(), whole) << "killed at write " << kill;
      // What had ended is not started again.
      if (at_once) {
        ASSERT_EQ(starts + executor.started.size(), trials) << kill;
      }
    }
}

// wandb/wandb#1787, ray-project/ray#30584: deleted or failed runs did not come back, or everything
// ran again.
TEST(Runner, DeletedAndEmptiedResultsComeBackAndNothingElse) {
  const std::string more = "compute.axis = \"flops\"\nnoise.repeats = 2\n";
  Bench bench(more);
  {
    FakeExecutor executor(bench.grid, 1);
    executor.codes[bench.grid.cells[3].name] = {3};  // damaged data: final
    bench.run(executor);
    // A prediction that was sealed on the way.
    Store(bench.study.out)
        .append("sealed",
                Json::object({{"prediction", Json::object({{"target", "x@1ep"}})}, {"seal", "0"}}));
  }
  const std::string whole = bench.cells();
  const Csv trials = bench.trials();
  const Path runs = bench.study.out / "runs";
  const size_t status = trials.column("status");
  std::map<std::string, std::string> kept;  // results that nothing may touch
  for (const auto& row : trials.rows)
    if (row[status] == "done") kept[row[0]] = read_file(runs / row[0] / "result.json");
  const std::string deleted = trials.rows[1][0], emptied = trials.rows[4][0];
  std::filesystem::remove_all(runs / deleted);
  std::ofstream((runs / emptied / "result.json")).close();
  for (const TrialView& t : bench.view().trials) {
    const bool gone = t.trial.run_id == deleted || t.trial.run_id == emptied;
    EXPECT_EQ(t.state == "planned", gone) << t.trial.run_id << " is " << t.state;
  }
  FakeExecutor executor(bench.grid, 1);
  bench.run(executor);
  EXPECT_EQ(std::set<std::string>(executor.started.begin(), executor.started.end()),
            (std::set<std::string>{deleted, emptied}));
  EXPECT_EQ(bench.cells(), whole);

  bench.change(more + "lr.start = 0.15\n");
  FakeExecutor changed(bench.grid, 1);
  bench.run(changed);
  EXPECT_FALSE(changed.started.empty());
  for (const std::string& id : changed.started) EXPECT_FALSE(kept.contains(id)) << id;
  for (const auto& [id, text] : kept) EXPECT_EQ(read_file(runs / id / "result.json"), text);
  // The old trials are listed still, as no longer in plan.
  std::set<std::string> old;
  const Csv after = bench.trials();
  for (const auto& row : after.rows)
    if (row[after.column("reason")] == "not in plan") old.insert(row[0]);
  for (const auto& [id, text] : kept) EXPECT_TRUE(old.contains(id)) << id;
  ASSERT_EQ(bench.store().sealed.size(), 1u);
  EXPECT_EQ(bench.store().sealed[0].seal, "0");
}

TEST(Runner, ExitCodesMeanWhatTheContractSays) {
  Bench bench("executor.retries = 1\nnoise.repeats = 0\ncompute.axis = \"flops\"\n");
  FakeExecutor executor(bench.grid, 1);
  const auto& cells = bench.grid.cells;
  executor.codes[cells[0].name] = {75, 75, 75, 0};  // preempted: as often as it takes
  executor.codes[cells[1].name] = {3};              // damaged data: not again
  executor.codes[cells[2].name] = {74, 0, 74, 74};  // the system: once more
  EXPECT_EQ(bench.run(executor), RunOutcome::finished);
  const Csv trials = bench.trials();
  const size_t cell = trials.column("cell"), status = trials.column("status");
  std::map<std::string, int> failed;
  for (const auto& row : trials.rows) {
    failed[row[cell]] += row[status] == "failed";
    if (row[status] == "failed") {
      EXPECT_EQ(row[trials.column("reason")], "line of output the last line");
    }
  }
  EXPECT_EQ(failed[cells[0].name], 0);
  EXPECT_EQ(failed[cells[1].name], 1);
  EXPECT_EQ(failed[cells[2].name], 1);
  // Every cell has a loss all the same, and a failed trial is not started again...
  for (const CellSearch& c : bench.view().search.cells) EXPECT_TRUE(c.best);
  FakeExecutor second(bench.grid, 1);
  bench.run(second);
  EXPECT_TRUE(second.started.empty());
  // ... until its folder is taken away.
  for (const auto& row : trials.rows)
    if (row[status] == "failed" && row[cell] == cells[1].name)
      std::filesystem::remove_all(bench.study.out / "runs" / row[0]);
  bench.run(second);
  EXPECT_GE(second.started.size(), 1u);
}

TEST(Runner, TheFirstTrialThatRefusesItsConfigurationEndsTheStudy) {
  Bench bench;
  FakeExecutor executor(bench.grid, 1);
  executor.codes[bench.grid.cells[0].name] = {2};
  try {
    bench.run(executor);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    EXPECT_NE(std::string(e.what()).find("the last line"), std::string::npos);
  }
  EXPECT_EQ(bench.run(executor), RunOutcome::finished);  // once it is mended
}

TEST(Runner, ABudgetOfTrialsIsKept) {
  Bench bench("budget.trials = 3\n");
  FakeExecutor executor(bench.grid, 1);
  EXPECT_THROW(bench.run(executor), Error);
  EXPECT_EQ(executor.started.size(), 3u);
}

TEST(Runner, ANewStartRateRunsOnlyWhatIsNew) {
  Bench bench;
  FakeExecutor executor(bench.grid, 1);
  bench.run(executor);
  std::map<std::string, std::string> before;
  for (const std::string& id : executor.started)
    before[id] = read_file(bench.study.out / "runs" / id / "result.json");
  bench.study.lr_start = bench.grid.cells[0].lr_start * 2;  // the same grid of rates, shifted
  bench.grid = make_grid(bench.study, test_data());
  FakeExecutor second(bench.grid, 1);
  bench.run(second);
  for (const std::string& id : second.started) EXPECT_FALSE(before.contains(id)) << id;
  for (const auto& [id, text] : before)
    EXPECT_EQ(read_file(bench.study.out / "runs" / id / "result.json"), text);
}

TEST(Runner, TheCommandOfATrialIsWholeAndHasTheExtrasLast) {
  Bench bench("[grid.set.\"nfnet_n0\"]\nmodel.se_ratio = 0.25\n");
  const Trial trial = make_trial(bench.grid, 0, -1, 7);
  const std::vector<std::string> argv = trial_command(bench.study, bench.grid, trial, quick());
  const std::vector<std::string> expected = {
      "nfscale",   "pretrain",
      "--config",  argv[3],
      "--set",     "model.name=nfnet_n0",
      "--set",     "train.duration=0.25ep",
      "--set",     "optim.lr=0.05",
      "--set",     "train.seed=7",
      "--set",     "model.se_ratio=0.25",
      "--out",     (bench.study.out / "runs" / trial.run_id).string(),
      "--threads", "1",
      "--quiet"};
  EXPECT_EQ(argv, expected);
}

// A queued job reads it when it starts, whatever became of the study file meanwhile.
TEST(Runner, TheConfigurationThatATrialReadsIsNeverAnotherOne) {
  Bench bench;
  const auto config_of = [&] {
    return Path(
        trial_command(bench.study, bench.grid, make_trial(bench.grid, 0, 0, 1), quick())[3]);
  };
  FakeExecutor executor(bench.grid, 2);
  bench.run(executor);
  const Path before = config_of();
  const std::string text = read_file(before);
  bench.grid.base.optim.momentum = 0.5;
  FakeExecutor other(bench.grid, 2);
  bench.run(other);
  EXPECT_NE(config_of(), before);
  EXPECT_NE(read_file(config_of()), text);
  EXPECT_EQ(read_file(before), text);
}

TEST(Runner, AResultOfAnotherConfigurationIsRefused) {
  const Bench bench;
  FakeExecutor executor(bench.grid, 2);
  bench.run(executor);
  const Path result = bench.study.out / "runs" / executor.started[0] / "result.json";
  Json json = parse_json(read_file(result), "result");
  json.set("config_hash", std::string(32, '0'));
  write_file(result, json.dump());
  FakeExecutor again(bench.grid, 2);
  try {
    bench.run(again);
    ADD_FAILURE() << "it was taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::damaged);
    EXPECT_NE(std::string(e.what()).find(result.string()), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("move the folder away"), std::string::npos);
  }
  EXPECT_TRUE(again.started.empty());
}

// As a model that does not fit the memory ends.
TEST(Runner, ACellThatCannotRunTakesNoMoreThanItsTrials) {
  const Bench bench("lr.max_trials = 3\nexecutor.retries = 0\n");
  FakeExecutor executor(bench.grid, 1);
  for (const Cell& cell : bench.grid.cells) executor.codes[cell.name] = std::vector<int>(1000, 137);
  bench.run(executor);
  EXPECT_EQ(executor.started.size(), 3 * bench.grid.cells.size());
}

// Only the process that is refused says so in its last breath.
TEST(Runner, WhatAnEarlierAttemptSaidIsNotBelievedOfALaterOne) {
  const Bench bench("executor.retries = 1\n");
  class Stale : public FakeExecutor {
   public:
    using FakeExecutor::FakeExecutor;
    std::vector<Ended> poll() override {
      const auto ended = FakeExecutor::poll();
      for (const Ended& e : ended)
        std::ofstream(log / (e.run_id + ".txt")) << "RUN is held by another nfscale: host h\n";
      return ended;
    }
    Path log;
  } executor(bench.grid, 1);
  executor.log = bench.study.out / "logs";
  executor.codes[bench.grid.cells[0].name] = {137, 137};
  bench.run(executor);
  EXPECT_EQ(std::count(executor.started.begin(), executor.started.end(), executor.started[0]), 2);
}

}  // namespace
}  // namespace nfscale
