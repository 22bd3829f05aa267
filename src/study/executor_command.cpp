#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "base/files.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "study/scheduler.h"

namespace nfscale {
namespace {

// Words that a status command may print, and the exit code that each stands for.
const std::map<std::string, std::optional<int>>& words() {
  static const std::map<std::string, std::optional<int>> all = {
      {"planned", std::nullopt},
      {"submitting", std::nullopt},
      {"submitted", std::nullopt},
      {"running", std::nullopt},
      {"done", 0},
      {"diverged", static_cast<int>(Exit::diverged)},
      {"preempted", static_cast<int>(Exit::preempted)},
      {"failed", static_cast<int>(Exit::defect)},
      {"lost", kLost}};
  return all;
}

class CommandExecutor : public SchedulerExecutor {
 public:
  CommandExecutor(const SchedulerSettings& settings, const CommandSettings& command)
      : SchedulerExecutor(settings), command_(command) {}

  void start(std::span<Job> jobs) override {
    files().make_folder(settings().folder);
    for (Job& job : jobs) {
      files().remove(ended_file(job));
      job.handle = submit(job);
      add(job, true);
    }
  }

  std::vector<Ended> poll() override {
    if (!is_due()) return {};
    bool stalled = false;  // one question without an answer is enough
    return ended([&](const Job& job) -> std::optional<Exited> {
      if (stalled) return std::nullopt;
      return end_of(job, stalled);
    });
  }

  void cancel(const Job& job) override {
    if (!command_.cancel.empty()) run(command_.cancel, job);
  }

 private:
  Path ended_file(const Job& job) const { return settings().folder / job.trial.run_id; }

  // Where this command runs, and the exit code left behind.
  std::string command_of(const Job& job) const {
    std::vector<std::string> words;
    for (const std::string& word : job.argv) words.push_back(shell_word(word));
    const std::string ended = shell_word(ended_file(job).string());
    const std::string log = shell_word(std::filesystem::absolute(job.log).string());
    // A log that cannot be written must not look like an end of the program itself.
    return fmt::format(
        "begin=$(date +%s); cd {} && (: >> {}) && {{ {} >> {} 2>&1; code=$?; }} || code={}; "
        "echo $code $(($(date +%s) - begin)) > {}.tmp && mv {}.tmp {}; exit $code",
        shell_word(std::filesystem::current_path().string()), log, join(words, " "), log,
        static_cast<int>(Exit::system), ended, ended, ended);
  }

  CommandResult run(const std::string& text, const Job& job) const {
    const std::pair<const char*, std::string> values[] = {
        {"{run_id}", shell_word(job.trial.run_id)},
        {"{command}", shell_word(command_of(job))},
        {"{out}", shell_word(std::filesystem::absolute(job.folder).string())},
        {"{nproc}", "1"},
        {"{hours}", fmt::format("{:.0f}", job.hours > 0 ? std::ceil(1.5 * job.hours) : 24)},
        {"{handle}", shell_word(job.handle)}};
    std::string filled;
    for (size_t at = 0; at < text.size();) {
      const auto* found = std::find_if(std::begin(values), std::end(values), [&](const auto& v) {
        return text.compare(at, std::strlen(v.first), v.first) == 0;
      });
      if (found == std::end(values)) {
        filled += text[at++];
        continue;
      }
      filled += found->second;
      at += std::strlen(found->first);
    }
    return run_command({"/bin/sh", "-c", filled}, settings().patience);
  }

  std::string submit(const Job& job) const {
    const CommandResult result = run(command_.submit, job);
    std::vector<std::string> lines = split(result.out, '\n');
    std::erase_if(lines, [](const std::string& line) { return line.empty(); });
    if (result.timed_out || result.code != 0 || lines.empty())
      fail(Exit::system, "executor.command.submit: {}",
           lines.empty() && result.code == 0 && !result.timed_out ? "it printed no handle"
                                                                  : words_of(result));
    if (printable(lines.back()) != lines.back())
      fail(Exit::system,
           "executor.command.submit: it printed the handle \"{}\"; expected printable UTF-8 "
           "without a backslash",
           printable(lines.back()));
    return lines.back();
  }

  // Nothing where the job is at work or nobody can tell.
  std::optional<Exited> end_of(const Job& job, bool& stalled) {
    const CommandResult result = run(command_.status, job);
    outage_.note(result);
    stalled = result.timed_out;
    if (result.timed_out) return std::nullopt;
    // Some schedulers forget a job when it ends, and what asks for it fails.
    if (result.code != 0) return exited_in(ended_file(job));
    const std::string word = printable(split(result.out, '\n')[0]);
    const auto found = words().find(word);
    if (found != words().end() && !found->second) return std::nullopt;
    if (found != words().end()) return exited_in(ended_file(job)).value_or(Exited{*found->second});
    if (said_.insert(word).second)
      warn(
          "executor.command.status printed \"{}\"; submitted, running, done, diverged, preempted, "
          "failed and lost are known",
          word);
    return exited_in(ended_file(job));
  }

  CommandSettings command_;
  Outage outage_{"executor.command.status"};
  std::set<std::string> said_;
};

}  // namespace

std::unique_ptr<Executor> command_executor(const SchedulerSettings& settings,
                                           const CommandSettings& command) {
  return std::make_unique<CommandExecutor>(settings, command);
}

}  // namespace nfscale
