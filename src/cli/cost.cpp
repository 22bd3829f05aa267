// cost: what a run or a study takes on devices that are not here, and on this one.
#include <algorithm>
#include <cmath>

#include "arch/cost.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/measure.h"
#include "config/load.h"
#include "config/sam.h"
#include "study/plan.h"

namespace nfscale {
namespace {

constexpr const char* kHere = "here";

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

void run_paper(const Args& args) {
  Json rows = Json::array(), reported = Json::object(), utilisation = Json::object();
  std::vector<std::vector<std::string>> table = {{"model", "images", "multiply-adds", "FLOPs",
                                                  "v4 core hours", "utilisation", "v3 core hours",
                                                  "utilisation"}};
  for (const PaperRun& run : paper_runs()) {
    Json hours = Json::object();
    for (const Accelerator& a : accelerators())
      hours.set(a.name, device_hours(run.flops(), a, run.utilisation("tpu-v4-core")));
    const double v4 = run.utilisation("tpu-v4-core"), v3 = run.utilisation("tpu-v3-core");
    rows.push(Json::object({{"name", run.model},
                            {"macs", run.macs},
                            {"images", run.images},
                            {"flops", run.flops()},
                            {"device_hours", hours},
                            {"v3_hours_are_a_lower_bound", run.v3_at_least}}));
    reported.set(run.model,
                 Json::object({{"tpu-v4-core", run.v4_hours}, {"tpu-v3-core", run.v3_hours}}));
    utilisation.set(run.model, Json::object({{"tpu-v4-core", v4}, {"tpu-v3-core", v3}}));
    table.push_back({run.model, fmt::format("{:.4g}", run.images), grouped(run.macs),
                     fmt::format("{:.3g}", run.flops()), fmt::format("{:.0f}k", run.v4_hours / 1e3),
                     percent(v4),
                     fmt::format("{}{:.0f}k", run.v3_at_least ? "> " : "", run.v3_hours / 1e3),
                     (run.v3_at_least ? "< " : "") + percent(v3)});
  }
  std::string text = text_table(table) + "\nHours as reported by arXiv 2310.16764. Assumed:\n";
  for (const std::string& a : paper_assumptions()) text += "- " + a + "\n";
  print_result(args,
               Json::object({{"rows", rows},
                             {"reported_hours", reported},
                             {"utilisation", utilisation},
                             {"assumptions", Json(paper_assumptions())}}),
               text);
}

// What a run takes of devices: of those in the list at a share of their peak, and of this machine
// where a step was measured.
struct Cost {
  std::string name;
  int64_t params = 0, macs = 0, memory_bytes = 0;
  uint64_t images = 0, steps = 0;
  double flops = 0, trials = 1;
  std::map<std::string, double> hours = {};  // of one trial, by device
};

void add_hours(Cost& cost, double utilisation, const double* step_seconds) {
  for (const Accelerator& a : accelerators())
    cost.hours[a.name] = device_hours(cost.flops, a, utilisation);
  if (step_seconds) cost.hours[kHere] = static_cast<double>(cost.steps) * *step_seconds / 3600;
}

double utilisation_of(const Args& args) {
  return 0.01 * static_cast<double>(
                    args.integer("--utilisation", std::lround(100 * kAssumedUtilisation), 1, 100));
}

std::string hours_text(double h) {
  return h < 100 ? fmt::format("{:.3g}", h) : grouped(static_cast<int64_t>(std::lround(h)));
}

// Devices as columns, the list's first.
std::vector<std::string> device_names(const Cost& cost) {
  std::vector<std::string> names;
  for (const Accelerator& a : accelerators()) names.push_back(a.name);
  if (cost.hours.contains(kHere)) names.push_back(kHere);
  return names;
}

Json hours_json(const Cost& cost) {
  Json json = Json::object();
  for (const std::string& device : device_names(cost)) json.set(device, cost.hours.at(device));
  return json;
}

Cost cost_of_run(const Args& args) {
  const Config c = load_config(args.path("--config"), args.all("--set")).config;
  const int64_t classes = default_classes(c.model.name);
  const Arch arch = make_arch(c.model, classes, sides_of(c.train.image_size));
  const auto examples = static_cast<uint64_t>(c.data.examples * c.data.augment.repeat);
  if (c.train.duration.unit == Duration::Unit::epochs && examples == 0)
    fail(Exit::usage, "data.examples: needed to turn train.duration = \"{}\" into images",
         duration_key_text(c.train.duration));
  Horizon horizon = {.examples = examples, .batch = static_cast<uint64_t>(c.train.batch)};
  horizon.total_slots = total_slots(c.train.duration, horizon);
  Cost cost = {.name = c.model.name};
  cost.images = horizon.total_slots;
  cost.steps = steps_of(horizon);
  cost.params = arch.param_count();
  cost.macs = arch.macs(c.train.image_size, c.train.image_size);
  cost.memory_bytes = arch.training_bytes(c.train.batch, c.train.image_size);
  cost.flops = training_flops(cost.macs, static_cast<double>(cost.images),
                              ascent_share(c.optim, c.train.batch));
  const double seconds = args.has("--measure") ? measure_step(c, arch.classes, args.threads()) : 0;
  add_hours(cost, utilisation_of(args), seconds > 0 ? &seconds : nullptr);
  return cost;
}

// Cells, targets behind them; each with the trials that it is expected to take.
std::vector<Cost> costs_of_study(const Args& args) {
  const Study study = load_study(*args.path("--study"), args.path("--out"));
  const Config base = load_config(study.base, {}).config;
  std::optional<StudyData> data = planned_data(study);
  if (!data && base.data.examples == 0)
    fail(Exit::usage,
         "{}: data.examples: needed to turn epochs into images; or `nfscale study plan {}` counts "
         "them",
         study.base.string(), study.file.string());
  if (!data) {
    const std::vector<std::string> known = model_names();
    const std::string& first = study.models.at(0);
    if (!base.model.classes && std::find(known.begin(), known.end(), first) == known.end())
      fail(Exit::usage,
           "{}: model.classes: needed where {} is a name of your own; or `nfscale study plan {}` "
           "counts them",
           study.base.string(), first, study.file.string());
    data = StudyData{.examples = static_cast<uint64_t>(base.data.examples),
                     .heldout_examples = 1,
                     .classes = base.model.classes ? base.model.classes : default_classes(first)};
  }
  const Grid grid = make_grid(study, *data);
  const auto threads = static_cast<int>(std::max<int64_t>(1, args.threads() / study.slots));
  std::map<std::string, double> seconds;
  if (args.has("--measure")) seconds = measure_models(grid, threads);
  std::vector<Cost> costs;
  for (size_t place = 0; place < grid.cells.size() + grid.targets.size(); ++place) {
    const Cell& cell = cell_at(grid, place);
    Cost cost = {cell.name,   cell.params, cell.macs, cell.memory_bytes,
                 cell.images, cell.steps,  cell.flops};
    if (place < grid.cells.size()) cost.trials = expected_trials(study, grid, place);
    const auto measured = seconds.find(cell.model);
    add_hours(cost, utilisation_of(args), measured == seconds.end() ? nullptr : &measured->second);
    costs.push_back(cost);
  }
  return costs;
}

Cost total_of(const std::vector<Cost>& costs) {
  Cost total = {.name = "all trials", .trials = 0};
  for (const Cost& c : costs) {
    total.trials += c.trials;
    total.flops += c.trials * c.flops;
    total.images += static_cast<uint64_t>(std::llround(c.trials * static_cast<double>(c.images)));
    total.memory_bytes = std::max(total.memory_bytes, c.memory_bytes);
    for (const auto& [device, h] : c.hours) total.hours[device] += c.trials * h;
  }
  return total;
}

Json cost_json(const Cost& c) {
  return Json::object({{"name", c.name},
                       {"params", c.params},
                       {"macs", c.macs},
                       {"images", c.images},
                       {"steps", c.steps},
                       {"flops", c.flops},
                       {"trials", c.trials},
                       {"device_hours", hours_json(c)},
                       {"memory_bytes", c.memory_bytes}});
}

std::string what_hours_are(const Args& args, const Cost& any) {
  std::string text =
      fmt::format("hours of one device (a TPU core, a GPU) at {:.0f} % of its peak in bfloat16",
                  100 * utilisation_of(args));
  return text + (any.hours.contains(kHere)
                     ? "; here: core hours, from a step of each model as it runs on this machine\n"
                     : "; --measure adds this machine\n");
}

void run_study_cost(const Args& args) {
  const std::vector<Cost> costs = costs_of_study(args);
  const Cost total = total_of(costs);
  Json rows = Json::array();
  std::vector<std::vector<std::string>> table = {
      {"cell", "parameters", "images", "steps", "FLOPs", "memory", "trials"}};
  for (const std::string& device : device_names(total)) table[0].push_back(device);
  const auto add = [&](const Cost& c) {
    const bool one = c.params > 0;
    table.push_back(
        {c.name, one ? grouped(c.params) : "", grouped(static_cast<int64_t>(c.images)),
         one ? grouped(static_cast<int64_t>(c.steps)) : "", fmt::format("{:.3g}", c.flops),
         bytes_text(static_cast<double>(c.memory_bytes)), fmt::format("{:.1f}", c.trials)});
    for (const std::string& device : device_names(total))
      table.back().push_back(hours_text(c.hours.at(device)));
  };
  for (const Cost& c : costs) {
    rows.push(cost_json(c));
    add(c);
  }
  add(total);
  print_result(args, Json::object({{"rows", rows}, {"total", cost_json(total)}}),
               text_table(table) + "\nof one trial of each cell; " + what_hours_are(args, total));
}

void run_cost(const Args& args) {
  const int kinds = args.has("--config") + args.has("--study") + args.has("--paper");
  if (kinds != 1) fail(Exit::usage, "cost: one of --config F, --study F and --paper is needed");
  const auto only_with = [&](const char* option, const char* with) {
    if (args.has(option) && !args.has(with)) fail(Exit::usage, "{}: only with {}", option, with);
  };
  only_with("--set", "--config");
  only_with("--out", "--study");
  if (args.has("--measure") && args.has("--paper"))
    fail(Exit::usage, "--measure: not with --paper");
  if (args.has("--paper")) return run_paper(args);
  if (args.has("--study")) return run_study_cost(args);
  const Cost c = cost_of_run(args);
  std::vector<std::vector<std::string>> devices = {{"device", "hours"}};
  for (const std::string& name : device_names(c))
    devices.push_back({name, hours_text(c.hours.at(name))});
  print_result(
      args, Json::object({{"rows", Json::array({cost_json(c)})}}),
      text_table(
          {{"model", "parameters", "multiply-adds", "images", "steps", "FLOPs", "memory"},
           {c.name, grouped(c.params), grouped(c.macs), grouped(static_cast<int64_t>(c.images)),
            grouped(static_cast<int64_t>(c.steps)), fmt::format("{:.3g}", c.flops),
            bytes_text(static_cast<double>(c.memory_bytes))}}) +
          "\n" + text_table(devices) + what_hours_are(args, c));
}

}  // namespace

std::vector<Command> cost_commands() {
  return {{"cost",
           "steps, images, FLOPs, memory and hours of a run or a study before it starts",
           "nfscale cost --config configs/nano.toml --set train.duration=1e6ex",
           {{"--config", "F", "configuration of a run"},
            {"--set", "K=V", "one key of it", Option::Times::any},
            {"--study", "F", "a study file"},
            {"--out", "DIR", "folder of the study; default: studies/NAME"},
            {"--utilisation", "P", "per cent of a device's peak that training reaches, 40"},
            {"--measure", "", "measure a step of each model here first, some seconds each"},
            {"--paper", "", "the runs of the paper"}},
           run_cost}};
}

}  // namespace nfscale
