// The runner against a scheduler that loses answers, gives them late, starts twice and kills, and
// against its own death at any moment.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <random>

#include "base/process.h"
#include "study/fake_executor.h"

namespace nfscale {
namespace {

// Jobs that outlive the controller, as files of a folder: PLACE/HANDLE holds when a job ends and
// how. What was started is a line of PLACE/starts, what was killed one of PLACE/killed.
class FaultyScheduler : public Executor {
 public:
  FaultyScheduler(const Grid& grid, Path place, uint64_t seed)
      : grid_(grid), place_(std::move(place)), random_(seed) {
    std::filesystem::create_directories(place_);
  }

  size_t slots() const override { return 3; }
  bool is_detached() const override { return true; }
  void name(std::span<Job> jobs) override {
    for (Job& job : jobs) job.handle = fmt::format("{}.{:016x}", job.trial.run_id, random_());
  }
  void start(std::span<Job> jobs) override {
    for (const Job& job : jobs) {
      jobs_[job.trial.run_id] = job;
      if (chance(0.05)) continue;  // says yes and takes nothing
      take(job);
      std::ofstream(place_ / "starts", std::ios::app) << job.trial.run_id + "\n";
      if (chance(0.05)) take(job);  // twice
      if (chance(0.05)) fail(Exit::system, "the answer is lost");
    }
  }
  bool adopt(const Job& job, bool) override {
    jobs_[job.trial.run_id] = job;
    return true;
  }
  std::vector<Ended> poll() override {
    std::vector<Ended> ended;
    if (chance(0.2)) return ended;  // no answer
    for (const auto& [id, job] : jobs_) {
      const auto code = code_of(job);
      if (code) ended.push_back({id, *code});
    }
    for (const Ended& e : ended) jobs_.erase(e.run_id);
    return ended;
  }
  void cancel(const Job&) override {}
  void wait() override { ::usleep(300); }

 private:
  bool chance(double p) { return std::uniform_real_distribution<>()(random_) < p; }
  // By a rename: the controller that dies in here must not take away a job that was started.
  void take(const Job& job) {
    const double end = now_s() + std::uniform_real_distribution<>(0, 0.004)(random_);
    std::ofstream(place_ / "new") << fmt::format("{} {}", end, chance(0.1) ? "kill" : "end");
    std::filesystem::rename(place_ / "new", place_ / job.handle);
  }
  // A job writes its result before the scheduler knows that it has ended.
  std::optional<int> code_of(const Job& job) const {
    double end = 0;
    std::string how;
    if (!(std::ifstream(place_ / job.handle) >> end >> how)) return kLost;
    if (now_s() < end) return std::nullopt;
    if (how == "kill") {
      std::ofstream(place_ / "killed", std::ios::app) << job.trial.run_id + "\n";
      std::filesystem::remove(place_ / job.handle);
      return 137;
    }
    if (!read_result(job.folder)) write_fake_result(grid_, job, fake_loss);
    return 0;
  }

  const Grid& grid_;
  Path place_;
  std::mt19937_64 random_;
  std::map<std::string, Job> jobs_;
};

// How often each line is in a file.
std::map<std::string, int> lines_of(const Path& file) {
  std::map<std::string, int> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) ++lines[line];
  return lines;
}

std::string undisturbed() {
  const Bench bench("compute.axis = \"flops\"\nnoise.repeats = 2\nexecutor.retries = 1000\n");
  FakeExecutor executor(bench.grid, 3);
  bench.run(executor);
  return bench.cells();
}

pid_t start_controller(const Bench& bench, uint64_t seed) {
  const pid_t child = ::fork();
  if (child) return child;
  try {
    FaultyScheduler scheduler(bench.grid, bench.folder.path / "scheduler", seed);
    const RunOutcome outcome = run_study(bench.study, bench.grid, scheduler, quick());
    ::_exit(outcome == RunOutcome::finished ? 0 : 1);
  } catch (const Error& e) {
    ::_exit(static_cast<int>(e.code));
  } catch (...) {
    ::_exit(99);
  }
}

// 200 times, now and then with a second controller beside the first.
TEST(RunnerFaults, KilledAtAnyMomentUnderABadSchedulerItGoesOnToTheSameTables) {
  const std::string whole = undisturbed();
  std::mt19937_64 random(11);
  const auto draw = [&](double low, double high) {
    return std::uniform_real_distribution<>(low, high)(random);
  };
  int kills = 0, studies = 0;
  while (kills < 200) {
    const Bench bench("compute.axis = \"flops\"\nnoise.repeats = 2\nexecutor.retries = 1000\n");
    double most_us = 30e3;  // grows, so that a slow machine comes to an end too
    for (bool finished = false; !finished; most_us *= 1.02) {
      std::vector<pid_t> controllers;
      for (int i = draw(0, 1) < 0.3 ? 2 : 1; i > 0; --i)
        controllers.push_back(start_controller(bench, random()));
      ::usleep(static_cast<useconds_t>(draw(0, most_us)));
      for (const pid_t controller : controllers) {
        ::kill(controller, SIGKILL);
        int status = 0;
        ::waitpid(controller, &status, 0);
        if (!WIFEXITED(status)) {
          ++kills;
          continue;
        }
        const int code = WEXITSTATUS(status);
        finished |= code == 0;
        // The other one was refused, or an answer was lost.
        ASSERT_TRUE(code == 0 || code == 2 || code == 74) << code;
      }
    }
    ++studies;
    ASSERT_EQ(bench.cells(), whole) << "study " << studies << ", " << kills << " kills";
    // What was not killed was started once.
    const Path place = bench.folder.path / "scheduler";
    const auto killed = lines_of(place / "killed");
    for (const auto& [id, starts] : lines_of(place / "starts"))
      ASSERT_LE(starts, 1 + (killed.contains(id) ? killed.at(id) : 0)) << id;
    const Csv trials = bench.trials();
    for (const auto& row : trials.rows)
      ASSERT_TRUE(row[trials.column("status")] == "done" ||
                  row[trials.column("status")] == "diverged");
  }
  EXPECT_GT(studies, 1);
}

// The disk is full at one write.
class FullFiles : public FastFiles {
 public:
  int left = 1 << 30;
  void write(int fd, std::span<const std::byte> bytes, const Path& path) override {
    if (--left < 0) fail_io(path, "writing", ENOSPC);
    Files::write(fd, bytes, path);
  }
};

TEST(RunnerFaults, AFullDiskAtAnyWriteIsToldAndLosesNothing) {
  const std::string more = "compute.axis = \"flops\"\nnoise.repeats = 2\n", whole = undisturbed();
  for (int full = 0;; ++full) {
    const Bench bench(more);
    bool told = false;
    {
      FullFiles door;
      door.left = full;
      const ScopedFiles scope(door);
      FakeExecutor executor(bench.grid, 2);
      try {
        bench.run(executor);
      } catch (const Error& e) {
        told = true;
        ASSERT_EQ(e.code, Exit::system);
        ASSERT_NE(std::string(e.what()).find(bench.study.out.string()), std::string::npos)
            << e.what();
      }
    }
    if (!told) break;
    FakeExecutor executor(bench.grid, 2);
    ASSERT_EQ(bench.run(executor), RunOutcome::finished) << full;
    ASSERT_EQ(bench.cells(), whole) << "full at write " << full;
  }
}

// What a study starts again for want of a record is what had not ended.
TEST(RunnerFaults, TheLogCutAnywhereGoesOnToTheSameTables) {
  const std::string more = "compute.axis = \"flops\"\nnoise.repeats = 2\n";
  const Bench bench(more);
  FakeExecutor executor(bench.grid, 2);
  bench.run(executor);
  const std::string whole = bench.cells();
  Path log;
  for (const auto& entry : std::filesystem::directory_iterator(bench.study.out / "store"))
    if (entry.path().extension() == ".log") log = entry.path();
  const std::string text = read_file(log);
  for (size_t size = 0; size < text.size(); size += 61) {
    for (const auto& entry : std::filesystem::directory_iterator(bench.study.out / "store"))
      if (entry.path().extension() == ".log") std::filesystem::remove(entry.path());
    write_file(log, text.substr(0, size));
    FakeExecutor again(bench.grid, 2);
    ASSERT_EQ(bench.run(again), RunOutcome::finished) << size;
    ASSERT_TRUE(again.started.empty()) << size;
    ASSERT_EQ(bench.cells(), whole) << size;
  }
}

}  // namespace
}  // namespace nfscale
