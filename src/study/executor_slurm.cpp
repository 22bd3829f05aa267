#include <unistd.h>

#include <chrono>
#include <cmath>
#include <set>
#include <thread>

#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "study/scheduler.h"

namespace nfscale {
namespace {

// Handles are NAME/ELEMENT.
std::string name_of(const Job& job) {
  return job.handle.substr(0, job.handle.rfind('/'));
}

// A setup that fails, or is ended by a signal, leaves a code too.
constexpr const char* kScriptBegin = R"(exec >> "$log" 2>&1
rm -f "$ended"
leave() { echo $1 $SECONDS > "$ended.tmp" && mv "$ended.tmp" "$ended"; }
code=
trap 'last=$?; [ -n "$code" ] || code=$((last ? last : 143)); leave $code' EXIT
)";

// The end of every script. `wait` ends with a signal too, so it is called until none came
// meanwhile. A slice of time that is over asks for the same element once more, by its own id: that
// of the array stands for all of them (Lightning-AI/pytorch-lightning#15022). Slurm ends the script
// of a job that it requeues, which takes away what it left when it begins again. Where somebody
// ended the job, or it is not requeued, the code is there for the controller.
constexpr const char* kScriptEnd = R"(
set +eu
signals=0 slice= code=127
"${command[@]}" &
child=$!
trap 'signals=$((signals + 1)); slice=1; kill -USR1 $child' USR1
trap 'signals=$((signals + 1)); slice=; kill -TERM $child' TERM
seen=-1
while [ $seen != $signals ]; do
  seen=$signals
  wait $child
  last=$?
  [ $last = 127 ] || code=$last
done
trap '' USR1
leave $code
if [ $code = 75 ] && [ -n "$slice" ]; then
  job=$SLURM_JOB_ID
  [ -z "$SLURM_ARRAY_JOB_ID" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  if scontrol requeue "$job"; then sleep 60; fi
fi
exit $code
)";

class SlurmExecutor : public SchedulerExecutor {
 public:
  SlurmExecutor(const SchedulerSettings& settings, const SlurmSettings& slurm)
      : SchedulerExecutor(settings), slurm_(slurm) {}

  void name(std::span<Job> jobs) override {
    const std::string start = "nfs-" + short_hash(settings().study) + "-";
    std::string wave = utc_text() + fmt::format(" {} {}", now_s(), ::getpid());
    for (const Job& job : jobs) wave += " " + job.trial.run_id;
    int64_t index = 0;
    for (Job& job : jobs)
      job.handle = slurm_.array ? fmt::format("{}{}/{}", start, short_hash(wave), index++)
                                : start + job.trial.run_id + "/0";
  }

  void start(std::span<Job> jobs) override {
    files().make_folder(settings().folder);
    if (slurm_.array) {
      submit(jobs);
    } else {
      for (Job& job : jobs) submit({&job, 1});
    }
  }

  std::vector<Ended> poll() override {
    if (!is_due()) return {};
    std::set<std::string> names;
    for (const Job& job : jobs()) names.insert(name_of(job));
    const auto queue = ask(names);
    if (!queue) return {};
    return ended([&](const Job& job) -> std::optional<Exited> {
      if (queue->contains(job.handle)) return std::nullopt;
      return exited_in(ended_file(job)).value_or(Exited{kLost});
    });
  }

  void cancel(const Job& job) override {
    const auto queue = ask({name_of(job)});
    if (queue && queue->contains(job.handle))
      run_command({"scancel", queue->at(job.handle)}, settings().patience);
  }

 private:
  static std::string short_hash(const std::string& text) {
    return fmt::format("{:016x}", hash64(text)).substr(0, 8);
  }

  Path ended_file(const Job& job) const {
    return settings().folder / (name_of(job) + "." + job.handle.substr(job.handle.rfind('/') + 1));
  }

  // Slurm's ids by handle, of all jobs of these names that are queued or run; nothing where it does
  // not answer. What a user has set for squeue must not hide any.
  std::optional<std::map<std::string, std::string>> ask(const std::set<std::string>& names) {
    std::vector<std::string> argv = {"env"};
    for (const char* variable : {"ACCOUNT", "FORMAT", "FORMAT2", "LICENSES", "NAMES", "PARTITION",
                                 "QOS", "SORT", "STATES", "USERS"})
      argv.insert(argv.end(), {"-u", std::string("SQUEUE_") + variable});
    argv.insert(argv.end(),
                {"squeue", "--noheader", "--array", "--format=%j|%K|%i|%r",
                 "--name=" + join(std::vector<std::string>(names.begin(), names.end()), ",")});
    const CommandResult result = run_command(argv, settings().patience);
    outage_.note(result);
    if (result.timed_out || result.code != 0) return std::nullopt;
    std::map<std::string, std::string> queue;
    for (const std::string& line : split(result.out, '\n')) {
      const std::vector<std::string> fields = split(line, '|');
      if (fields.size() < 3) continue;
      const auto index = parse_int(fields[1]);
      queue[fmt::format("{}/{}", fields[0], index.value_or(0))] = fields[2];
      if (fields.size() > 3) warn_of_held(fields[2], fields[3]);
    }
    return queue;
  }

  // Such a job waits until somebody releases it.
  void warn_of_held(const std::string& id, const std::string& reason) {
    if (reason.find("Held") == std::string::npos && reason.find("held") == std::string::npos)
      return;
    if (held_.insert(id).second)
      warn("job {} is held in the queue ({}); `scontrol release {}` lets it run", printable(id),
           printable(reason), printable(id));
  }

  // In names of files sbatch replaces what begins with one.
  static std::string doubled_percent(const std::string& path) {
    std::string text;
    for (const char c : path) text += c == '%' ? "%%" : std::string(1, c);
    return text;
  }

  std::string script(std::span<const Job> jobs) const {
    std::string text = "#!/bin/bash\n";
    // Those of a controller that is itself an element of an array.
    if (!slurm_.array) text += "unset SLURM_ARRAY_TASK_ID SLURM_ARRAY_JOB_ID\n";
    text += "case ${SLURM_ARRAY_TASK_ID:-0} in\n";
    size_t index = 0;
    for (const Job& job : jobs) {
      text += fmt::format("{})\n  log={}\n  ended={}\n  command=(", index++,
                          shell_word(job.log.string()), shell_word(ended_file(job).string()));
      for (const std::string& word : job.argv) text += shell_word(word) + " ";
      text.back() = ')';
      text += "\n  ;;\n";
    }
    text += "esac\n";
    return text + kScriptBegin + slurm_.setup + kScriptEnd;
  }

  // Seconds before the end of a slice of time: a step and saving, four times over.
  static int warning_s(std::span<const Job> jobs) {
    double save = 0;
    for (const Job& job : jobs) save = std::max(save, job.save_s);
    return static_cast<int>(std::ceil(std::max(120.0, 60 + 4 * save)));
  }

  void submit(std::span<Job> jobs) {
    const std::string name = name_of(jobs[0]);
    for (Job& job : jobs) {
      job.folder = std::filesystem::absolute(job.folder);
      job.log = std::filesystem::absolute(job.log);
      files().remove(ended_file(job));
    }
    const Path file = settings().folder / (name + ".sh");
    write_file(file, script(jobs));
    std::vector<std::string> argv = {
        "sbatch",
        "--parsable",
        "--job-name=" + name,
        "--requeue",
        "--open-mode=append",
        fmt::format("--signal=B:USR1@{}", warning_s(jobs)),
        "--output=" + doubled_percent((settings().folder / name).string()) + ".%a.out"};
    if (slurm_.array)
      argv.push_back(fmt::format("--array=0-{}%{}", jobs.size() - 1, settings().slots));
    argv.insert(argv.end(), slurm_.args.begin(), slurm_.args.end());
    argv.push_back(file.string());
    const bool confirmed = submit(argv, jobs);
    for (Job& job : jobs) {
      job.confirmed = confirmed;
      add(job, confirmed);
    }
  }

  // An answer may be lost after the job was taken, so nothing is submitted again before the queue
  // was asked for it; false where nobody answers.
  bool submit(const std::vector<std::string>& argv, std::span<const Job> jobs) {
    constexpr int kTries = 3;
    CommandResult result;
    for (int tries = 0; tries < kTries; ++tries) {
      result = run_command(argv, settings().patience);
      if (!result.timed_out && result.code == 0) return true;
      if (result.code == 127) break;
      std::this_thread::sleep_for(std::chrono::duration<double>(settings().pause));
      const auto queue = ask({name_of(jobs[0])});
      if (!queue) return false;
      for (const Job& job : jobs)
        if (queue->contains(job.handle) || exited_in(ended_file(job))) return true;
    }
    fail(Exit::system, "sbatch: {}", words_of(result));
  }

  SlurmSettings slurm_;
  Outage outage_{"squeue"};
  std::set<std::string> held_;  // jobs that were warned of
};

}  // namespace

std::unique_ptr<Executor> slurm_executor(const SchedulerSettings& settings,
                                         const SlurmSettings& slurm) {
  return std::make_unique<SlurmExecutor>(settings, slurm);
}

}  // namespace nfscale
