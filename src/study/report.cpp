#include "study/report.h"

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "config/load.h"

namespace nfscale {
namespace {

// The state of a cell in one word.
std::string cell_state(const StudyView& view, size_t c) {
  bool running = false, open = false, ended = false;
  for (const TrialView& t : view.trials) {
    if (t.trial.cell != c) continue;
    running |= t.state == "running";
    open |= t.state == "running" || t.state == "planned";
    ended |= t.result.has_value();
  }
  const CellSearch& s = view.search.cells[c];
  if (running) return "running";
  if (s.searched && !open) return s.best ? "done" : "failed";
  return ended ? "searching" : "planned";
}

ConcludeOptions conclude_options(const Study& study, const Grid& grid, const StudyView& view) {
  ConcludeOptions options;
  options.by_hours = view.by_hours;
  options.draws = static_cast<int>(study.bootstrap);
  options.seed = hash64(study.name);
  options.sigma = study.sigma.value_or(view.search.sigma.value_or(0));
  if (grid.data.classes > 1 && grid.base.loss.kind == "softmax")
    options.chance = std::log(static_cast<double>(grid.data.classes));
  options.huber = study.huber;
  options.drop_flagged = study.drop_flagged;
  options.complete = view.search.finished;
  options.laws = study.laws;
  options.candidates = static_cast<size_t>(study.candidates);
  if (view.by_hours) options.candidate_budget = study.finetune_budget.value_or(0);
  for (const TrialView& t : view.trials)
    if (t.state == "done" && !t.repeat)
      options.trials.push_back({t.trial.cell, t.trial.lr, t.result->loss, t.trial.run_id});
  return options;
}

// What the way of measuring leaves open; what the laws leave open is said by the conclusions.
std::vector<std::string> limits_of(const Study& study, const Conclusions& conclusions) {
  std::vector<std::string> limits = conclusions.limits;
  if (study.repeats < 2 && !study.sigma)
    limits.push_back("The noise is known from one repeat at most.");
  return limits;
}

FigureInput figure_input(const Grid& grid, const StudyView& view, const StudyResults& r) {
  FigureInput input;
  input.cells = r.cells;
  input.conclusions = r.conclusions;
  input.predictions = r.predictions;
  input.lr_factor = grid.lr_factor;
  input.heldout_examples = grid.data.heldout_examples;
  input.heldout = join(grid.base.data.heldout, ", ");
  input.best_runs = best_runs(grid, view);
  for (const TrialView& t : view.trials) {
    if (!t.result) continue;
    const double loss = t.state == "done" ? t.result->loss : std::nan("");
    input.trials.push_back(
        {grid.cells[t.trial.cell].name, t.trial.run_id, t.trial.lr, loss, t.repeat > 0});
  }
  return input;
}

Json numbers_of(const Figure& figure) {
  Json rows = Json::array();
  for (const FigureRow& row : figure.rows) {
    Json object = Json::object({{"kind", row.kind}});
    for (const auto& [key, value] : row.values.members()) object.set(key, value);
    rows.push(object);
  }
  return Json::object({{"name", figure.name},
                       {"title", figure.title},
                       {"reading", figure.reading},
                       {"caption", figure.caption},
                       {"waits", figure.waits.empty() ? Json() : Json(figure.waits)},
                       {"rows", rows}});
}

}  // namespace

std::map<std::string, std::string> best_runs(const Grid& grid, const StudyView& view) {
  std::map<std::string, std::string> runs;
  for (const TrialView& t : view.trials)
    if (const auto& best = view.search.cells[t.trial.cell].best;
        best && !t.repeat && t.trial.lr_index == *best)
      runs[grid.cells[t.trial.cell].name] = t.trial.run_id;
  return runs;
}

StudyResults results_of(const Study& study, const Grid& grid, const StudyView& view,
                        const StoreState& store, std::vector<Prediction> predictions) {
  StudyResults r;
  r.cells = cell_rows(study, grid, view);
  r.trials = trials_table(study, grid, view, store);
  r.predictions = std::move(predictions);
  r.conclusions = conclude(r.cells, conclude_options(study, grid, view));
  r.fits = fits_json(r.conclusions, r.cells, hash64(csv_text(cells_table(r.cells))));
  r.limits = limits_of(study, r.conclusions);
  r.figures = all_figures(figure_input(grid, view, r));
  return r;
}

void write_tables(const Study& study, const StudyResults& r) {
  write_file(study.out / "trials.csv", csv_text(r.trials));
  write_file(study.out / "cells.csv", csv_text(cells_table(r.cells)));
  write_file(study.out / "fits.json", r.fits.dump(2) + "\n");
  // predictions.json: to be written here.
  const Path folder = study.out / "figures";
  files().make_folder(folder);
  for (const Figure& figure : r.figures) {
    if (!figure.waits.empty()) continue;
    write_file(folder / (figure.name + ".vl.json"), figure.spec.dump(1) + "\n");
    write_file(folder / (figure.name + ".csv"), csv_text(figure_table(figure)));
  }
}

Json verdicts_json(const StudyResults& r) {
  Json verdicts = Json::array();
  for (const Verdict& v : r.conclusions.verdicts)
    verdicts.push(Json::object({{"name", v.name},
                                {"state", v.state},
                                {"sentence", v.sentence},
                                {"cells", Json(v.cells)}}));
  return verdicts;
}

std::string verdicts_text(const StudyResults& r) {
  std::string text;
  for (const Verdict& v : r.conclusions.verdicts)
    text += fmt::format("{} ({}): {}\n", v.name, v.state, v.sentence);
  return text;
}

Json report_json(const Study& study, const StudyResults& r) {
  Json figures = Json::array();
  for (const Figure& f : r.figures) figures.push(numbers_of(f));
  return Json::object({{"study", study.name},
                       {"question", study.question},
                       {"verdicts", verdicts_json(r)},
                       {"limits", Json(r.limits)},
                       {"fits", r.fits},
                       {"figures", figures},
                       {"report", (study.out / "report.html").string()}});
}

Json status_json(const Study& study, const Grid& grid, const StudyView& view) {
  const auto sources = join(grid.base.data.train, " ");
  Json cells = Json::array();
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const CellSearch& s = view.search.cells[c];
    Json best = Json::object({{"lr", nullptr}, {"loss", nullptr}});
    if (s.best) {
      best.set("lr", grid.lr_start * std::pow(grid.lr_factor, *s.best));
      best.set("loss", s.loss);
    }
    cells.push(Json::object({{"cell", grid.cells[c].name},
                             {"model", grid.cells[c].model},
                             {"epochs", grid.cells[c].epochs},
                             {"data", sources},
                             {"state", cell_state(view, c)},
                             {"best", best},
                             {"certified", s.certified},
                             {"edge", s.edge}}));
  }
  std::map<std::string, int64_t> count;
  for (const TrialView& t : view.trials) ++count[t.state];
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
                       {"finished", view.search.finished},
                       {"eta_s", eta ? Json(*eta) : Json()}});
}

std::vector<std::vector<std::string>> status_rows(const Grid& grid, const StudyView& view) {
  std::vector<std::pair<int, std::string>> models;
  std::vector<double> budgets;
  for (const Cell& c : grid.cells) {
    models.emplace_back(c.size_rank, c.model);
    budgets.push_back(c.epochs);
  }
  const auto unique = [](auto& list) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  };
  unique(models);
  unique(budgets);
  std::vector<std::vector<std::string>> rows = {{"model"}};
  for (const double e : budgets) rows[0].push_back(fmt::format("{:g} epochs", e));
  for (const auto& [rank, model] : models) {
    rows.push_back({model});
    for (const double e : budgets) {
      std::string text = "-";
      for (size_t c = 0; c < grid.cells.size(); ++c) {
        if (grid.cells[c].model != model || grid.cells[c].epochs != e) continue;
        const CellSearch& s = view.search.cells[c];
        text = cell_state(view, c);
        if (s.best)
          text = fmt::format("{:.4f} at {:g}{}{}", s.loss,
                             grid.lr_start * std::pow(grid.lr_factor, *s.best),
                             s.certified ? " *"
                             : s.edge    ? " !"
                                         : "",
                             text == "done" ? "" : ", " + text);
      }
      rows.back().push_back(text);
    }
  }
  return rows;
}

std::string status_text(const Study& study, const Grid& grid, const StudyView& view) {
  const Json status = status_json(study, grid, view);
  std::vector<std::string> parts;
  for (const auto& [name, n] : status.at("trials").members())
    if (n.as_int() > 0) parts.push_back(fmt::format("{} {}", n.as_int(), name));
  std::string text = "held-out loss at the best rate; * certified, ! the search met a limit\n";
  text += "trials: " + (parts.empty() ? "none yet" : join(parts, ", "));
  const Json& eta = status.at("eta_s");
  if (view.search.finished)
    text += "; the study is complete";
  else if (eta.is_number())
    text += "; about " + duration_text(eta.as_double()) + " of work left";
  std::replace(text.begin(), text.end(), '_', ' ');
  return text + "\n";
}

}  // namespace nfscale
