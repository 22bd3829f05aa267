#include "study/remaining.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "fit/numeric.h"
#include "study/finetune.h"
#include "study/plan.h"

namespace nfscale {
namespace {

// Targets that are not trained yet.
std::vector<const Cell*> open_targets(const Grid& grid, const StudyView& view) {
  std::set<std::string> through;
  for (const TrialView& t : view.targets)
    if (!is_open(t)) through.insert(cell_at(grid, t.trial.cell).name);
  std::vector<const Cell*> open;
  for (const Cell& target : grid.targets)
    if (!through.contains(target.name)) open.push_back(&target);
  return open;
}

// Where the candidates are not known yet, the most that there can be.
std::vector<Finetunings> open_finetunings(const Study& study, const Grid& grid,
                                          const StudyView& view) {
  if (view.candidates_due) return most_finetunings(study, grid);
  std::vector<Finetunings> open;
  for (const TrialView& t : view.finetunings)
    if (is_open(t))
      open.push_back({.cell = t.trial.cell,
                      .trials = 1,
                      .flops = finetuning_flops(grid, cell_at(grid, t.trial.cell),
                                                grid.recipes[t.trial.recipe])});
  return open;
}

// Of each cell, the trials that are to be expected behind those that are done, run or are asked
// for.
std::vector<double> expected_more(const Study& study, const Grid& grid, const StudyView& view) {
  std::vector<double> known(grid.cells.size());
  for (const TrialView& t : view.trials) ++known[t.trial.cell];
  std::vector<double> more(grid.cells.size());
  for (size_t c = 0; c < more.size(); ++c) {
    if (!view.search.cells[c].searched)
      more[c] = std::max(0.0, expected_trials(study, grid, c) - known[c]);
    else if (!view.search.cells[c].certified && study.certify != "none" && !view.search.finished)
      more[c] = 0.5;
  }
  return more;
}

double operations(const Grid& grid, const Cell& cell) {
  return cell.flops + evaluation_flops(grid, cell);
}

// Seconds of an operation, by what the trials took.
class Pace {
 public:
  Pace(const Grid& grid, const StudyView& view) {
    for (const TrialView& t : view.trials) {
      if (t.state != "done" || !(t.result->wall_s > 0)) continue;
      const Cell& cell = grid.cells[t.trial.cell];
      Spent& spent = families_[cell.family][cell.model];
      spent.macs = static_cast<double>(cell.macs);
      spent.seconds += t.result->wall_s;
      spent.operations += operations(grid, cell);
    }
  }
  bool is_known() const { return !families_.empty(); }

  double of(const Cell& cell) const {
    const auto family = families_.find(cell.family);
    // Of another family rather than nothing.
    const Models& models = family == families_.end() ? families_.begin()->second : family->second;
    if (const auto own = models.find(cell.model); own != models.end()) return own->second.pace();
    Vector x, z;
    for (const auto& [name, spent] : models) {
      x.push_back(std::log(spent.macs));
      z.push_back(std::log(spent.pace()));
    }
    const auto [least, most] = std::minmax_element(x.begin(), x.end());
    if (*most - *least < std::log(1.2)) return level(z);
    const auto [first, slope] = line_fit(x, z);
    if (slope > 0 || slope < -1) return level(z);  // two short trials tell nothing
    return std::exp(first + slope * std::log(static_cast<double>(cell.macs)));
  }

 private:
  struct Spent {
    double macs = 0, seconds = 0, operations = 0;
    double pace() const { return seconds / operations; }
  };
  static double level(const Vector& z) {
    return std::exp(std::accumulate(z.begin(), z.end(), 0.0) / static_cast<double>(z.size()));
  }
  using Models = std::map<std::string, Spent>;
  std::map<std::string, Models> families_;
};

}  // namespace

double remaining_trials(const Study& study, const Grid& grid, const StudyView& view) {
  double trials = static_cast<double>(open_targets(grid, view).size());
  for (const TrialView& t : view.trials) trials += is_open(t);
  for (const Finetunings& f : open_finetunings(study, grid, view)) trials += f.trials;
  double more = 0;
  for (const double m : expected_more(study, grid, view)) more += m;
  return trials + std::round(more);
}

std::optional<double> remaining_seconds(const Study& study, const Grid& grid,
                                        const StudyView& view) {
  const Pace pace(grid, view);
  if (!pace.is_known()) return complete(view) ? std::optional(0.0) : std::nullopt;
  const auto seconds = [&](const Cell& cell) { return pace.of(cell) * operations(grid, cell); };
  double open = 0;
  for (const TrialView& t : view.trials)
    if (is_open(t)) open += seconds(grid.cells[t.trial.cell]);
  for (const Cell* target : open_targets(grid, view)) open += seconds(*target);
  for (const Finetunings& f : open_finetunings(study, grid, view))
    open += pace.of(cell_at(grid, f.cell)) * f.flops;
  const std::vector<double> more = expected_more(study, grid, view);
  for (size_t c = 0; c < more.size(); ++c) open += more[c] * seconds(grid.cells[c]);
  return open / static_cast<double>(study.slots);
}

}  // namespace nfscale
