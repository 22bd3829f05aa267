#include "study/runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "base/hash.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "config/load.h"
#include "study/predict.h"

namespace nfscale {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

// The last lines of a log, as one text.
std::string tail_of(const Path& file, size_t lines) {
  std::string text;
  try {
    text = read_file(file);
  } catch (const Error&) {
    return "no output";
  }
  std::vector<std::string> all = split(text, '\n');
  std::erase_if(all, [](const std::string& line) { return line.empty(); });
  if (all.size() > lines) all.erase(all.begin(), all.end() - static_cast<ptrdiff_t>(lines));
  if (all.empty()) return "no output";
  for (std::string& line : all) line = printable(line);
  return join(all, "\n");
}

// What a child reads. Its name tells its content: a job may wait in a queue for days while the
// study file changes, and changes back.
struct Copy {
  Path path;
  std::string text;
};

Copy copy_of(const Study& study, const std::string& name, std::string text) {
  const Path path =
      study.out / "recipes" / fmt::format("{}-{}.toml", name, hash128(text).substr(0, 8));
  return {path, std::move(text)};
}

Copy base_copy(const Study& study, const Grid& grid) {
  return copy_of(study, "base", config_toml(grid.base));
}

Copy recipe_copy(const Study& study, const Recipe& recipe) {
  return copy_of(study, recipe.name, given_toml(recipe.loaded));
}

void renew(const Copy& copy) {
  files().make_folder(copy.path.parent_path());
  if (!is_there(copy.path) || read_file(copy.path) != copy.text) write_file(copy.path, copy.text);
}

std::string last_line(const std::string& text) {
  return text.substr(text.rfind('\n') + 1);
}

Json chosen_record(const Cell& cell, const TrialView& t) {
  const Trial& trial = t.trial;
  Json record = Json::object({{"run_id", trial.run_id},
                              {"cell", cell.name},
                              {"model", cell.model},
                              {"epochs", cell.epochs},
                              {"params", cell.params},
                              {"macs", cell.macs},
                              {"batch", cell.batch},
                              {"lr", trial.lr},
                              {"lr_index", trial.lr_index},
                              {"seed", trial.seed},
                              {"config_hash", trial.config_hash},
                              {"why", t.why}});
  if (!trial.init.empty()) record.set("init", trial.init);
  return record;
}

class Runner {
 public:
  Runner(const Study& study, const Grid& grid, Executor& executor, const RunOptions& options)
      : study_(study), grid_(grid), executor_(executor), options_(options), store_(study.out) {
    if (options.begun) options.begun();
    renew(base_copy(study, grid));
    for (const Recipe& recipe : grid.recipes) renew(recipe_copy(study, recipe));
  }

  RunOutcome run() {
    refresh();
    for (;;) {
      if (stop_requested()) return stop();
      if (complete(view_) && running_.empty()) return RunOutcome::finished;
      start_more();
      const std::vector<Ended> ended = executor_.poll();
      for (const Ended& e : ended) judge(e);
      if (!ended.empty()) {
        refresh();
        continue;
      }
      if (options_.progress && seconds_since(shown_) > 0.5) {
        options_.progress(view_);
        shown_ = Clock::now();
      }
      executor_.wait();
    }
  }

 private:
  void refresh() {
    std::vector<std::string> ids;
    for (const auto& [id, trial] : running_) ids.push_back(id);
    const auto look_again = [&] { view_ = look(study_, grid_, store_.state(), ids, cache_); };
    look_again();
    // Before anything is concluded: the axis of compute must not move below it.
    if (record_step_times()) look_again();
    if (view_.search.finished && conclude_anew()) look_again();
    if (options_.progress) options_.progress(view_);
    shown_ = Clock::now();
  }

  // What follows from the cells, once for each state of them; true where there is news.
  bool conclude_anew() {
    if (grid_.targets.empty() && grid_.recipes.empty()) return false;
    const uint64_t input = input_hash_of(study_, grid_, view_);
    if (input == concluded_from_) return false;
    concluded_from_ = input;
    const bool sealed = seal(input), chosen = choose_candidates();
    return sealed || chosen;
  }

  // Predictions of the targets, before their first trial; true where there are new ones.
  bool seal(uint64_t input) {
    const std::vector<size_t> due = due_targets(study_, grid_, store_.state(), input);
    if (due.empty()) return false;
    std::vector<CellRow> cells = cell_rows(study_, grid_, view_);
    const StudyConclusions conclusions =
        conclude_study(study_, grid_, view_, cells, static_cast<int>(study_.bootstrap));
    const std::vector<Prediction> predictions =
        new_predictions(study_, grid_, view_, store_.state(), conclusions, due, utc_text());
    for (const Prediction& p : predictions) {
      store_.append("sealed", sealed_record(p));
      say("{}", prediction_line(p));
    }
    if (predictions.size() < due.size())
      warn("{} of {} targets are neither predicted nor trained: there is no law yet",
           due.size() - predictions.size(), grid_.targets.size());
    return !predictions.empty();
  }

  // Which checkpoints are fine-tuned, before the first of them is; true where that is news.
  bool choose_candidates() {
    if (grid_.recipes.empty()) return false;
    std::vector<CellRow> cells = cell_rows(study_, grid_, view_);
    const Json candidates = candidates_json(conclude_study(study_, grid_, view_, cells, 0));
    if (candidates == store_.state().candidates) return false;
    store_.append("candidates", Json::object({{"candidates", candidates}}));
    if (candidates.items().empty())
      warn(
          "no checkpoint is a candidate (a loss below chance, no flag, within finetune.budget): "
          "nothing is fine-tuned");
    return true;
  }

  // Once for a model, batch and device, so that the axis of compute never moves; true where there
  // are new ones.
  bool record_step_times() {
    const size_t known = store_.state().step_times.size();
    for (const TrialView& t : view_.trials) {
      if (!t.result || t.state != "done") continue;
      const std::string key = step_key(grid_.cells[t.trial.cell], t.result->device);
      const auto seconds = step_seconds(*t.result);
      if (seconds && !store_.state().step_times.contains(key))
        store_.append("step_time", Json::object({{"key", key}, {"seconds", *seconds}}));
    }
    return store_.state().step_times.size() > known;
  }

  // True where an earlier controller started the trial and it may be at work still.
  bool adopt(const TrialView& t) {
    const TrialRecord& r = t.record;
    if (r.state != "submitting" && r.state != "submitted") return false;
    if (!adopted_.insert(t.trial.run_id).second) return false;
    Job job = job_of(t);
    job.handle = r.handle;
    if (!executor_.adopt(job, r.state == "submitted")) return false;
    running_[t.trial.run_id] = {job, Clock::now()};
    return true;
  }

  // False where the budget is used up but trials still run; Exit::usage when they have ended.
  bool within_budget(bool at_work) {
    double hours = 0;
    int64_t trials = 0;
    for (const TrialView* t : all_trials(view_)) {
      trials += t->state != "planned" || running_.contains(t->trial.run_id);
      if (t->result && t->result->device_hours > 0) hours += t->result->device_hours;
    }
    const std::string file = study_.file.string();
    std::string used;
    if (study_.budget_trials && trials >= *study_.budget_trials)
      used = fmt::format("{}: budget.trials: all {} trials are used", file, trials);
    else if (study_.budget_hours && hours >= *study_.budget_hours)
      used = fmt::format("{}: budget.device_hours: {:.3g} hours are used, {} allowed", file, hours,
                         number_text(*study_.budget_hours));
    else if (study_.budget_wall && seconds_since(begun_) >= *study_.budget_wall)
      used = fmt::format("{}: budget.wall: {} are over", file, duration_text(*study_.budget_wall));
    if (used.empty()) return true;
    if (!at_work) fail(Exit::usage, "{}; raise it to go on", used);
    return false;
  }

  void start_more() {
    std::vector<Job> wave;
    collect(view_.trials, wave);
    if (view_.search.finished) {
      collect(view_.targets, wave);
      collect(view_.finetunings, wave);
    }
    if (!wave.empty()) start(wave);
  }

  // Adds those that can start now, as far as there are slots.
  void collect(std::vector<TrialView>& trials, std::vector<Job>& wave) {
    for (TrialView& t : trials) {
      if (t.state != "planned" && t.state != "running") continue;
      if (running_.size() + wave.size() >= executor_.slots()) return;
      const std::string& id = t.trial.run_id;
      if (running_.contains(id)) continue;
      if (const auto wait = not_before_.find(id);
          wait != not_before_.end() && Clock::now() < wait->second)
        continue;
      if (adopt(t)) {
        t.state = "running";
        continue;
      }
      if (!within_budget(running_.size() + wave.size() > 0)) return;
      t.state = "running";
      wave.push_back(job_of(t));
      const auto known = store_.state().trials.find(id);
      // A trial whose folder was taken away begins anew, whatever became of it before.
      if (known == store_.state().trials.end() || known->second.chosen.is_null() ||
          (known->second.final && !is_there(wave.back().folder)))
        store_.append("chosen", chosen_record(cell_at(grid_, t.trial.cell), t));
    }
  }

  Job job_of(const TrialView& t) const {
    Job job;
    job.trial = t.trial;
    job.argv = trial_command(study_, grid_, t.trial, options_);
    job.folder = study_.out / "runs" / t.trial.run_id;
    job.log = study_.out / "logs" / (t.trial.run_id + ".txt");
    const Cell& cell = cell_at(grid_, t.trial.cell);
    for (const TrialView* other : all_trials(view_)) {
      if (!other->result) continue;
      const auto known = static_cast<double>(cell_at(grid_, other->trial.cell).params);
      const double times = std::max(1.0, static_cast<double>(cell.params) / known);
      job.save_s = std::max(job.save_s, times * other->result->save_s);
    }
    const double hours = hours_of(grid_, view_, cell);
    if (hours > 0 && t.trial.init.empty()) job.hours = hours;
    return job;
  }

  // Together where their handles are known before, else one by one, so that each handle is written
  // down before the next start.
  void start(std::vector<Job>& wave) {
    executor_.name(wave);
    if (!wave[0].handle.empty()) return start(std::span(wave));
    for (Job& job : wave) start({&job, 1});
  }

  void start(std::span<Job> jobs) {
    const auto append = [&](const char* kind, const Job& job) {
      Json record = Json::object({{"run_id", job.trial.run_id}});
      if (!job.handle.empty()) record.set("handle", job.handle);
      store_.append(kind, record);
    };
    for (const Job& job : jobs) {
      files().make_folder(job.folder);
      files().make_folder(job.log.parent_path());
      append("submitting", job);
    }
    executor_.start(jobs);
    for (const Job& job : jobs) {
      running_[job.trial.run_id] = {job, Clock::now()};
      if (job.confirmed) append("submitted", job);
    }
  }

  void judge(const Ended& ended) {
    const auto found = running_.find(ended.run_id);
    if (found == running_.end()) return;
    const auto [job, started] = found->second;
    running_.erase(found);
    const std::string& id = ended.run_id;
    const auto result = read_result(job.folder);
    if (result) {
      const std::string hash = hash128(read_file(job.folder / "result.json"));
      store_.append("finished", Json::object({{"run_id", id},
                                              {"state", result->status},
                                              {"code", ended.code},
                                              {"result_hash", hash}}));
      return;
    }
    if (ended.code == kLost) return lose(id);
    const std::string tail = tail_of(job.log, 20), last = last_line(tail);
    if (ended.code == static_cast<int>(Exit::preempted)) {
      store_.append("observed", Json::object({{"run_id", id}, {"state", "preempted"}}));
      delay(id, 0);
      return;
    }
    if (ended.code == static_cast<int>(Exit::usage) &&
        last.find("is held by another nfscale") != std::string::npos) {
      // A child of a runner that was killed is still saving, or a scheduler started it twice.
      store_.append("observed",
                    Json::object({{"run_id", id}, {"state", "preempted"}, {"reason", last}}));
      delay(id, executor_.is_detached() ? 6 : 1);
      return;
    }
    if (ended.code == static_cast<int>(Exit::usage) && cache_.empty()) {
      store_.append("observed",
                    Json::object({{"run_id", id}, {"state", "preempted"}, {"reason", last}}));
      cancel_all();
      if (!executor_.is_detached()) stop();
      fail(Exit::usage, "{}: the first trial refuses its configuration: {}", id, last);
    }
    // A scheduler may have let it wait for long: what nobody counted is not made up.
    const double seconds =
        ended.seconds.value_or(executor_.is_detached() ? 0 : seconds_since(started));
    const int failures = store_.state().trials.at(id).failures + 1;
    const bool hopeless = ended.code == static_cast<int>(Exit::usage) ||
                          ended.code == static_cast<int>(Exit::damaged);
    const bool final = hopeless || failures > study_.retries;
    store_.append("failed", Json::object({{"run_id", id},
                                          {"code", ended.code},
                                          {"final", final},
                                          {"wall_s", std::round(seconds)},
                                          {"reason", tail}}));
    warn("{} failed with exit {}{}: {}", id, ended.code, final ? "" : ", is tried again", last);
    delay(id, failures);
  }

  // The scheduler knows nothing of it, nor has it left a word.
  void lose(const std::string& id) {
    if (store_.state().trials.at(id).state == "submitting") {  // the scheduler never had it
      store_.append("observed", Json::object({{"run_id", id}, {"state", "preempted"}}));
      return delay(id, 0);
    }
    const int failures = store_.state().trials.at(id).failures + 1;
    const bool final = failures > study_.retries;
    store_.append("lost", Json::object({{"run_id", id},
                                        {"final", final},
                                        {"reason", "lost: the scheduler does not know it"}}));
    warn("{} is lost: the scheduler does not know it{}", id, final ? "" : "; it starts again");
    delay(id, failures);
  }

  void delay(const std::string& id, int failures) {
    const double s = options_.retry_delay_s * std::exp2(std::min(failures, 8));
    not_before_[id] = Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(s * 1000));
  }

  void cancel_all() {
    for (const auto& [id, running] : running_) {
      executor_.cancel(running.job);
      if (executor_.is_detached())
        store_.append("observed", Json::object({{"run_id", id}, {"state", "preempted"}}));
    }
  }

  // Asks the children to save and waits for them; what a scheduler runs goes on.
  RunOutcome stop() {
    if (executor_.is_detached()) {
      if (!running_.empty()) say("{} trials stay in the queue or run on", running_.size());
      return RunOutcome::stopped;
    }
    if (!running_.empty()) say("stopping: {} trials save their state", running_.size());
    cancel_all();
    const auto since = Clock::now();
    while (!running_.empty() && seconds_since(since) < options_.grace_s) {
      for (const Ended& e : executor_.poll()) {
        const auto found = running_.find(e.run_id);
        if (found == running_.end()) continue;
        const Job job = found->second.job;
        running_.erase(found);
        const auto result = read_result(job.folder);
        Json record = Json::object({{"run_id", e.run_id}, {"code", e.code}});
        record.set("state", result ? Json(result->status) : Json("preempted"));
        store_.append(result ? "finished" : "observed", record);
      }
      if (!running_.empty()) executor_.wait();
    }
    return RunOutcome::stopped;
  }

  const Study& study_;
  const Grid& grid_;
  Executor& executor_;
  const RunOptions& options_;
  Store store_;
  StudyView view_;
  ResultCache cache_;
  struct Running {
    Job job;
    Clock::time_point started;
  };
  std::map<std::string, Running> running_;
  std::set<std::string> adopted_;           // or tried to; once in the life of a controller
  std::optional<uint64_t> concluded_from_;  // hash of the cells that was last concluded from
  std::map<std::string, Clock::time_point> not_before_;
  Clock::time_point begun_ = Clock::now(), shown_ = Clock::now();
};

}  // namespace

std::vector<std::string> trial_command(const Study& study, const Grid& grid, const Trial& trial,
                                       const RunOptions& options) {
  const Path runs = study.out / "runs";
  std::vector<std::string> argv = {options.program};
  if (trial.init.empty()) {
    argv.insert(argv.end(), {"pretrain", "--config", base_copy(study, grid).path.string()});
    for (const std::string& setting :
         trial_settings(grid, cell_at(grid, trial.cell), trial.lr, trial.seed))
      argv.insert(argv.end(), {"--set", setting});
  } else {
    argv.insert(argv.end(), {"finetune", "--config",
                             recipe_copy(study, grid.recipes[trial.recipe]).path.string(), "--init",
                             (runs / trial.init).string()});
  }
  argv.insert(argv.end(), {"--out", (runs / trial.run_id).string()});
  if (options.threads_per_slot)
    argv.insert(argv.end(), {"--threads", std::to_string(options.threads_per_slot)});
  argv.push_back("--quiet");
  return argv;
}

RunOutcome run_study(const Study& study, const Grid& grid, Executor& executor,
                     const RunOptions& options) {
  return Runner(study, grid, executor, options).run();
}

}  // namespace nfscale
