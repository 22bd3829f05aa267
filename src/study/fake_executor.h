// An executor that draws results from a known law, and a study to run on it, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/log.h"
#include "study/runner.h"
#include "study/synthetic_law.h"
#include "study/table.h"
#include "study/test_study.h"

namespace nfscale {

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

// Held-out loss of a trial; infinite where it diverges.
using FakeLaw = std::function<double(const Cell&, const Trial&)>;
inline double fake_loss(const Cell& c, const Trial& trial) {
  return law::loss(c.size_rank, 1 + c.epoch_rank, trial.lr * 16) +
         0.001 * static_cast<double>(trial.seed % 3);
}

// Writes result.json as a trial does, around the door of the runner; returns its exit code.
inline int write_fake_result(const Grid& grid, const Job& job, const FakeLaw& law,
                             bool diverges = false) {
  const Cell& cell = cell_at(grid, job.trial.cell);
  const double l = law(cell, job.trial);
  const int code = diverges || std::isinf(l) ? 4 : 0;
  const Json heldout = Json::object({{"loss", l}, {"top1", 0.5}});
  const Json compute = Json::object({{"device", "fake"}, {"device_hours", 0.25}, {"wall_s", 9}});
  std::ofstream(job.folder / "result.json.new")
      << Json::object({{"status", code == 4 ? "diverged" : "done"},
                       {"steps", cell.steps},
                       {"examples", cell.images},
                       {"heldout", code == 4 ? Json() : heldout},
                       {"compute", compute},
                       {"certificate", Json::object({{"ok", true}})}})
             .dump();
  std::filesystem::rename(job.folder / "result.json.new", job.folder / "result.json");
  return code;
}

// Results from a known law; written around the door of the runner, as another process does.
class FakeExecutor : public Executor {
 public:
  FakeExecutor(const Grid& grid, size_t slots) : grid_(grid), slots_(slots) {}

  std::map<std::string, std::vector<int>> codes;  // by cell name: exit codes of its first starts
  std::vector<std::string> started;
  std::vector<std::vector<std::string>> commands;  // of what was started
  bool at_once = true;                             // the trial ends although the runner dies
  int per_poll = 1 << 30;

  size_t slots() const override { return slots_; }
  void start(std::span<Job> jobs) override {
    for (const Job& job : jobs) {
      EXPECT_TRUE(active_.insert(job.trial.run_id).second) << "started twice";
      EXPECT_LE(active_.size(), slots_);
      started.push_back(job.trial.run_id);
      commands.push_back(job.argv);
      jobs_.push_back(job);
      if (at_once) finish(job);
    }
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
  void cancel(const Job& job) override { stop_.insert(job.trial.run_id); }
  void wait() override {}

  FakeLaw law = fake_loss;

 private:
  void finish(const Job& job) {
    const Cell& cell = cell_at(grid_, job.trial.cell);
    auto& queue = codes[cell.name];
    int code = 0;
    if (!queue.empty()) {
      code = queue.front();
      queue.erase(queue.begin());
    }
    std::ofstream(job.log) << "line of output\nthe last line\n";
    code_[job.trial.run_id] = code;
    if (code == 0 || code == 4)
      code_[job.trial.run_id] = write_fake_result(grid_, job, law, code == 4);
  }

  const Grid& grid_;
  size_t slots_;
  std::vector<Job> jobs_;
  std::set<std::string> active_, stop_;
  std::map<std::string, int> code_;
};

inline RunOptions quick() {
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
  explicit Bench(const std::string& more = "compute.axis = \"flops\"\nnoise.repeats = 2\n") {
    set_log_level(LogLevel::quiet);
    change(more);
    files().make_folder(study.out);
  }
  // Another file of the study in the same folder.
  void change(const std::string& more) {
    study = test_study(folder, more);
    grid = make_grid(study, test_data());
  }
  StoreState store() const { return read_store(study.out / "store").state; }
  StudyView view() const {
    ResultCache cache;
    return look(study, grid, store(), {}, cache);
  }
  std::string cells() const { return csv_text(cells_table(cell_rows(study, grid, view()))); }
  Csv trials() const { return trials_table(study, grid, view(), store()); }
  RunOutcome run(FakeExecutor& executor) const { return run_study(study, grid, executor, quick()); }
};

}  // namespace nfscale
