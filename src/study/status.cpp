#include "study/status.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/log.h"
#include "base/text.h"
#include "study/plan.h"
#include "study/remaining.h"

namespace nfscale {
namespace {

// Seconds since `time`, "2026-01-31T12:00:00Z"; 0 where it is no time.
double seconds_since(const std::string& time, std::time_t now) {
  std::tm parts{};
  if (!::strptime(time.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts)) return 0;
  return std::max(0.0, std::difftime(now, ::timegm(&parts)));
}

Json best_json(const Grid& grid, const Cell& cell, const CellSearch& s) {
  if (!s.best) return Json::object({{"lr", nullptr}, {"loss", nullptr}});
  return Json::object({{"lr", rate_at(grid, cell, *s.best)}, {"loss", s.loss}});
}

std::string cell_text(const Grid& grid, const Cell& cell, const CellSearch& s,
                      const std::string& state) {
  if (!s.best) return state;
  return fmt::format("{:.4f} at {:g}{}{}", s.loss, rate_at(grid, cell, *s.best),
                     s.certified ? " *"
                     : s.edge    ? " !"
                                 : "",
                     state == "done" ? "" : ", " + state);
}

std::string spent_text(const std::vector<Spent>& spent) {
  std::vector<std::string> parts;
  double all = 0;
  for (const Spent& s : spent) {
    parts.push_back(fmt::format("{} {}", s.outcome, plain_number(s.device_hours)));
    all += s.device_hours;
  }
  if (parts.empty()) return "";
  return fmt::format("device hours: {} ({})\n", plain_number(all), join(parts, ", "));
}

std::string left_text(const Study& study, const Grid& grid, const StudyView& view) {
  if (complete(view)) return "; the study is complete";
  const auto eta = remaining_seconds(study, grid, view);
  return eta ? "; about " + duration_text(*eta) + " of work left" : "";
}

}  // namespace

std::vector<std::string> cell_states(const Grid& grid, const StudyView& view) {
  struct Seen {
    bool running = false, open = false, ended = false;
  };
  std::vector<Seen> seen(grid.cells.size());
  for (const TrialView& t : view.trials) {
    Seen& s = seen[t.trial.cell];
    s.running |= t.state == "running";
    s.open |= t.state == "running" || t.state == "planned";
    s.ended |= t.result.has_value();
  }
  std::vector<std::string> states;
  for (size_t c = 0; c < seen.size(); ++c) {
    const CellSearch& search = view.search.cells[c];
    if (seen[c].running)
      states.push_back("running");
    else if (search.searched && !seen[c].open)
      states.push_back(search.best ? "done" : "failed");
    else
      states.push_back(seen[c].ended ? "searching" : "planned");
  }
  return states;
}

namespace {

Json finetuned_json(const Grid& grid, const StudyView& view) {
  Json list = Json::array();
  for (const TrialView& t : view.finetunings)
    list.push(Json::object({{"run_id", t.trial.run_id},
                            {"init", t.trial.init},
                            {"recipe", grid.recipes[t.trial.recipe].name},
                            {"cell", cell_at(grid, t.trial.cell).name},
                            {"state", t.state},
                            {"top1", t.state == "done" ? Json(t.result->top1) : Json()}}));
  return list;
}

std::string finetuned_text(const Grid& grid, const StudyView& view) {
  std::string text;
  for (const TrialView& t : view.finetunings)
    text += fmt::format("fine-tuning with {}: {} lr {:g}, {}\n", grid.recipes[t.trial.recipe].name,
                        cell_at(grid, t.trial.cell).name, t.trial.lr,
                        t.state == "done"
                            ? fmt::format("top-1 error {:.2f} %", 100 * (1 - t.result->top1))
                            : t.state);
  return text;
}

}  // namespace

std::vector<Spent> time_spent(const StudyView& view, std::time_t now) {
  const std::vector<std::string> order = {"used",     "noise",  "target", "fine-tuning",
                                          "diverged", "failed", "running"};
  std::map<std::string, Spent> sums;
  double hours = 0, wall = 0;  // of what tells both
  const auto add = [&](const std::string& outcome, int trials, double wall_s) -> Spent& {
    Spent& s = sums[outcome];
    s.trials += trials;
    if (wall_s > 0) s.wall_s += wall_s;
    return s;
  };
  for (const TrialView* t : all_trials(view)) {
    const TrialRecord& record = t->record;
    if (record.failed_s > 0 || t->state == "failed")
      add("failed", std::max(record.failures, 1), record.failed_s);
    if (t->state == "running") add("running", 1, seconds_since(record.submitted, now));
    if (!t->result) continue;
    Spent& s = add(t->state == "done" ? use_of(view, *t) : "diverged", 1, t->result->wall_s);
    if (!(t->result->device_hours > 0)) continue;
    s.device_hours += t->result->device_hours;
    if (!(t->result->wall_s > 0)) continue;
    hours += t->result->device_hours;
    wall += t->result->wall_s;
  }
  std::vector<Spent> spent;
  for (const std::string& outcome : order) {
    if (!sums.contains(outcome)) continue;
    Spent s = sums[outcome];
    s.outcome = outcome;
    if (outcome == "failed" || outcome == "running")
      s.device_hours = wall > 0 ? s.wall_s * hours / wall : s.wall_s / 3600;
    spent.push_back(s);
  }
  return spent;
}

Json status_json(const Study& study, const Grid& grid, const StudyView& view,
                 const std::vector<Prediction>& predictions) {
  const std::string sources = join(grid.base.data.train, " ");
  const std::vector<std::string> states = cell_states(grid, view);
  Json cells = Json::array(), spent = Json::array();
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const CellSearch& s = view.search.cells[c];
    cells.push(Json::object({{"cell", grid.cells[c].name},
                             {"model", grid.cells[c].model},
                             {"epochs", grid.cells[c].epochs},
                             {"data", sources},
                             {"state", states[c]},
                             {"best", best_json(grid, grid.cells[c], s)},
                             {"certified", s.certified},
                             {"edge", s.edge}}));
  }
  std::map<std::string, int64_t> count;
  for (const TrialView* t : all_trials(view)) ++count[t->state];
  for (const Spent& s : time_spent(view, std::time(nullptr)))
    spent.push(Json::object({{"outcome", s.outcome},
                             {"trials", s.trials},
                             {"wall_s", s.wall_s},
                             {"device_hours", s.device_hours}}));
  const double planned =
      remaining_trials(study, grid, view) - static_cast<double>(count["running"]);
  const auto eta = remaining_seconds(study, grid, view);
  return Json::object({{"cells", cells},
                       {"trials", Json::object({{"done", count["done"]},
                                                {"running", count["running"]},
                                                {"diverged", count["diverged"]},
                                                {"failed", count["failed"]},
                                                {"planned", static_cast<int64_t>(planned)},
                                                {"not_in_plan", view.other.size()}})},
                       {"spent", spent},
                       {"predictions", predictions_json(predictions)},
                       {"finetuned", finetuned_json(grid, view)},
                       {"finished", complete(view)},
                       {"eta_s", eta ? Json(*eta) : Json()}});
}

std::vector<std::vector<std::string>> status_rows(const Grid& grid, const StudyView& view) {
  using Place = std::tuple<std::string, int, std::string>;  // family, size, name
  std::map<Place, std::map<double, size_t>> models;
  std::map<double, size_t> budgets;  // column
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const Cell& cell = grid.cells[c];
    models[{cell.family, cell.size_rank, cell.model}][cell.epochs] = c;
    budgets[cell.epochs] = 0;
  }
  std::vector<std::vector<std::string>> rows = {{"model"}};
  for (auto& [epochs, column] : budgets) {
    column = rows[0].size();
    rows[0].push_back(fmt::format("{:g} epochs", epochs));
  }
  const std::vector<std::string> states = cell_states(grid, view);
  for (const auto& [model, cells] : models) {
    std::vector<std::string> row(rows[0].size(), "-");
    row[0] = std::get<2>(model);
    for (const auto& [epochs, c] : cells)
      row[budgets[epochs]] = cell_text(grid, grid.cells[c], view.search.cells[c], states[c]);
    rows.push_back(row);
  }
  return rows;
}

std::string status_text(const Study& study, const Grid& grid, const StudyView& view,
                        const std::vector<Prediction>& predictions) {
  std::map<std::string, int64_t> count;
  for (const TrialView* t : all_trials(view)) ++count[t->state];
  count["planned"] = static_cast<int64_t>(remaining_trials(study, grid, view)) - count["running"];
  count["not in plan"] = static_cast<int64_t>(view.other.size());
  std::vector<std::string> parts;
  for (const char* state : {"done", "running", "diverged", "failed", "planned", "not in plan"})
    if (count[state] > 0) parts.push_back(fmt::format("{} {}", count[state], state));
  std::string text = "held-out loss at the best rate; * certified, ! the search met a limit\n";
  text += "trials: " + (parts.empty() ? "none yet" : join(parts, ", ")) +
          left_text(study, grid, view) + "\n";
  text += spent_text(time_spent(view, std::time(nullptr)));
  for (const Prediction& p : predictions) text += prediction_line(p) + "\n";
  return text + finetuned_text(grid, view);
}

}  // namespace nfscale
