#include "study/runner.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "base/log.h"
#include "base/process.h"
#include "study/synthetic_law.h"
#include "study/table.h"
#include "study/test_study.h"

namespace nfscale {
namespace {

struct Killed {};  // the runner dies here; nothing may catch it

// Counts the writes of the runner and ends it at one of them, before or after it happened.
class DyingFiles : public FastFiles {
 public:
  int left = 1 << 30;
  bool after = false;
  void write(int fd, std::span<const std::byte> bytes, const Path& path) override {
    const bool now = --left < 0;
    if (now && !after) throw Killed();
    // A record may be torn in the middle.
    Files::write(fd, now ? bytes.first(bytes.size() / 2) : bytes, path);
    if (now) throw Killed();
  }
};

// Results from a known law; written around the door of the runner, as another process does.
class FakeExecutor : public Executor {
 public:
  FakeExecutor(const Grid& grid, size_t slots) : grid_(grid), slots_(slots) {}

  std::map<std::string, std::vector<int>> codes;  // by cell name: exit codes of its first starts
  std::vector<std::string> started;
  bool at_once = true;  // the trial ends although the runner dies
  int per_poll = 1 << 30;

  size_t slots() const override { return slots_; }
  void start(const Job& job) override {
    EXPECT_TRUE(active_.insert(job.trial.run_id).second) << "started twice";
    EXPECT_LE(active_.size(), slots_);
    started.push_back(job.trial.run_id);
    jobs_.push_back(job);
    if (at_once) finish(job);
  }
  std::vector<Ended> poll() override {
    std::vector<Ended> ended;
    while (!jobs_.empty() && static_cast<int>(ended.size()) < per_poll) {
      const Job job = jobs_.front();
      jobs_.erase(jobs_.begin());
      active_.erase(job.trial.run_id);
      if (stop_.contains(job.trial.run_id)) {
        ended.push_back({job.trial.run_id, 75});
        continue;
      }
      if (!at_once) finish(job);
      ended.push_back({job.trial.run_id, code_.at(job.trial.run_id)});
    }
    return ended;
  }
  void cancel(const std::string& run_id) override { stop_.insert(run_id); }
  void wait() override {}

  double loss(const Trial& trial) const {
    const Cell& c = grid_.cells[trial.cell];
    return law::loss(c.size_rank, 1 + c.epoch_rank, trial.lr * 16) +
           0.001 * static_cast<double>(trial.seed % 3);
  }

 private:
  void finish(const Job& job) {
    const Cell& cell = grid_.cells[job.trial.cell];
    auto& queue = codes[cell.name];
    int code = 0;
    if (!queue.empty()) {
      code = queue.front();
      queue.erase(queue.begin());
    }
    std::ofstream(job.log) << "line of output\nthe last line\n";
    const double l = loss(job.trial);
    if (code == 0 && std::isinf(l)) code = 4;
    code_[job.trial.run_id] = code;
    if (code != 0 && code != 4) return;
    const Json heldout = Json::object({{"loss", l}, {"top1", 0.5}});
    const Json compute = Json::object({{"device", "fake"}, {"device_hours", 0.25}, {"wall_s", 9}});
    std::ofstream(job.folder / "result.json")
        << Json::object({{"status", code == 4 ? "diverged" : "done"},
                         {"steps", cell.steps},
                         {"examples", cell.images},
                         {"heldout", code == 4 ? Json() : heldout},
                         {"compute", compute},
                         {"certificate", Json::object({{"ok", true}})}})
               .dump();
  }

  const Grid& grid_;
  size_t slots_;
  std::vector<Job> jobs_;
  std::set<std::string> active_, stop_;
  std::map<std::string, int> code_;
};

RunOptions quick() {
  RunOptions options;
  options.program = "nfscale";
  options.retry_delay_s = 0;
  return options;
}

struct Bench {
  FastFiles door;
  ScopedFiles scope{door};
  TestFolder folder;
  Study study;
  Grid grid;
  explicit Bench(const std::string& more = "compute.axis = \"flops\"\nnoise.repeats = 2\n")
      : study(test_study(folder, more)), grid(make_grid(study, test_data())) {
    set_log_level(LogLevel::quiet);
    files().make_folder(study.out);
  }
  StudyView view() const {
    ResultCache cache;
    return look(study, grid, read_store(study.out / "store").state, {}, cache);
  }
  std::string cells() const { return csv_text(cells_table(cell_rows(study, grid, view()))); }
  Csv trials() const {
    return trials_table(study, grid, view(), read_store(study.out / "store").state);
  }
  RunOutcome run(FakeExecutor& executor) const { return run_study(study, grid, executor, quick()); }
};

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

TEST(Runner, DeletedAndEmptiedResultsComeBackAndNothingElse) {
  Bench bench;
  {
    FakeExecutor executor(bench.grid, 1);
    bench.run(executor);
  }
  const std::string whole = bench.cells();
  const Csv trials = bench.trials();
  const Path runs = bench.study.out / "runs";
  std::filesystem::remove_all(runs / trials.rows[1][0]);
  std::ofstream((runs / trials.rows[4][0] / "result.json")).close();
  FakeExecutor executor(bench.grid, 1);
  bench.run(executor);
  EXPECT_EQ(std::set<std::string>(executor.started.begin(), executor.started.end()),
            (std::set<std::string>{trials.rows[1][0], trials.rows[4][0]}));
  EXPECT_EQ(bench.cells(), whole);
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
  bench.study.lr_start = bench.grid.lr_start * 2;  // the same grid of rates, shifted
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
      "--config",  (bench.study.out / "base.toml").string(),
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

TEST(Executor, ChildrenAreStartedPolledAndAskedToEnd) {
  TestFolder folder;
  const auto executor = local_executor(2);
  Job job;
  job.log = folder.path / "log";
  job.trial.run_id = "quick";
  job.argv = {"/bin/sh", "-c", "echo said; exit 7"};
  executor->start(job);
  job.trial.run_id = "slow";
  job.argv = {"/bin/sh", "-c", "trap 'exit 75' TERM; while :; do sleep 0.01; done"};
  executor->start(job);
  std::map<std::string, int> codes;
  while (codes.size() < 2) {
    for (const Ended& e : executor->poll()) codes[e.run_id] = e.code;
    if (codes.contains("quick")) executor->cancel("slow");
    executor->wait();
  }
  EXPECT_EQ(codes["quick"], 7);
  EXPECT_TRUE(codes["slow"] == 75 || codes["slow"] == 128 + 15) << codes["slow"];
  EXPECT_EQ(read_file(job.log), "said\n");
}

}  // namespace
}  // namespace nfscale
