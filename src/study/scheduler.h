// What executors of schedulers share: jobs that go on without a controller, those that are at work
// as far as is known, and when one of which nobody knows anything is given up.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/process.h"
#include "study/executor.h"

namespace nfscale {

struct Exited {
  int code = 0;
  std::optional<double> seconds = {};  // that the script of the job ran
};

class SchedulerExecutor : public Executor {
 public:
  explicit SchedulerExecutor(SchedulerSettings settings) : settings_(std::move(settings)) {}

  size_t slots() const override { return settings_.slots; }
  bool is_detached() const override { return true; }
  // Without a handle nobody can ask: the trial starts anew, and its run directory keeps out a
  // second process.
  bool adopt(const Job& job, bool submitted) override;
  void wait() override;

 protected:
  const SchedulerSettings& settings() const { return settings_; }
  // `submitted`: the scheduler has confirmed it.
  void add(const Job& job, bool submitted);
  // The jobs that are at work.
  std::vector<Job> jobs() const;
  // True every `interval` seconds, when the scheduler may be asked again.
  bool is_due();

  // By what end_of says of each job whose run directory has no result: nothing where it is queued
  // or running, kLost where the scheduler does not know it, else its exit code.
  template <class EndOf>
  std::vector<Ended> ended(const EndOf& end_of) {
    std::vector<Ended> all;
    for (auto& [id, job] : active_) {
      const auto end = has_result(job.job) ? Exited{0, {}} : std::optional<Exited>(end_of(job.job));
      if (!end) {
        job.unknown_since.reset();
        job.submitted = true;
        continue;
      }
      if (end->code == kLost && !is_given_up(job)) continue;
      all.push_back({id, end->code, end->seconds});
    }
    for (const Ended& e : all) active_.erase(e.run_id);
    return all;
  }

 private:
  struct Active {
    Job job;
    bool submitted;
    std::optional<double> unknown_since;
  };
  // A job that was never confirmed soon; another one once the lease is over in which its run
  // directory was held by nobody.
  bool is_given_up(Active& job) const;
  static bool has_result(const Job& job);

  SchedulerSettings settings_;
  std::map<std::string, Active> active_;  // by run id
  double asked_ = -1e9;
};

// Says once that a scheduler does not answer, and once that it does again.
class Outage {
 public:
  explicit Outage(std::string program) : program_(std::move(program)) {}
  void note(const CommandResult& result);

 private:
  std::string program_;
  bool on_ = false;
};

// What a job left in a file as "CODE SECONDS\n"; nothing where it is not there. The folder of the
// file is looked at first: a network file system may remember that the file was missing.
std::optional<Exited> exited_in(const Path& file);

// The last line of what a command said, or that it said nothing in time.
std::string words_of(const CommandResult& result);

}  // namespace nfscale
