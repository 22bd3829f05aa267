// study: plans, runs, looks at and reports a scaling study.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <set>
#include <thread>

#include "base/files.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/measure.h"
#include "config/load.h"
#include "data/source.h"
#include "study/plan.h"
#include "study/predict.h"
#include "study/remaining.h"
#include "study/report.h"
#include "study/runner.h"
#include "study/status.h"

namespace nfscale {
namespace {

StudyData data_of(const Path& file) {
  const Config config = load_config(file, {}).config;
  if (config.data.train.empty()) fail(Exit::usage, "{}: data.train is missing", file.string());
  if (config.data.heldout.empty())
    fail(Exit::usage,
         "{}: data.heldout: a study needs a held-out set (one folder can be divided by "
         "?split=train&share=0.05 and ?split=heldout&share=0.05)",
         file.string());
  const auto train = open_source(config.data.train), heldout = open_source(config.data.heldout);
  require_training_set(*train);
  match_classes(*heldout, train->classes());
  return {.examples = train->size(),
          .heldout_examples = heldout->size(),
          .classes = config.model.classes ? config.model.classes
                                          : static_cast<int64_t>(train->classes().size()),
          .train_fingerprint = train->fingerprint(),
          .heldout_fingerprint = heldout->fingerprint()};
}

// The only place where a study meets its data.
StudyData read_data(const Study& study) {
  StudyData data = data_of(study.base);
  for (const std::string& recipe : study.recipes) data.finetune.push_back(data_of(recipe));
  return data;
}

Study load(const Args& args) {
  return load_study(*args.path("STUDY.toml"), args.path("--out"));
}

// Looking at a study needs no data where a plan tells of it.
Grid open_grid(const Study& study, bool with_data) {
  if (!with_data)
    if (const auto data = planned_data(study)) return make_grid(study, *data);
  return make_grid(study, read_data(study));
}

int threads_per_slot(const Study& study, const Args& args) {
  return static_cast<int>(std::max<int64_t>(1, args.threads() / study.slots));
}

Plan plan_of(const Study& study, const Grid& grid, const Args& args) {
  ResultCache cache;
  StudyView view = look(study, grid, read_store(study.out / "store").state, {}, cache);
  const int threads = threads_per_slot(study, args);
  if (args.has("--measure")) view.measured_steps = measure_models(grid, threads);
  const double devices = static_cast<double>(study.slots * threads);
  return make_plan(study, grid, view, devices);
}

void write_plan(const Study& study, const Grid& grid, const Plan& plan) {
  files().make_folder(study.out);
  write_file(study.out / "study.toml", study_toml(study));
  write_file(study.out / "plan.json", plan_json(study, grid, plan).dump(1) + "\n");
}

void run_plan(const Args& args) {
  const Study study = load(args);
  const Grid grid = open_grid(study, true);
  const Plan plan = plan_of(study, grid, args);
  write_plan(study, grid, plan);
  if (!plan.refused.empty()) fail(Exit::usage, "{}", plan.refused);
  print_result(
      args, plan_json(study, grid, plan),
      text_table(plan_rows(grid, plan)) + plan_text(study, grid, plan, std::time(nullptr)));
}

// States as the run directories and the store tell them.
StudyView view_of(const Study& study, const Grid& grid, const StoreState& store,
                  ResultCache& cache) {
  std::vector<std::string> running;
  const bool live = live_controller(study.out).has_value();
  for (const auto& [id, trial] : store.trials)
    if ((live || !trial.handle.empty()) &&
        (trial.state == "submitting" || trial.state == "submitted"))
      running.push_back(id);
  return look(study, grid, store, running, cache);
}

std::string status_block(const Study& study, const Grid& grid, const StudyView& view,
                         const std::vector<Prediction>& predictions) {
  return text_table(status_rows(grid, view)) + status_text(study, grid, view, predictions);
}

// Repaints on a terminal, elsewhere a block now and then; until the study is complete or Ctrl-C.
void watch(const Study& study, const Grid& grid) {
  using Clock = std::chrono::steady_clock;
  catch_stop_signals();
  const char* term = std::getenv("TERM");
  const bool paints = ::isatty(STDOUT_FILENO) && term && std::string_view(term) != "dumb";
  const auto pause = std::chrono::seconds(paints ? 2 : 60);
  ResultCache cache;
  for (bool first = true;; first = false) {
    const StoreState store = read_store(study.out / "store").state;
    const StudyView view = view_of(study, grid, store, cache);
    const std::string block = status_block(study, grid, view, sealed_predictions(study, store));
    print((paints ? "\x1b[H\x1b[J" : first ? "" : "\n") + block);
    if (complete(view)) return;
    const auto until = Clock::now() + pause;
    while (Clock::now() < until) {
      if (stop_requested()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
}

void run_status(const Args& args) {
  if (args.has("--watch") && args.json())
    fail(Exit::usage, "--watch and --json exclude each other");
  const Study study = load(args);
  if (args.has("--repair"))
    for (const std::string& file : repair_store(study.out))
      say("store/{} is damaged and was moved aside; the run directories tell the rest", file);
  const Grid grid = open_grid(study, false);
  if (args.has("--watch")) return watch(study, grid);
  const StoreState store = read_store(study.out / "store").state;
  ResultCache cache;
  const StudyView view = view_of(study, grid, store, cache);
  if (is_there(study.out)) {
    write_file(study.out / "trials.csv", csv_text(trials_table(study, grid, view, store)));
    std::vector<CellRow> cells = cell_rows(study, grid, view);
    // The law's columns of a very large grid wait for the report: a look has to be quick.
    if (cells.size() <= 100) conclude_study(study, grid, view, cells, 0);
    write_file(study.out / "cells.csv", csv_text(cells_table(cells)));
  }
  const std::vector<Prediction> predictions = sealed_predictions(study, store);
  print_result(args, status_json(study, grid, view, predictions),
               status_block(study, grid, view, predictions));
}

// Tables, figures and the page; what they say.
StudyResults write_report(const Study& study, const Grid& grid, const StudyView& view,
                          const StoreState& store) {
  const StudyResults results = results_of(study, grid, view, store);
  files().make_folder(study.out);
  write_tables(study, results);
  write_file(study.out / "report.html", report_html(study, grid, view, results));
  return results;
}

void run_report(const Args& args) {
  const Study study = load(args);
  const Grid grid = open_grid(study, false);
  const StoreState store = read_store(study.out / "store").state;
  ResultCache cache;
  const StudyView view = view_of(study, grid, store, cache);
  const StudyResults results = write_report(study, grid, view, store);
  print_result(args, report_json(study, results),
               verdicts_text(results) + (study.out / "report.html").string() + "\n");
}

// Says what ended, and keeps the live line.
class Progress {
 public:
  Progress(const Study& study, const Grid& grid) : study_(study), grid_(grid) {}

  void show(const StudyView& view) {
    size_t ended = 0;
    std::vector<std::string> running;
    for (const TrialView* t : all_trials(view)) {
      const std::string name = name_of(*t);
      if (t->state == "running") running.push_back(name);
      if (!t->result) continue;
      ++ended;
      if (said_.insert(t->trial.run_id).second && !first_)
        say("{}{}  {}", name, t->repeat ? fmt::format("  seed {}", t->trial.seed) : "",
            outcome_of(*t));
    }
    if (first_ && ended) say("{} trials are there already", ended);
    first_ = false;
    const double all = static_cast<double>(ended) + remaining_trials(study_, grid_, view);
    const auto eta = remaining_seconds(study_, grid_, view);
    live(fmt::format("study {}  {}/{:.0f} trials{}  running {}", study_.name, ended, all,
                     eta ? "  ETA " + duration_text(*eta) : "", join(running, ", ")));
  }

 private:
  std::string name_of(const TrialView& t) const {
    const std::string name =
        fmt::format("{} lr {:g}", cell_at(grid_, t.trial.cell).name, t.trial.lr);
    return t.trial.init.empty() ? name : name + " with " + grid_.recipes[t.trial.recipe].name;
  }

  static std::string outcome_of(const TrialView& t) {
    if (t.state != "done") return t.state;
    return t.trial.init.empty() ? fmt::format("held-out loss {:.4f}", t.result->loss)
                                : fmt::format("top-1 error {:.2f} %", 100 * (1 - t.result->top1));
  }

  const Study& study_;
  const Grid& grid_;
  std::set<std::string> said_;
  bool first_ = true;
};

std::unique_ptr<Executor> executor_of(const Study& study) {
  const auto slots = static_cast<size_t>(study.slots);
  if (study.executor == "local") return local_executor(slots);
  const Path out = std::filesystem::absolute(study.out).lexically_normal();
  const SchedulerSettings settings = {.folder = out / "jobs",
                                      .study = study.name + " " + out.string(),
                                      .slots = slots,
                                      .lease = study.lease};
  if (study.executor == "slurm")
    return slurm_executor(settings, {study.slurm_args, study.slurm_setup, study.slurm_array});
  return command_executor(settings,
                          {study.command_submit, study.command_status, study.command_cancel});
}

void run_run(const Args& args) {
  catch_stop_signals();
  const Study study = load(args);
  const Grid grid = open_grid(study, true);
  const Plan plan = plan_of(study, grid, args);
  if (!plan.refused.empty()) {
    write_plan(study, grid, plan);
    fail(Exit::usage, "{}", plan.refused);
  }
  Progress progress(study, grid);
  RunOptions options;
  options.program = executable_path().string();
  options.threads_per_slot = study.executor == "local" ? threads_per_slot(study, args) : 0;
  options.begun = [&] {
    write_plan(study, grid, plan);
    for (const std::string& warning : plan.warnings) warn("{}", warning);
  };
  options.progress = [&](const StudyView& view) { progress.show(view); };
  const auto executor = executor_of(study);
  const RunOutcome outcome = run_study(study, grid, *executor, options);
  end_live();
  const StoreState store = read_store(study.out / "store").state;
  ResultCache cache;
  const StudyView view = view_of(study, grid, store, cache);
  const StudyResults results = write_report(study, grid, view, store);
  if (outcome == RunOutcome::stopped)
    fail(Exit::preempted, "study {} stopped; the same command goes on", study.name);
  const std::vector<Prediction> predictions = sealed_predictions(study, store);
  Json document = status_json(study, grid, view, predictions);
  document.set("verdicts", verdicts_json(results));
  document.set("report", (study.out / "report.html").string());
  print_result(args, document,
               status_block(study, grid, view, predictions) + verdicts_text(results) +
                   (study.out / "report.html").string() + "\n");
  if (!view.trials.empty() && std::none_of(view.trials.begin(), view.trials.end(),
                                           [](const TrialView& t) { return t.result; }))
    fail(Exit::check, "study {}: none of its {} trials came to an end; {} tells why", study.name,
         view.trials.size(), (study.out / "logs").string());
}

std::vector<Option> options_of() {
  return {{"STUDY.toml", "", "the file of the study", Option::Times::once},
          {"--out", "DIR", "folder of the study; default: studies/NAME"}};
}

}  // namespace

std::vector<Command> study_commands() {
  std::vector<Option> status = options_of(), plan = options_of();
  plan.push_back({"--measure", "", "measure a step of each model first, for the hours"});
  status.push_back({"--watch", "", "shows it again and again until the study is complete"});
  status.push_back({"--repair", "", "move damaged store files aside; run directories are kept"});
  return {
      {"study plan", "cells, trials and cost of a study, before anything runs",
       "nfscale study plan configs/demo/study.toml", plan, run_plan},
      {"study run", "runs what is missing of a study; the same command goes on after any stop",
       "nfscale study run configs/demo/study.toml --out studies/demo", options_of(), run_run},
      {"study status", "the cells of a study and their best rates",
       "nfscale study status configs/demo/study.toml --out studies/demo", status, run_status},
      {"study report", "verdicts, tables and figures of a study as one page",
       "nfscale study report configs/demo/study.toml --out studies/demo", options_of(), run_report},
  };
}

}  // namespace nfscale
