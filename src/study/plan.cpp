#include "study/plan.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/files.h"
#include "base/log.h"
#include "base/text.h"
#include "config/load.h"

namespace nfscale {
namespace {

size_t noise_cell(const Study& study, const Grid& grid) {
  size_t cheapest = 0;
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    if (grid.cells[c].name == study.noise_cell) return c;
    if (grid.cells[c].flops < grid.cells[cheapest].flops) cheapest = c;
  }
  return cheapest;
}

void warn_of_shape(const Grid& grid, Plan& plan) {
  std::map<std::string, int> budgets;
  for (const Cell& c : grid.cells) ++budgets[c.model];
  std::vector<std::string> few;
  for (const auto& [model, n] : budgets)
    if (n < 4) few.push_back(fmt::format("{} has {}", model, n));
  if (!few.empty())
    plan.warnings.push_back("a law needs at least 4 epoch budgets a model; " + join(few, ", "));
  if (budgets.size() < 3)
    plan.warnings.push_back(fmt::format(
        "a law needs at least 3 models (4 for an interval one can rely on), the grid has {}",
        budgets.size()));
  else if (budgets.size() < 4)
    plan.warnings.push_back(
        "3 models are the fewest for a law; its interval will be wide, 4 are better");
}

void warn_of_skip_gains(const Grid& grid, Plan& plan) {
  Config config = grid.base;
  resolve(config);
  uint64_t longest = 0;
  for (const Cell& c : grid.cells) longest = std::max(longest, c.steps);
  if (config.optim.agc <= 0 || longest > 20000) return;
  bool covered = false;
  for (const std::string& pattern : *config.optim.agc_exclude)
    covered |= ::fnmatch(pattern.c_str(), "stages.0.0.skipinit_gain", 0) == 0;
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

std::string fitting(const Grid& grid, const Plan& plan, double limit, bool hours) {
  std::vector<std::string> fit;
  double sum = 0;
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    sum += hours ? plan.cells[c].device_hours.value_or(0) : plan.cells[c].trials;
    if (sum > limit) break;
    fit.push_back(grid.cells[c].name);
  }
  return fit.empty() ? "none of the cells would fit" : "these cells would fit: " + join(fit, ", ");
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

std::optional<StudyData> planned_data(const Path& plan, const Config& base) {
  try {
    const Json json = parse_json(read_file(plan), plan.string());
    const Json& data = json.at("data");
    if (!(data.at("train_source") == Json(base.data.train)) ||
        !(data.at("heldout_source") == Json(base.data.heldout)))
      return std::nullopt;
    return StudyData{
        .examples = static_cast<uint64_t>(data.at("examples").as_int()),
        .heldout_examples = static_cast<uint64_t>(data.at("heldout_examples").as_int()),
        .classes = data.at("classes").as_int(),
        .train_fingerprint = data.at("train").as_string(),
        .heldout_fingerprint = data.at("heldout").as_string()};
  } catch (const Error&) {
    return std::nullopt;  // no plan, or none that is whole
  }
}

double expected_trials(const Study& study, const Grid& grid, size_t cell) {
  double n = study.certify == "none" ? 2.1 : study.certify == "all" ? 3.2 : 2.7;
  if (cell == 0 || study.prior == "none") n += 1;
  n = std::min(n, static_cast<double>(study.max_trials));
  if (cell == noise_cell(study, grid) && !study.sigma) n += static_cast<double>(study.repeats);
  return n;
}

Plan make_plan(const Study& study, const Grid& grid, std::optional<double> flops_per_device_s,
               double devices) {
  Plan plan;
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    PlanCell cell;
    cell.trials = expected_trials(study, grid, c);
    const double flops = cell.trials * grid.cells[c].flops;
    if (flops_per_device_s) cell.device_hours = flops / *flops_per_device_s / 3600;
    plan.trials += cell.trials;
    plan.flops += flops;
    plan.cells.push_back(cell);
  }
  if (flops_per_device_s) {
    plan.device_hours = plan.flops / *flops_per_device_s / 3600;
    plan.wall_s = *plan.device_hours * 3600 / devices;
  }
  warn_of_shape(grid, plan);
  warn_of_skip_gains(grid, plan);

  const std::string file = study.file.string();
  if (study.budget_trials && plan.trials > static_cast<double>(*study.budget_trials))
    plan.refused =
        fmt::format("{}: budget.trials: about {:.0f} trials are needed, {} allowed; {}", file,
                    std::ceil(plan.trials), *study.budget_trials,
                    fitting(grid, plan, static_cast<double>(*study.budget_trials), false));
  else if (study.budget_hours && plan.device_hours && *plan.device_hours > *study.budget_hours)
    plan.refused =
        fmt::format("{}: budget.device_hours: about {:.3g} device hours are needed, {} allowed; {}",
                    file, *plan.device_hours, number_text(*study.budget_hours),
                    fitting(grid, plan, *study.budget_hours, true));
  else if (study.budget_wall && plan.wall_s && *plan.wall_s > *study.budget_wall)
    plan.refused = fmt::format("{}: budget.wall: about {} are needed, {} allowed; {}", file,
                               duration_text(*plan.wall_s), duration_text(*study.budget_wall),
                               fitting(grid, plan, *study.budget_wall * devices / 3600, true));
  if ((study.budget_hours || study.budget_wall) && !plan.device_hours)
    plan.warnings.push_back(
        "budget.device_hours and budget.wall are checked while the study runs: the speed of this "
        "device is not known before the first trial");
  return plan;
}

Json plan_json(const Study& study, const Grid& grid, const Plan& plan) {
  const auto maybe = [](const std::optional<double>& v) { return v ? Json(*v) : Json(); };
  Json cells = Json::array(), order = Json::array();
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const Cell& cell = grid.cells[c];
    order.push(cell.name);
    cells.push(Json::object({{"cell", cell.name},
                             {"model", cell.model},
                             {"epochs", cell.epochs},
                             {"wave", cell.size_rank + cell.epoch_rank},
                             {"params", cell.params},
                             {"macs", cell.macs},
                             {"batch", cell.batch},
                             {"images", cell.images},
                             {"steps", cell.steps},
                             {"flops", cell.flops},
                             {"trials", plan.cells[c].trials},
                             {"device_hours", maybe(plan.cells[c].device_hours)}}));
  }
  return Json::object({{"name", study.name},
                       {"question", study.question},
                       {"cells", cells},
                       {"order", order},
                       {"lr", Json::object({{"start", grid.lr_start}, {"factor", grid.lr_factor}})},
                       {"data", Json::object({{"examples", grid.data.examples},
                                              {"heldout_examples", grid.data.heldout_examples},
                                              {"classes", grid.data.classes},
                                              {"train_source", Json(grid.base.data.train)},
                                              {"heldout_source", Json(grid.base.data.heldout)},
                                              {"train", grid.data.train_fingerprint},
                                              {"heldout", grid.data.heldout_fingerprint}})},
                       {"trials", plan.trials},
                       {"flops", plan.flops},
                       {"device_hours", maybe(plan.device_hours)},
                       {"wall_s", maybe(plan.wall_s)},
                       {"warnings", Json(plan.warnings)},
                       {"refused", plan.refused.empty() ? Json() : Json(plan.refused)}});
}

std::vector<std::vector<std::string>> plan_rows(const Grid& grid, const Plan& plan) {
  std::vector<std::vector<std::string>> rows = {
      {"wave", "cell", "params", "macs", "images", "steps", "flops", "trials", "device hours"}};
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const Cell& cell = grid.cells[c];
    const auto& hours = plan.cells[c].device_hours;
    rows.push_back(
        {std::to_string(cell.size_rank + cell.epoch_rank), cell.name,
         count_text(static_cast<double>(cell.params)), count_text(static_cast<double>(cell.macs)),
         std::to_string(cell.images), std::to_string(cell.steps), fmt::format("{:.3g}", cell.flops),
         fmt::format("{:.1f}", plan.cells[c].trials), hours ? fmt::format("{:.3g}", *hours) : "?"});
  }
  return rows;
}

std::string plan_text(const Study& study, const Grid& grid, const Plan& plan) {
  std::string text = fmt::format("{} cells, about {:.0f} trials, {:.3g} operations",
                                 grid.cells.size(), plan.trials, plan.flops);
  if (plan.device_hours)
    text += fmt::format(", {:.3g} device hours, {} with {} at a time", *plan.device_hours,
                        duration_text(*plan.wall_s), study.slots);
  double sum = 0;
  size_t half = 0;
  while (half < grid.cells.size() &&
         sum + plan.cells[half].trials * grid.cells[half].flops <= plan.flops / 2) {
    sum += plan.cells[half].trials * grid.cells[half].flops;
    ++half;
  }
  if (half > 0)
    text += fmt::format("\nhalf of that compute is the first {} cells, up to {}", half,
                        grid.cells[half - 1].name);
  for (const std::string& warning : plan.warnings) text += "\nwarning: " + warning;
  return text + "\n";
}

}  // namespace nfscale
