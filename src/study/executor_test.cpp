#include "study/executor.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "base/json.h"
#include "base/lease.h"
#include "base/log.h"
#include "base/process.h"
#include "base/testing.h"
#include "base/text.h"
#include "study/scheduler.h"

namespace nfscale {
namespace {

TEST(Executor, ChildrenAreStartedPolledAndAskedToEnd) {
  TestFolder folder;
  const auto executor = local_executor(2);
  Job job;
  job.log = folder.path / "log";
  job.trial.run_id = "quick";
  job.argv = {"/bin/sh", "-c", "echo said; exit 7"};
  executor->start({&job, 1});
  job.trial.run_id = "slow";
  job.argv = {"/bin/sh", "-c", "trap 'exit 75' TERM; while :; do sleep 0.01; done"};
  executor->start({&job, 1});
  std::map<std::string, int> codes;
  while (codes.size() < 2) {
    for (const Ended& e : executor->poll()) codes[e.run_id] = e.code;
    if (codes.contains("quick")) executor->cancel(job);
    executor->wait();
  }
  EXPECT_EQ(codes["quick"], 7);
  EXPECT_TRUE(codes["slow"] == 75 || codes["slow"] == 128 + 15) << codes["slow"];
  EXPECT_EQ(read_file(job.log), "said\n");
}

// A scheduler of one machine in shell: jobs are processes, the queue is a folder. `mode` says how
// the next sbatch answers: "ok", "refuse", "take and fail", "take and hang", "lie" (says yes, takes
// nothing); `down` is there while squeue fails.
constexpr const char* kSbatch = R"(#!/bin/bash
cd "$FAKE"
echo "$*" >> sbatch.txt
mode=$(cat mode); echo ok > mode
last=0 name=
for a in "$@"; do
  case $a in
    --job-name=*) name=${a#--job-name=} ;;
    --array=0-*) last=${a#--array=0-}; last=${last%%\%*} ;;
  esac
  script=$a
done
if [ "$mode" = refuse ]; then echo "sbatch: error: invalid partition" >&2; exit 1; fi
if [ "$mode" = lie ]; then echo 77; exit 0; fi
id=$((1000 + $(wc -l < sbatch.txt) * 100))
for i in $(seq 0 $last); do
  SLURM_JOB_ID=$((id + i)) SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$i setsid bash "$script" > /dev/null 2>&1 &
  echo $! > "queue/$name|$i|${id}_$i"
done
if [ "$mode" = "take and fail" ]; then echo "sbatch: error: Socket timed out" >&2; exit 1; fi
if [ "$mode" = "take and hang" ]; then exec sleep 60; fi
echo $id
)";
constexpr const char* kSqueue = R"(#!/bin/bash
cd "$FAKE"
echo "$*" >> squeue.txt
[ -e down ] && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
cd queue
for job in *; do [ -e "$job" ] && kill -0 $(cat "$job") 2> /dev/null && echo "$job"; done
exit 0
)";
constexpr const char* kScancel = R"(#!/bin/bash
cd "$FAKE"/queue
for job in *"|$1"; do kill -TERM $(cat "$job"); done
)";
constexpr const char* kScontrol = R"(#!/bin/bash
echo "$*" >> "$FAKE"/scontrol.txt
[ ! -e "$FAKE"/no_requeue ]
)";

class FakeSlurm {
 public:
  TestFolder folder;
  SchedulerSettings settings;

  FakeSlurm() {
    set_log_level(LogLevel::quiet);
    for (const char* name : {"bin", "queue", "runs"}) files().make_folder(folder.path / name);
    program("sbatch", kSbatch);
    program("squeue", kSqueue);
    program("scancel", kScancel);
    program("scontrol", kScontrol);
    ::setenv("PATH", ((folder.path / "bin").string() + ":" + path_).c_str(), 1);
    ::setenv("FAKE", folder.path.c_str(), 1);
    mode("ok");
    settings = {.folder = folder.path / "jobs",
                .study = "test",
                .slots = 4,
                .lease = 0.5,
                .interval = 0.02,
                .patience = 5,
                .pause = 0.1};
  }
  ~FakeSlurm() { ::setenv("PATH", path_.c_str(), 1); }

  void program(const char* name, const char* text) const {
    const Path file = folder.path / "bin" / name;
    write_file(file, text);
    ::chmod(file.c_str(), 0755);
  }
  void mode(const char* text) const { folder.write("mode", std::string(text) + "\n"); }
  std::string said(const char* file) const {
    return std::filesystem::exists(folder.path / file) ? read_file(folder.path / file) : "";
  }
  size_t times(const char* file) const {
    const std::string text = said(file);
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  // A trial that writes down that it was started and does what the shell says.
  Job job(const std::string& id, const std::string& shell) const {
    Job job;
    job.trial.run_id = id;
    job.folder = folder.path / "runs" / id;
    job.log = folder.path / (id + ".log");
    files().make_folder(job.folder);
    job.argv = {"/bin/bash", "-c",
                fmt::format("echo {} >> '{}/started'; {}", id, folder.path.string(), shell)};
    return job;
  }
  std::vector<Job> start(Executor& executor, std::vector<Job> jobs) const {
    executor.name(jobs);
    executor.start(jobs);
    return jobs;
  }
  // Codes by run id, once so many have ended; what has by then, where that takes too long.
  static std::map<std::string, int> ends(Executor& executor, size_t count, double seconds = 10) {
    std::map<std::string, int> codes;
    for (const double end = now_s() + seconds; codes.size() < count && now_s() < end;) {
      for (const Ended& e : executor.poll()) codes[e.run_id] = e.code;
      ::usleep(5000);
    }
    return codes;
  }

 private:
  std::string path_ = std::getenv("PATH");
};

using Codes = std::map<std::string, int>;

TEST(Slurm, AWaveIsOneArrayAndEveryElementHasItsCodeAndLog) {
  const FakeSlurm slurm;
  const auto executor = slurm_executor(slurm.settings, {});
  slurm.start(*executor, {slurm.job("a", "echo it\\'s a; exit 0"), slurm.job("b", "exit 4"),
                          slurm.job("c", "echo no >&2; exit 74")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 3), (Codes{{"a", 0}, {"b", 4}, {"c", 74}}));
  EXPECT_EQ(slurm.times("sbatch.txt"), 1u);
  EXPECT_NE(slurm.said("sbatch.txt").find("--array=0-2%4"), std::string::npos);
  EXPECT_EQ(slurm.said("a.log"), "it's a\n");
  EXPECT_EQ(slurm.said("c.log"), "no\n");
}

// A job that runs 1.1 s and is asked for late.
void expect_its_own_seconds(Executor& executor) {
  const double begin = now_s();
  std::vector<Ended> ended;
  ::usleep(2'500'000);
  while (ended.empty() && now_s() - begin < 30) ended = executor.poll();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].code, 9);
  EXPECT_GE(ended[0].seconds.value(), 1);
  EXPECT_LT(ended[0].seconds.value(), now_s() - begin);
}

// The queue may hold a job for hours; only what it ran has cost anything.
TEST(Slurm, AJobTakesWhatItRanAndNotWhatItWaited) {
  const FakeSlurm slurm;
  const auto executor = slurm_executor(slurm.settings, {});
  slurm.start(*executor, {slurm.job("a", "sleep 1.1; exit 9")});
  expect_its_own_seconds(*executor);
}

TEST(Scheduler, WhatAJobLeftIsReadAndNothingElseIsBelieved) {
  const TestFolder folder;
  const auto of = [&](const std::string& text) {
    folder.write("ended", text);
    return exited_in(folder.path / "ended");
  };
  EXPECT_EQ(of("9 120\n")->code, 9);
  EXPECT_EQ(of("9 120\n")->seconds, 120);
  EXPECT_EQ(of("0\n")->seconds, std::nullopt);
  EXPECT_EQ(of("9 -3600\n")->seconds, std::nullopt);  // its clock was set back
  EXPECT_EQ(of("9 x\n")->seconds, std::nullopt);
  for (const std::string& text :
       {std::string(), std::string("\n"), std::string("x 1"), std::string(100, '1')})
    EXPECT_FALSE(of(text)) << text;
  EXPECT_FALSE(exited_in(folder.path / "nothing"));
}

TEST(Slurm, WithoutArraysEveryTrialIsAJobOfItsName) {
  const FakeSlurm slurm;
  const auto executor = slurm_executor(slurm.settings, {.array = false});
  slurm.start(*executor, {slurm.job("a", "exit 0"), slurm.job("b", "exit 4")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 2), (Codes{{"a", 0}, {"b", 4}}));
  EXPECT_EQ(slurm.times("sbatch.txt"), 2u);
  EXPECT_NE(slurm.said("sbatch.txt").find("-a "), std::string::npos);
  EXPECT_EQ(slurm.said("sbatch.txt").find("--array"), std::string::npos);
}

TEST(Slurm, ArgumentsAndSetupComeToTheJob) {
  const FakeSlurm slurm;
  const auto executor = slurm_executor(
      slurm.settings, {.args = {"--time=1:00:00", "--gres=gpu:1"}, .setup = "export WHERE=here\n"});
  slurm.start(*executor, {slurm.job("a", "echo $WHERE")});
  FakeSlurm::ends(*executor, 1);
  EXPECT_NE(slurm.said("sbatch.txt").find("--time=1:00:00 --gres=gpu:1"), std::string::npos);
  EXPECT_EQ(slurm.said("a.log"), "here\n");
}

TEST(Slurm, AnAnswerThatIsLostStartsNothingTwice) {
  for (const char* mode : {"refuse", "take and fail", "take and hang"}) {
    FakeSlurm slurm;
    slurm.settings.patience = 1;  // of which "take and hang" uses all
    slurm.mode(mode);
    const auto executor = slurm_executor(slurm.settings, {});
    slurm.start(*executor, {slurm.job("a", "exit 0"), slurm.job("b", "sleep 2")});
    EXPECT_EQ(FakeSlurm::ends(*executor, 2).size(), 2u) << mode;
    EXPECT_EQ(slurm.times("started"), 2u) << mode;
  }
}

// A controller that is away while a job is submitted: nobody knows whether the job was taken.
TEST(Slurm, WithoutAnyAnswerASubmissionIsAskedForLater) {
  for (const char* mode : {"take and fail", "refuse"}) {
    const FakeSlurm slurm;
    slurm.mode(mode);
    slurm.folder.write("down", "");
    const auto executor = slurm_executor(slurm.settings, {});
    const std::vector<Job> jobs = slurm.start(*executor, {slurm.job("a", "sleep 0.5; exit 4")});
    EXPECT_FALSE(jobs[0].confirmed);
    std::filesystem::remove(slurm.folder.path / "down");
    const bool taken = std::string_view(mode) != "refuse";
    EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", taken ? 4 : kLost}})) << mode;
    EXPECT_EQ(slurm.times("sbatch.txt"), 1u);
  }
}

TEST(Slurm, WhatAUserHasSetForTheQueueHidesNothing) {
  const FakeSlurm slurm;
  ::setenv("SQUEUE_STATES", "RUNNING", 1);
  slurm.program("squeue", "#!/bin/sh\nenv | grep SQUEUE_ >> \"$FAKE\"/set.txt\nexit 0\n");
  const auto executor = slurm_executor(slurm.settings, {});
  slurm.start(*executor, {slurm.job("a", "exit 0")});
  FakeSlurm::ends(*executor, 1);
  ::unsetenv("SQUEUE_STATES");
  EXPECT_EQ(slurm.said("set.txt"), "");
}

TEST(Slurm, AProgramThatIsNotThereAndASetupThatStopsAtErrorsLeaveACode) {
  const FakeSlurm slurm;
  const auto executor = slurm_executor(slurm.settings, {.setup = "set -eu\n"});
  Job missing = slurm.job("missing", "");
  missing.argv = {"/nowhere/nfscale"};
  slurm.start(*executor, {missing, slurm.job("a", "exit 4")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 2), (Codes{{"missing", 127}, {"a", 4}}));
}

TEST(Slurm, ARefusalIsToldInSlurmsWords) {
  const FakeSlurm slurm;
  slurm.program("sbatch", "#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n");
  const auto executor = slurm_executor(slurm.settings, {});
  try {
    slurm.start(*executor, {slurm.job("a", "exit 0")});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::system);
    EXPECT_STREQ(e.what(), "sbatch: invalid partition");
  }
}

TEST(Slurm, WhileTheQueueDoesNotAnswerNothingIsLostOrStartedAgain) {
  const FakeSlurm slurm;
  const auto executor = slurm_executor(slurm.settings, {});
  slurm.start(*executor, {slurm.job("a", "sleep 0.2; exit 0")});
  slurm.folder.write("down", "");
  EXPECT_EQ(FakeSlurm::ends(*executor, 1, 1.0), Codes{});
  std::filesystem::remove(slurm.folder.path / "down");
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 0}}));
}

TEST(Slurm, AJobThatWasNeverTakenIsLostBehindItsLease) {
  const FakeSlurm slurm;
  slurm.mode("lie");
  const auto executor = slurm_executor(slurm.settings, {});
  const double begun = now_s();
  slurm.start(*executor, {slurm.job("a", "exit 0")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", kLost}}));
  EXPECT_GE(now_s() - begun, slurm.settings.lease);
}

TEST(Slurm, AJobWhoseRunDirectoryIsHeldIsNotLost) {
  const FakeSlurm slurm;
  slurm.mode("lie");
  const auto executor = slurm_executor(slurm.settings, {});
  const std::vector<Job> jobs = slurm.start(*executor, {slurm.job("a", "exit 0")});
  {
    const Lease lease(jobs[0].folder / ".lease", "the run");
    EXPECT_EQ(FakeSlurm::ends(*executor, 1, 3 * slurm.settings.lease), Codes{});
  }
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", kLost}}));
}

TEST(Slurm, ALaterControllerFindsWhatAnEarlierOneStarted) {
  const FakeSlurm slurm;
  std::vector<Job> jobs = {slurm.job("a", "sleep 0.5; exit 4"), slurm.job("b", "exit 0"),
                           slurm.job("never", "exit 0")};
  {
    const auto first = slurm_executor(slurm.settings, {});
    first->name(jobs);
    first->start(std::span(jobs).first(2));  // and dies before the answer is written down
  }
  const auto second = slurm_executor(slurm.settings, {});
  for (const Job& job : jobs) EXPECT_TRUE(second->adopt(job, false));
  EXPECT_EQ(FakeSlurm::ends(*second, 3), (Codes{{"a", 4}, {"b", 0}, {"never", kLost}}));
  EXPECT_EQ(slurm.times("started"), 2u);
}

TEST(Slurm, AnElementThatIsEndedByHandLeavesItsCode) {
  const FakeSlurm slurm;
  const auto executor = slurm_executor(slurm.settings, {});
  const std::vector<Job> jobs =
      slurm.start(*executor, {slurm.job("a", "trap 'exit 75' TERM; while :; do sleep 0.01; done")});
  while (slurm.times("started") == 0) ::usleep(5000);
  ::usleep(50000);
  executor->cancel(jobs[0]);
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 75}}));
  EXPECT_EQ(slurm.said("scontrol.txt"), "");
}

TEST(Slurm, ASetupThatFailsLeavesItsCodeAndWhatItSaid) {
  const FakeSlurm slurm;
  const auto executor =
      slurm_executor(slurm.settings, {.setup = "set -e\necho no such module >&2; (exit 3)\n"});
  slurm.start(*executor, {slurm.job("a", "exit 0")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 3}}));
  EXPECT_EQ(slurm.said("a.log"), "no such module\n");
  EXPECT_EQ(slurm.times("started"), 0u);
  const auto ended = slurm_executor(slurm.settings, {.setup = "kill -TERM $$; sleep 1\n"});
  slurm.start(*ended, {slurm.job("b", "exit 0")});
  EXPECT_EQ(FakeSlurm::ends(*ended, 1), (Codes{{"b", 143}}));
}

// A controller may itself be an element of an array, and sbatch hands its environment on.
TEST(Slurm, TheArrayOfTheControllerIsNotThatOfItsJobs) {
  const FakeSlurm slurm;
  ::setenv("SLURM_ARRAY_TASK_ID", "7", 1);
  const auto executor = slurm_executor(slurm.settings, {.array = false});
  slurm.start(*executor, {slurm.job("a", "exit 4")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 4}}));
  ::unsetenv("SLURM_ARRAY_TASK_ID");
}

TEST(Slurm, APercentInAPathIsNoPattern) {
  FakeSlurm slurm;
  slurm.settings.folder = slurm.folder.path / "100%jobs";
  const auto executor = slurm_executor(slurm.settings, {});
  slurm.start(*executor, {slurm.job("a", "exit 4")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 4}}));
  EXPECT_NE(slurm.said("sbatch.txt").find("/100%%jobs/nfs-"), std::string::npos);
}

TEST(Slurm, AJobThatIsHeldIsToldOnce) {
  const FakeSlurm slurm;
  slurm.program("squeue",
                "#!/bin/bash\necho \"${!#}\" | sed 's/--name=\\(.*\\)/\\1|0|12_0|JobHeldAdmin/'\n");
  const auto executor = slurm_executor(slurm.settings, {});
  set_log_level(LogLevel::warning);
  testing::internal::CaptureStderr();
  slurm.start(*executor, {slurm.job("a", "exit 0")});
  EXPECT_EQ(FakeSlurm::ends(*executor, 1, 1.0), Codes{});
  const std::string said = testing::internal::GetCapturedStderr();
  set_log_level(LogLevel::quiet);
  EXPECT_NE(said.find("job 12_0 is held in the queue (JobHeldAdmin)"), std::string::npos) << said;
  EXPECT_EQ(said.find("12_0 is held"), said.rfind("12_0 is held"));
}

// The controller of the cluster may not answer when a slice of time ends.
TEST(Slurm, ASavedTrialWhoseRequeueHangsIsPreemptedAndNotLost) {
  const FakeSlurm slurm;
  slurm.program("scontrol", "#!/bin/sh\nsleep 60\n");
  const auto executor = slurm_executor(slurm.settings, {});
  slurm.mode("lie");
  const std::string ready = (slurm.folder.path / "ready").string();
  const std::vector<Job> jobs = slurm.start(
      *executor, {slurm.job("a", fmt::format("trap 'exit 75' USR1; > '{}'; while :; do sleep 0.01; "
                                             "done",
                                             ready))});
  const std::string name = jobs[0].handle.substr(0, jobs[0].handle.rfind('/')),
                    job = (slurm.settings.folder / name).string();
  run_command({"/bin/bash", "-c",
               fmt::format("bash '{}.sh' & while [ ! -e '{}' ]; do sleep 0.01; done; sleep 0.3; "
                           "kill -USR1 $!; for i in $(seq 500); do [ -e '{}.0' ] && break; sleep "
                           "0.01; done; kill -KILL $!",
                           job, ready, job)},
              20);
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 75}}));
}

// Lightning-AI/pytorch-lightning#15022: in an array the parent's id was requeued, and all elements
// started again or none.
TEST(Slurm, ASliceThatIsOverRequeuesItsOwnElementAlone) {
  const FakeSlurm slurm;
  slurm.folder.write("no_requeue", "");  // so that the script does not wait to be ended
  const auto executor = slurm_executor(slurm.settings, {});
  slurm.mode("lie");
  const std::vector<Job> jobs =
      slurm.start(*executor, {slurm.job("a", "exit 1"), slurm.job("b", "exit 1"),
                              slurm.job("c", "trap 'exit 75' USR1; while :; do sleep 0.01; done")});
  const std::string script =
      (slurm.settings.folder / (jobs[0].handle.substr(0, jobs[0].handle.rfind('/')) + ".sh"))
          .string();
  const auto end_slice = [&](const std::string& environment) {
    const size_t started = slurm.times("started");
    const std::string shell = fmt::format(
        "{} bash '{}' & sleep 0.1; while [ \"$(wc -l < '{}/started')\" -le {} ]; do sleep "
        "0.01; done; sleep 0.1; kill -USR1 $!; wait $!",
        environment, script, slurm.folder.path.string(), started);
    slurm.folder.write("started", slurm.said("started"));
    return run_command({"/bin/bash", "-c", shell}, 20).code;
  };
  EXPECT_EQ(end_slice("SLURM_JOB_ID=1236 SLURM_ARRAY_JOB_ID=1234 SLURM_ARRAY_TASK_ID=2"), 75);
  EXPECT_EQ(slurm.said("scontrol.txt"), "requeue 1234_2\n");
  EXPECT_EQ(end_slice("SLURM_JOB_ID=1236 SLURM_ARRAY_JOB_ID=1234 SLURM_ARRAY_TASK_ID=2 "
                      "SLURM_RESTART_COUNT=3"),
            75);
  EXPECT_EQ(slurm.said("scontrol.txt"), "requeue 1234_2\nrequeue 1234_2\n");
}

TEST(Slurm, AJobWithoutAnArrayIsRequeuedByItsOwnId) {
  const FakeSlurm slurm;
  slurm.folder.write("no_requeue", "");
  const auto executor = slurm_executor(slurm.settings, {.array = false});
  slurm.mode("lie");
  const std::vector<Job> jobs =
      slurm.start(*executor, {slurm.job("a", "trap 'exit 75' USR1; while :; do sleep 0.01; done")});
  const std::string script =
      (slurm.settings.folder / (jobs[0].handle.substr(0, jobs[0].handle.rfind('/')) + ".sh"))
          .string();
  run_command(
      {"/bin/bash", "-c",
       fmt::format("SLURM_JOB_ID=1236 bash '{}' & while [ ! -e '{}/started' ]; do sleep 0.01; "
                   "done; sleep 0.1; kill -USR1 $!; wait $!",
                   script, slurm.folder.path.string())},
      20);
  EXPECT_EQ(slurm.said("scontrol.txt"), "requeue 1236\n");
  // Where that is refused the controller submits again.
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 75}}));
}

// ---------------------------------------------------------------- any other scheduler
CommandSettings by_files(const FakeSlurm& fake) {
  const std::string place = fake.folder.path.string();
  return {.submit = fmt::format(
              "cd '{}'; n=$(cat ids 2> /dev/null); n=$((n + 1)); echo $n > ids; echo {{run_id}} "
              "{{hours}} >> submitted; "
              "(sh -c {{command}}; echo $? > new.$n; mv new.$n code.$n) > /dev/null 2>&1 & echo "
              "job; echo $n",
              place),
          .status = fmt::format("cd '{}'; if [ -e code.{{handle}} ]; then case $(cat "
                                "code.{{handle}}) in 0) echo done;; 4) echo diverged;; "
                                "75) echo preempted;; *) echo failed;; esac; else echo running; fi",
                                place),
          .cancel = fmt::format("echo {{handle}} >> '{}/cancelled'", place)};
}

TEST(CommandExecutor, JobsAreSubmittedAskedForAndCancelledByTheirHandles) {
  const FakeSlurm fake;
  const auto executor = command_executor(fake.settings, by_files(fake));
  std::vector<Job> jobs = {fake.job("a", "exit 0"), fake.job("b", "echo 'two words'; exit 4"),
                           fake.job("c", "exit 75"), fake.job("d", "exit 9")};
  jobs[1].hours = 2.1;
  jobs = fake.start(*executor, jobs);
  EXPECT_EQ(jobs[1].handle, "2");
  EXPECT_EQ(FakeSlurm::ends(*executor, 4), (Codes{{"a", 0}, {"b", 4}, {"c", 75}, {"d", 9}}));
  EXPECT_EQ(fake.said("b.log"), "two words\n");
  EXPECT_EQ(fake.said("submitted"), "a 24\nb 4\nc 24\nd 24\n");
  executor->cancel(jobs[2]);
  EXPECT_EQ(fake.said("cancelled"), "3\n");
}

TEST(CommandExecutor, AJobTakesWhatItRanAndNotWhatItWaited) {
  const FakeSlurm fake;
  const auto executor = command_executor(fake.settings, by_files(fake));
  fake.start(*executor, {fake.job("a", "sleep 1.1; exit 9")});
  expect_its_own_seconds(*executor);
}

TEST(CommandExecutor, WhereACommandLeftNoCodeTheWordCounts) {
  for (const auto& [word, code] :
       Codes{{"done", 0}, {"diverged", 4}, {"preempted", 75}, {"failed", 1}, {"lost", kLost}}) {
    const FakeSlurm fake;
    CommandSettings command = by_files(fake);
    command.submit = "echo 1";
    command.status = "echo " + word;
    const auto executor = command_executor(fake.settings, command);
    fake.start(*executor, {fake.job("a", "exit 0")});
    EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", code}})) << word;
  }
}

TEST(CommandExecutor, ALaterControllerFindsJobsByTheirHandles) {
  const FakeSlurm fake;
  std::vector<Job> jobs = {fake.job("a", "sleep 0.3; exit 4")};
  jobs = fake.start(*command_executor(fake.settings, by_files(fake)), jobs);
  const auto second = command_executor(fake.settings, by_files(fake));
  EXPECT_TRUE(second->adopt(jobs[0], true));
  EXPECT_EQ(FakeSlurm::ends(*second, 1), (Codes{{"a", 4}}));
  EXPECT_FALSE(second->adopt(fake.job("without a handle", ""), false));
}

TEST(CommandExecutor, AnswersThatSayNothingEndNothing) {
  for (const char* status : {"exit 1", "echo what", "sleep 60", "true"}) {
    FakeSlurm fake;
    fake.settings.patience = 0.5;
    CommandSettings command = by_files(fake);
    command.status = status;
    const auto executor = command_executor(fake.settings, command);
    fake.start(*executor, {fake.job("a", "sleep 2")});
    EXPECT_EQ(FakeSlurm::ends(*executor, 1, 1.2), Codes{}) << status;
  }
}

// As a scheduler does that forgets a job with its end.
TEST(CommandExecutor, WhereTheStatusSaysNothingTheCodeThatWasLeftCounts) {
  for (const char* status : {"echo unknown job >&2; exit 1", "echo what", "true"}) {
    const FakeSlurm fake;
    CommandSettings command = by_files(fake);
    command.status = status;
    const auto executor = command_executor(fake.settings, command);
    fake.start(*executor, {fake.job("a", "exit 75")});
    EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 75}})) << status;
  }
}

// In some shells a redirection that fails has the code of a wrong usage.
TEST(CommandExecutor, ALogThatCannotBeWrittenIsTheSystemsFault) {
  const FakeSlurm fake;
  const auto executor = command_executor(fake.settings, by_files(fake));
  Job job = fake.job("a", "exit 0");
  std::filesystem::create_directory(job.log);
  fake.start(*executor, {job});
  EXPECT_EQ(FakeSlurm::ends(*executor, 1), (Codes{{"a", 74}}));
  EXPECT_EQ(fake.times("started"), 0u);
}

TEST(CommandExecutor, ASubmissionWithoutAHandleIsToldInItsWords) {
  FakeSlurm fake;
  fake.settings.patience = 0.5;
  const auto failed = [&](const char* submit) -> std::string {
    CommandSettings command = by_files(fake);
    command.submit = submit;
    try {
      fake.start(*command_executor(fake.settings, command), {fake.job("a", "exit 0")});
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::system);
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(failed("echo no room >&2; exit 3"), "executor.command.submit: no room");
  EXPECT_EQ(failed("true"), "executor.command.submit: it printed no handle");
  EXPECT_EQ(failed("sleep 60"), "executor.command.submit: no answer in time");
  EXPECT_NE(
      failed("printf 'job\\351\\n'").find("the handle \"job\\xe9\"; expected printable UTF-8"),
      std::string::npos);
}

}  // namespace
}  // namespace nfscale
