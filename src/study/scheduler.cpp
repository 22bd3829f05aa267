#include "study/scheduler.h"

#include <chrono>
#include <thread>

#include "base/files.h"
#include "base/lease.h"
#include "base/log.h"
#include "base/text.h"
#include "study/trials.h"

namespace nfscale {

bool SchedulerExecutor::adopt(const Job& job, bool submitted) {
  if (job.handle.empty()) return false;
  add(job, submitted);
  return true;
}

void SchedulerExecutor::wait() {
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

void SchedulerExecutor::add(const Job& job, bool submitted) {
  active_.insert_or_assign(job.trial.run_id, Active{job, submitted, {}});
}

std::vector<Job> SchedulerExecutor::jobs() const {
  std::vector<Job> jobs;
  for (const auto& [id, active] : active_) jobs.push_back(active.job);
  return jobs;
}

bool SchedulerExecutor::is_due() {
  if (active_.empty() || now_s() - asked_ < settings_.interval) return false;
  asked_ = now_s();
  return true;
}

bool SchedulerExecutor::has_result(const Job& job) {
  see_anew(job.folder);
  return read_result(job.folder).has_value();
}

bool SchedulerExecutor::is_given_up(Active& job) const {
  const double now = now_s();
  if (!job.unknown_since || lease_holder(job.job.folder / ".lease")) job.unknown_since = now;
  return now - *job.unknown_since >= (job.submitted ? settings_.lease : settings_.pause);
}

void Outage::note(const CommandResult& result) {
  const bool out = result.timed_out || result.code != 0;
  if (out && !on_)
    warn("{} does not answer: {}; trials go on and are asked for again", program_,
         words_of(result));
  if (!out && on_) say("{} answers again", program_);
  on_ = out;
}

std::optional<Exited> exited_in(const Path& file) {
  see_anew(file.parent_path());
  try {
    const std::string text = read_file(file, 64);
    const std::vector<std::string> words = split(text.substr(0, text.find('\n')), ' ');
    const auto code = parse_int(words[0]);
    auto seconds = words.size() > 1 ? parse_int(words[1]) : std::nullopt;
    if (seconds && *seconds < 0) seconds.reset();  // its clock was set back
    if (code) return Exited{static_cast<int>(*code), seconds};
  } catch (const Error&) {
    // Not there.
  }
  return std::nullopt;
}

std::string words_of(const CommandResult& result) {
  if (result.timed_out) return "no answer in time";
  if (result.code == 127) return "it is not on PATH";
  for (const std::string* text : {&result.err, &result.out}) {
    std::vector<std::string> lines = split(*text, '\n');
    std::erase_if(lines, [](const std::string& line) { return line.empty(); });
    if (!lines.empty()) return printable(lines.back());
  }
  return fmt::format("exit code {}", result.code);
}

}  // namespace nfscale
