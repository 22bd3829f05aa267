#include "study/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "config/load.h"
#include "study/families.h"
#include "study/finetune.h"
#include "study/remaining.h"

namespace nfscale {
namespace {

void warn_of_shape(const Grid& grid, Plan& plan) {
  std::map<std::string, int> budgets;
  for (const Cell& c : grid.cells) ++budgets[c.model];
  std::vector<std::string> few;
  for (const auto& [model, n] : budgets)
    if (n < 4) few.push_back(fmt::format("{} has {}", model, n));
  if (!few.empty())
    plan.warnings.push_back("a law needs at least 4 epoch budgets a model; " + join(few, ", "));
  std::map<std::string, std::set<std::string>> models;  // by family
  for (const Cell& c : grid.cells) models[c.family].insert(c.model);
  for (const auto& [family, names] : models) {
    const std::string which =
        models.size() > 1 ? fmt::format(" of a family ({}s)", family_title(family)) : "";
    if (names.size() < 3)
      plan.warnings.push_back(fmt::format(
          "a law needs at least 3 models (4 for an interval one can rely on){}, the grid has {}",
          which, names.size()));
    else if (names.size() < 4)
      plan.warnings.push_back(fmt::format(
          "3 models{} are the fewest for a law; its interval will be wide, 4 are better", which));
  }
}

void warn_of_recipes(const Grid& grid, Plan& plan) {
  std::vector<std::string> names;
  for (const auto& [model, config] : grid.configs)
    if (config.model.name.starts_with("vit") && config.optim.name == "sgd") names.push_back(model);
  if (!names.empty() && families_of(grid).size() > 1)
    plan.warnings.push_back(
        fmt::format("{} would train with the NFNets' recipe (optim.name = \"sgd\"); "
                    "[grid.set.\"vit_*\"] gives a "
                    "family one of its own, configs/vit_nano.toml has one",
                    join(names, ", ")));
}

void warn_of_skip_gains(const Grid& grid, Plan& plan) {
  uint64_t longest = 0;
  const Cell* nfnet = nullptr;
  for (const Cell& c : grid.cells) {
    if (c.family != "nfnet") continue;
    nfnet = &c;
    longest = std::max(longest, c.steps);
  }
  if (!nfnet) return;
  Config config = grid.configs.at(nfnet->model);
  resolve(config);
  if (*config.optim.agc <= 0 || longest > 20000) return;
  bool covered = false;
  for (const std::string& pattern : *config.optim.agc_exclude)
    covered |= glob_matches(pattern, "stages.0.0.skipinit_gain");
  if (!covered)
    plan.warnings.push_back(fmt::format(
        "optim.agc clips the skip gains: in runs of {} steps residual branches stay nearly closed; "
        "use agc_exclude = [\"head.fc.weight\", \"*.skipinit_gain\"] with clip_norm = 0.5",
        longest));
  else if (config.optim.clip_norm <= 0)
    plan.warnings.push_back(
        "the skip gains are exempt from optim.agc but optim.clip_norm is 0: runs near the best "
        "rate diverge; use clip_norm = 0.5");
}

void warn_of_targets(const Grid& grid, Plan& plan) {
  double most = 0;
  for (const Cell& c : grid.cells) most = std::max(most, c.flops);
  for (const Cell& target : grid.targets)
    if (target.flops > 10 * most)
      plan.warnings.push_back(
          fmt::format("predict.targets: {} takes {:.3g} times the compute of the dearest cell; "
                      "beyond ten times a law is seldom right",
                      target.name, target.flops / most));
}

std::string fitting(const Grid& grid, const Plan& plan, double limit, bool hours) {
  std::vector<std::string> fit;
  // Fine-tuning comes on top of whichever cells there are.
  double sum = hours ? plan.finetuning.device_hours.value_or(0) : plan.finetuning.trials;
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    sum += hours ? plan.cells[c].device_hours.value_or(0) : plan.cells[c].trials;
    if (sum > limit) break;
    fit.push_back(grid.cells[c].name);
  }
  return fit.empty() ? "none of the cells would fit" : "these cells would fit: " + join(fit, ", ");
}

// What exceeds the budget of the study; empty where nothing does.
std::string refusal(const Study& study, const Grid& grid, const Plan& plan) {
  const std::string file = study.file.string();
  if (study.budget_trials && plan.trials > static_cast<double>(*study.budget_trials))
    return fmt::format("{}: budget.trials: about {:.0f} trials are needed, {} allowed; {}", file,
                       std::ceil(plan.trials), *study.budget_trials,
                       fitting(grid, plan, static_cast<double>(*study.budget_trials), false));
  if (study.budget_hours && plan.device_hours && *plan.device_hours > *study.budget_hours)
    return fmt::format(
        "{}: budget.device_hours: about {:.3g} device hours are needed, {} allowed; {}", file,
        *plan.device_hours, number_text(*study.budget_hours),
        fitting(grid, plan, *study.budget_hours, true));
  if (study.budget_wall && plan.wall_s && *plan.wall_s > *study.budget_wall)
    return fmt::format(
        "{}: budget.wall: about {} are needed, {} allowed; {}", file, duration_text(*plan.wall_s),
        duration_text(*study.budget_wall),
        fitting(grid, plan, *study.budget_wall / *plan.wall_s * *plan.device_hours, true));
  return "";
}

const PlanCell& planned(const Plan& plan, size_t place) {
  return place < plan.cells.size() ? plan.cells[place] : plan.targets[place - plan.cells.size()];
}

double cost_of(const Grid& grid, const Plan& plan, size_t place) {
  const PlanCell& cell = planned(plan, place);
  return cell.device_hours.value_or(cell.trials * cell_at(grid, place).flops);
}

std::vector<size_t> dearest(const Grid& grid, const Plan& plan) {
  std::vector<size_t> order(grid.cells.size() + grid.targets.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return cost_of(grid, plan, a) > cost_of(grid, plan, b);
  });
  if (order.size() > 10) order.resize(10);
  return order;
}

// "21:40", with the day where it is not that of `now`; local time.
std::string clock_text(std::time_t now, double seconds) {
  const std::time_t end = now + static_cast<std::time_t>(seconds);
  std::tm from{}, to{};
  ::localtime_r(&now, &from);
  ::localtime_r(&end, &to);
  const bool today = from.tm_year == to.tm_year && from.tm_yday == to.tm_yday;
  char text[64];
  const size_t n = std::strftime(text, sizeof text, today ? "%H:%M" : "%Y-%m-%d %H:%M", &to);
  return std::string(text, n);
}

std::string hours_text(const Study& study, const Plan& plan, std::time_t now) {
  if (!plan.device_hours)
    return "hours are known after the first trial; --measure tells them before\n";
  const std::string left = *plan.left_s > 0
                               ? "what is left ends about " + clock_text(now, *plan.left_s)
                               : "nothing is left to do";
  const std::string source =
      plan.speed ? fmt::format("{} operations a second of a device, measured by {} trials",
                               count_text(*plan.speed), plan.measured)
                 : "by a measured step of each model";
  return fmt::format("{:.3g} device hours ({}), {} with {} at a time; {}\n", *plan.device_hours,
                     source, duration_text(*plan.wall_s), study.slots, left);
}

// Where the compute goes, and how far half of it would lead.
std::string shares_text(const Grid& grid, const Plan& plan) {
  std::vector<std::string> parts;
  double all = 0, sum = 0;
  for (size_t i = 0; i < plan.cells.size() + plan.targets.size(); ++i)
    all += cost_of(grid, plan, i);
  for (const size_t place : plan.dearest)
    parts.push_back(fmt::format("{} {:.0f} %", cell_at(grid, place).name,
                                100 * cost_of(grid, plan, place) / all));
  std::string text = "dearest: " + join(parts, ", ") + "\n";
  size_t half = 0;
  while (half < plan.cells.size() && sum + cost_of(grid, plan, half) <= all / 2)
    sum += cost_of(grid, plan, half++);
  if (half > 0)
    text += fmt::format("half of that compute is the first {} cells, up to {}\n", half,
                        grid.cells[half - 1].name);
  return text;
}

}  // namespace

std::string count_text(double v) {
  if (v < 1e3) return fmt::format("{:.4g}", v);
  if (v < 1e6) return fmt::format("{:.3g}k", v / 1e3);
  if (v < 1e9) return fmt::format("{:.3g}M", v / 1e6);
  if (v < 1e12) return fmt::format("{:.3g}G", v / 1e9);
  return fmt::format("{:.2e}", v);
}

std::string plain_number(double v) {
  if (!(std::abs(v) >= 1e-4 && std::abs(v) < 1e7)) return fmt::format("{:.3g}", v);
  const double unit = std::pow(10, std::floor(std::log10(std::abs(v))) - 2);
  return fmt::format("{:.10g}", std::round(v / unit) * unit);
}

namespace {

Json data_json(const StudyData& data, const Config& config) {
  return Json::object({{"examples", data.examples},
                       {"heldout_examples", data.heldout_examples},
                       {"classes", data.classes},
                       {"train_source", Json(config.data.train)},
                       {"heldout_source", Json(config.data.heldout)},
                       {"train", data.train_fingerprint},
                       {"heldout", data.heldout_fingerprint}});
}

// Exit::damaged where it tells of other sources.
StudyData data_of(const Json& json, const Config& config) {
  if (!(json.at("train_source") == Json(config.data.train)) ||
      !(json.at("heldout_source") == Json(config.data.heldout)))
    fail(Exit::damaged, "other sources");
  return {.examples = static_cast<uint64_t>(json.at("examples").as_int()),
          .heldout_examples = static_cast<uint64_t>(json.at("heldout_examples").as_int()),
          .classes = json.at("classes").as_int(),
          .train_fingerprint = json.at("train").as_string(),
          .heldout_fingerprint = json.at("heldout").as_string()};
}

}  // namespace

std::optional<StudyData> planned_data(const Study& study) {
  const Config base = load_config(study.base, {}).config;
  std::vector<Config> recipes;
  for (const std::string& recipe : study.recipes) recipes.push_back(load_config(recipe, {}).config);
  try {
    const Path plan = study.out / "plan.json";
    const Json json = parse_json(read_file(plan), plan.string());
    StudyData data = data_of(json.at("data"), base);
    for (size_t i = 0; i < recipes.size(); ++i)
      data.finetune.push_back(data_of(json.at("finetune").at("data").items().at(i), recipes[i]));
    return data;
  } catch (const std::exception&) {
    return std::nullopt;  // no plan, none that is whole, or one of other sources
  }
}

double expected_trials(const Study& study, const Grid& grid, size_t cell) {
  double n = study.certify == "none" ? 2.1 : study.certify == "all" ? 3.2 : 2.7;
  const auto families = families_of(grid);
  const bool first = std::any_of(families.begin(), families.end(),
                                 [&](const auto& cells) { return cells[0] == cell; });
  if (first || study.prior == "none") n += 1;
  n = std::min(n, static_cast<double>(study.max_trials));
  const std::vector<size_t> noise = noise_cells(study, grid);
  if (std::find(noise.begin(), noise.end(), cell) != noise.end() && !study.sigma)
    n += static_cast<double>(study.repeats);
  return n;
}

namespace {

void add_finetuning(const Study& study, const Grid& grid, const StudyView& view, Plan& plan) {
  for (const Finetunings& f : most_finetunings(study, grid)) {
    const Cell& cell = grid.cells[f.cell];
    const double hours = hours_of(grid, view, cell) * f.flops / cell.flops;
    plan.finetuning.trials += f.trials;
    plan.trials += f.trials;
    plan.flops += f.flops;
    plan.memory_bytes = std::max(plan.memory_bytes, f.memory_bytes);
    if (std::isnan(hours)) continue;
    plan.finetuning.device_hours = plan.finetuning.device_hours.value_or(0) + hours;
    plan.device_hours = plan.device_hours.value_or(0) + hours;
  }
}

}  // namespace

Plan make_plan(const Study& study, const Grid& grid, const StudyView& view, double devices) {
  Plan plan;
  double busy_hours = 0;  // with evaluations, which are no part of device_hours
  const auto add = [&](const Cell& cell, double trials) {
    const double hours = trials * hours_of(grid, view, cell);
    plan.trials += trials;
    plan.flops += trials * cell.flops;
    plan.memory_bytes = std::max(plan.memory_bytes, cell.memory_bytes);
    if (std::isnan(hours)) return PlanCell{trials, std::nullopt};
    busy_hours += hours * (1 + evaluation_flops(grid, cell) / cell.flops);
    plan.device_hours = plan.device_hours.value_or(0) + hours;
    return PlanCell{trials, hours};
  };
  for (size_t c = 0; c < grid.cells.size(); ++c)
    plan.cells.push_back(add(grid.cells[c], expected_trials(study, grid, c)));
  for (const Cell& target : grid.targets) plan.targets.push_back(add(target, 1));
  add_finetuning(study, grid, view, plan);
  if (plan.device_hours) {
    busy_hours += plan.finetuning.device_hours.value_or(0);
    plan.wall_s = busy_hours * 3600 / devices;
    plan.left_s = remaining_seconds(study, grid, view).value_or(*plan.wall_s);
  }
  plan.speed = device_speed(grid, view);
  for (const TrialView& t : view.trials) plan.measured += t.result && t.result->device_hours > 0;
  plan.dearest = dearest(grid, plan);
  warn_of_shape(grid, plan);
  warn_of_recipes(grid, plan);
  warn_of_skip_gains(grid, plan);
  warn_of_targets(grid, plan);
  plan.refused = refusal(study, grid, plan);
  if ((study.budget_hours || study.budget_wall) && !plan.device_hours)
    plan.warnings.push_back(
        "budget.device_hours and budget.wall are checked while the study runs: the speed of this "
        "device is not known before the first trial");
  return plan;
}

namespace {

Json maybe(const std::optional<double>& v) {
  return v ? Json(*v) : Json();
}

Json cell_json(const Cell& cell, const PlanCell& plan) {
  return Json::object({{"cell", cell.name},
                       {"model", cell.model},
                       {"family", cell.family},
                       {"epochs", cell.epochs},
                       {"lr_start", cell.lr_start},
                       {"wave", cell.size_rank + cell.epoch_rank},
                       {"params", cell.params},
                       {"macs", cell.macs},
                       {"batch", cell.batch},
                       {"images", cell.images},
                       {"steps", cell.steps},
                       {"flops", cell.flops},
                       {"memory_bytes", cell.memory_bytes},
                       {"trials", plan.trials},
                       {"device_hours", maybe(plan.device_hours)}});
}

// What it takes at most; null without recipes.
Json finetune_json(const Grid& grid, const Plan& plan) {
  if (grid.recipes.empty()) return Json();
  Json recipes = Json::array(), data = Json::array();
  for (const Recipe& recipe : grid.recipes) {
    recipes.push(recipe.name);
    data.push(data_json(recipe.data, recipe.loaded.config));
  }
  return Json::object({{"recipes", recipes},
                       {"data", data},
                       {"trials", plan.finetuning.trials},
                       {"device_hours", maybe(plan.finetuning.device_hours)}});
}

}  // namespace

Json plan_json(const Study& study, const Grid& grid, const Plan& plan) {
  Json cells = Json::array(), order = Json::array(), targets = Json::array(), dear = Json::array();
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    order.push(grid.cells[c].name);
    cells.push(cell_json(grid.cells[c], plan.cells[c]));
  }
  for (size_t i = 0; i < grid.targets.size(); ++i)
    targets.push(cell_json(grid.targets[i], plan.targets[i]));
  for (const size_t place : plan.dearest) dear.push(cell_at(grid, place).name);
  return Json::object(
      {{"name", study.name},
       {"question", study.question},
       {"cells", cells},
       {"targets", targets},
       {"order", order},
       {"dearest", dear},
       {"lr", Json::object({{"start", grid.cells[0].lr_start}, {"factor", grid.lr_factor}})},
       {"data", data_json(grid.data, grid.base)},
       {"finetune", finetune_json(grid, plan)},
       {"trials", plan.trials},
       {"flops", plan.flops},
       {"device_hours", maybe(plan.device_hours)},
       {"wall_s", maybe(plan.wall_s)},
       {"flops_per_device_s", maybe(plan.speed)},
       {"memory_bytes", plan.memory_bytes},
       {"warnings", Json(plan.warnings)},
       {"refused", plan.refused.empty() ? Json() : Json(plan.refused)}});
}

std::vector<std::vector<std::string>> plan_rows(const Grid& grid, const Plan& plan) {
  std::vector<std::vector<std::string>> rows = {{"wave", "cell", "params", "macs", "images",
                                                 "steps", "flops", "memory", "trials",
                                                 "device hours"}};
  for (size_t place = 0; place < grid.cells.size() + grid.targets.size(); ++place) {
    const Cell& cell = cell_at(grid, place);
    const PlanCell& p = planned(plan, place);
    rows.push_back(
        {place < grid.cells.size() ? std::to_string(cell.size_rank + cell.epoch_rank) : "target",
         cell.name, count_text(static_cast<double>(cell.params)),
         count_text(static_cast<double>(cell.macs)), std::to_string(cell.images),
         std::to_string(cell.steps), fmt::format("{:.3g}", cell.flops),
         bytes_text(static_cast<double>(cell.memory_bytes)), fmt::format("{:.1f}", p.trials),
         p.device_hours ? fmt::format("{:.3g}", *p.device_hours) : "?"});
  }
  return rows;
}

std::string plan_text(const Study& study, const Grid& grid, const Plan& plan, std::time_t now) {
  std::string text =
      fmt::format("{} cells, about {:.0f} trials, {:.3g} operations, up to {} of memory a trial\n",
                  grid.cells.size(), plan.trials, plan.flops,
                  bytes_text(static_cast<double>(plan.memory_bytes)));
  if (!grid.recipes.empty())
    text += fmt::format("with them up to {:.0f} runs of fine-tuning{}\n", plan.finetuning.trials,
                        plan.finetuning.device_hours
                            ? ", " + plain_number(*plan.finetuning.device_hours) + " device hours"
                            : "");
  text += hours_text(study, plan, now) + shares_text(grid, plan);
  for (const std::string& warning : plan.warnings) text += "warning: " + warning + "\n";
  return text;
}

}  // namespace nfscale
