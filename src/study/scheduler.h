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

  // By what code_of says of each job whose run directory has no result: nothing where it is queued
  // or running, kLost where the scheduler does not know it, else its exit code.
  template <class CodeOf>
  std::vector<Ended> ended(const CodeOf& code_of) {
    std::vector<Ended> all;
    for (auto& [id, job] : active_) {
      std::optional<int> code = has_result(job.job) ? 0 : code_of(job.job);
      if (!code) {
        job.unknown_since.reset();
        job.submitted = true;
      }
      if (code == kLost && !is_given_up(job)) continue;
      if (code) all.push_back({id, *code});
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

// The exit code that a job left in a file as "CODE\n"; nothing where it is not there. The folder of
// the file is looked at first: a network file system may remember that the file was missing.
std::optional<int> code_in(const Path& file);

// The last line of what a command said, or that it said nothing in time.
std::string words_of(const CommandResult& result);

}  // namespace nfscale
