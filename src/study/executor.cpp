#include "study/executor.h"

#include <signal.h>

#include <chrono>
#include <thread>

#include "base/process.h"

namespace nfscale {
namespace {

class LocalExecutor : public Executor {
 public:
  explicit LocalExecutor(size_t slots) : slots_(slots) {}

  size_t slots() const override { return slots_; }

  void start(std::span<Job> jobs) override {
    for (const Job& job : jobs) running_[job.trial.run_id] = start_process(job.argv, job.log);
  }

  std::vector<Ended> poll() override {
    std::vector<Ended> ended;
    for (auto at = running_.begin(); at != running_.end();) {
      const int code = poll_process(at->second);
      if (code < 0) {
        ++at;
        continue;
      }
      ended.push_back({at->first, code});
      at = running_.erase(at);
    }
    return ended;
  }

  void cancel(const Job& job) override {
    const auto found = running_.find(job.trial.run_id);
    if (found != running_.end()) ::kill(found->second, SIGTERM);
  }

  void wait() override { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

 private:
  size_t slots_;
  std::map<std::string, pid_t> running_;
};

}  // namespace

std::unique_ptr<Executor> local_executor(size_t slots) {
  return std::make_unique<LocalExecutor>(slots);
}

}  // namespace nfscale
