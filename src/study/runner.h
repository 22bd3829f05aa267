// Runs a study: asks the search for trials, hands them to the executor, and writes down every
// decision before it acts on it. Killed anywhere and started again it starts no trial twice and
// forgets none.
#pragma once

#include <functional>
#include <string>

#include "study/executor.h"
#include "study/store.h"
#include "study/study.h"
#include "study/trials.h"

namespace nfscale {

struct RunOptions {
  std::string program;               // started as PROGRAM pretrain ... and PROGRAM finetune ...
  int threads_per_slot = 1;          // 0: all that the trial finds where it runs
  double retry_delay_s = 1;          // doubles with every failure
  double grace_s = 60;               // for children after a stop
  std::function<void()> begun = {};  // once the study is this process's alone
  std::function<void(const StudyView&)> progress = {};  // after every change and now and then
};

enum class RunOutcome { finished, stopped };

// Exit::usage where another controller is at work, a budget is used up, or the very first trials
// refuse their configuration.
RunOutcome run_study(const Study& study, const Grid& grid, Executor& executor,
                     const RunOptions& options);

// The command of a trial.
std::vector<std::string> trial_command(const Study& study, const Grid& grid, const Trial& trial,
                                       const RunOptions& options);

}  // namespace nfscale
