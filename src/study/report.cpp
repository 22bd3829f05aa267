#include "study/report.h"

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "config/load.h"
#include "study/sqlite.h"

namespace nfscale {
namespace {

// What the way of measuring leaves open; what the laws leave open is said by the conclusions.
std::vector<std::string> limits_of(const Study& study, const StudyConclusions& conclusions) {
  std::vector<std::string> limits = conclusions.limits;
  if (study.repeats < 2 && !study.sigma)
    limits.push_back("The noise is known from one repeat at most.");
  return limits;
}

// Those of a family; the first family takes those of no known one too.
std::vector<Prediction> predictions_of_family(const Grid& grid, const StudyResults& r, size_t f) {
  std::map<std::string, std::string> family;  // by cell
  for (const auto* cells : {&grid.cells, &grid.targets})
    for (const Cell& c : *cells) family[c.name] = c.family;
  std::vector<Prediction> own;
  for (const Prediction& p : r.predictions) {
    const auto found = family.find(p.target);
    if (found == family.end() ? f == 0 : found->second == r.conclusions.families[f].family)
      own.push_back(p);
  }
  return own;
}

FigureInput figure_input(const Grid& grid, const StudyView& view, const StudyResults& r, size_t f) {
  FigureInput input;
  input.several = r.conclusions.families.size() > 1;
  input.conclusions = r.conclusions.families[f];
  input.predictions = predictions_of_family(grid, r, f);
  input.lr_factor = grid.lr_factor;
  input.heldout_examples = grid.data.heldout_examples;
  input.heldout = join(grid.base.data.heldout, ", ");
  input.best_runs = best_runs(grid, view);
  for (const FinetunedPoint& p : r.conclusions.finetuned)
    if (p.family == input.conclusions.family) input.finetuned.push_back(p);
  for (const TrialView& t : view.trials) {
    if (!t.result || grid.cells[t.trial.cell].family != input.conclusions.family) continue;
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
                        const StoreState& store, const std::vector<Prediction>& more) {
  StudyResults r;
  r.cells = cell_rows(study, grid, view);
  r.trials = trials_table(study, grid, view, store);
  r.finetuned = finetuned_table(grid, view);
  r.conclusions = conclude_study(study, grid, view, r.cells, static_cast<int>(study.bootstrap));
  r.predictions = predictions_of(study, grid, view, store, r.cells, r.conclusions);
  r.predictions.insert(r.predictions.end(), more.begin(), more.end());
  r.fits = fits_json(r.conclusions, input_hash_of(study, grid, view));
  r.limits = limits_of(study, r.conclusions);
  FigureInputs families;
  for (size_t f = 0; f < r.conclusions.families.size(); ++f)
    families.push_back(figure_input(grid, view, r, f));
  r.figures = all_figures(families);
  return r;
}

void write_tables(const Study& study, const StudyResults& r) {
  write_file(study.out / "trials.csv", csv_text(r.trials));
  write_file(study.out / "cells.csv", csv_text(cells_table(r.cells)));
  const Path finetuned = study.out / "finetuned.csv";
  if (r.finetuned.rows.empty())
    files().remove(finetuned);
  else
    write_file(finetuned, csv_text(r.finetuned));
  std::vector<Csv> tables = {r.trials, cells_table(r.cells)};
  if (!r.finetuned.rows.empty()) tables.push_back(r.finetuned);
  write_sqlite(study.out / "study.sqlite", tables);
  write_file(study.out / "fits.json", r.fits.dump(2) + "\n");
  write_file(study.out / "predictions.json", predictions_json(r.predictions).dump(2) + "\n");
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
  for (const Verdict& v : r.conclusions.verdicts) {
    Json verdict = Json::object(
        {{"name", v.name}, {"state", v.state}, {"sentence", v.sentence}, {"cells", Json(v.cells)}});
    if (!v.family.empty()) verdict.set("family", v.family);
    verdicts.push(verdict);
  }
  return verdicts;
}

std::string verdicts_text(const StudyResults& r) {
  std::string text;
  for (const Verdict& v : r.conclusions.verdicts)
    text += fmt::format("{}{} ({}): {}\n", v.family.empty() ? "" : family_title(v.family) + "s, ",
                        v.name, v.state, v.sentence);
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

}  // namespace nfscale
