// Where trials run. The study hands over a command and asks how it ended; it sees no tensor.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "study/study.h"

namespace nfscale {

struct Job {
  Trial trial;
  std::vector<std::string> argv;
  Path folder, log;  // the run directory; where standard output and error go
  // By which the scheduler knows it, if there is one. Written down before the start and behind it,
  // so that a later controller finds the job again.
  std::string handle = {};
  bool confirmed = true;  // set by start: the scheduler has taken it, as far as it has answered
  double save_s = 0;      // the longest time that saving took in this study; 0: not known
  double hours = 0;       // that it is expected to take; 0: not known
};

// How a job ended of which neither the scheduler knows anything nor the job has left a word.
constexpr int kLost = -1;

struct Ended {
  std::string run_id;
  int code = 0;                        // as Exit; 128 + signal where one ended it; kLost
  std::optional<double> seconds = {};  // that it ran, as its script has counted
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual size_t slots() const = 0;
  // Sets the handles, where they are known before the start; then these jobs are started together.
  virtual void name(std::span<Job>) {}
  // Sets them where they are known only now. Exit::system where the system refuses.
  virtual void start(std::span<Job> jobs) = 0;
  // A job that an earlier controller started, or was about to, if not `submitted`: true where it
  // may be at work. Its end then comes from poll.
  virtual bool adopt(const Job&, [[maybe_unused]] bool submitted) { return false; }
  // Whether jobs go on without a controller.
  virtual bool is_detached() const { return false; }
  virtual std::vector<Ended> poll() = 0;    // those that ended since the last call
  virtual void cancel(const Job& job) = 0;  // asks it to save and end
  virtual void wait() = 0;                  // until it may be worth polling again
};

// Child processes in sessions of their own. They get SIGTERM when this process ends, however it
// ends.
std::unique_ptr<Executor> local_executor(size_t slots);

// ---- schedulers

struct SchedulerSettings {
  Path folder;        // for scripts and the codes of what ended
  std::string study;  // its name and place, as far as job names need it
  size_t slots = 1;
  double lease = 600;    // s: silence behind which an unknown job is lost
  double interval = 10;  // s between questions
  double patience = 60;  // s for an answer
  double pause = 5;      // s between a submission that failed and the question what became of it
};

struct SlurmSettings {
  std::vector<std::string> args = {};  // of sbatch
  std::string setup = {};              // lines of the script before the command
  bool array = true;                   // a wave of trials as one job
};

// Jobs of sbatch, as arrays; states are read by name, so that a submission whose answer was lost is
// found. A job whose time slice ends saves and requeues its own element.
std::unique_ptr<Executor> slurm_executor(const SchedulerSettings& settings,
                                         const SlurmSettings& slurm);

struct CommandSettings {
  // Commands of a shell, with {run_id} {command} {out} {nproc} {hours} and, but for submit,
  // {handle}, quoted for it.
  std::string submit = {};  // its last line of output is the handle
  std::string status = {};  // prints submitted, running, done, diverged, preempted, failed or lost
  std::string cancel = {};
};

std::unique_ptr<Executor> command_executor(const SchedulerSettings& settings,
                                           const CommandSettings& command);

}  // namespace nfscale
