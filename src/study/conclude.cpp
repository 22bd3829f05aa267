#include "study/conclude.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/text.h"
#include "fit/influence.h"
#include "fit/laws.h"
#include "study/optimum.h"
#include "study/record.h"
#include "study/verdicts.h"

namespace nfscale {

FrontierPoint frontier_point(const CellRow& c, bool by_hours) {
  return {c.model, c.compute(by_hours), c.loss_vertex, c.params, c.epochs, c.macs > 0 ? c.macs : 0};
}

namespace {

constexpr size_t kMinBudgets = 4, kMinModels = 3;
constexpr size_t kMinFlagged = 20;  // cells; with fewer, the others know too little to accuse one
constexpr int kMinDraws = 20;

std::vector<FrontierPoint> points_of(const std::vector<CellRow>& cells,
                                     const std::vector<size_t>& places, bool by_hours) {
  std::vector<FrontierPoint> points;
  for (const size_t i : places) points.push_back(frontier_point(cells[i], by_hours));
  return points;
}

// ---- which cells the law rests on

struct Usable {
  std::vector<size_t> places;
  std::vector<std::string> at_chance;
  size_t known = 0;
};

Usable usable_cells(std::vector<CellRow>& cells, const ConcludeOptions& options) {
  Usable u;
  // Noise that is not known is taken as a hundredth of the chance loss.
  const double sigma = options.sigma > 0 ? options.sigma : 0.01 * options.chance;
  for (size_t i = 0; i < cells.size(); ++i) {
    const CellRow& c = cells[i];
    if (std::isnan(c.loss)) continue;
    ++u.known;
    if (options.chance > 0 && c.loss > options.chance - 2 * sigma) {
      u.at_chance.push_back(c.cell);
      continue;
    }
    if (options.drop_flagged && c.flagged) continue;
    if (!(c.compute(options.by_hours) > 0) || !(c.loss_vertex > 0)) continue;
    u.places.push_back(i);
  }
  return u;
}

// Flags what the other cells do not believe, after what a broken certificate flagged already.
void flag_suspects(std::vector<CellRow>& cells, const ConcludeOptions& options, Usable& usable) {
  if (usable.places.size() < kMinFlagged) return;
  std::vector<size_t> dropped;
  for (const Influence& s : suspects(points_of(cells, usable.places, options.by_hours))) {
    CellRow& c = cells[usable.places[s.point]];
    c.flagged = true;
    const std::string why = fmt::format("{:.1f} sigma worse than its neighbours say", s.z);
    c.reason = c.reason.empty() ? why : c.reason + "; " + why;
    dropped.push_back(usable.places[s.point]);
  }
  if (options.drop_flagged)
    std::erase_if(usable.places, [&](size_t i) {
      return std::find(dropped.begin(), dropped.end(), i) != dropped.end();
    });
}

std::vector<CellInfluence> influence_rows(const std::vector<CellRow>& cells,
                                          const std::vector<size_t>& used,
                                          const ConcludeOptions& options,
                                          const std::optional<Tangent>& law) {
  const double nan = std::nan("");
  std::vector<CellInfluence> rows;
  const std::vector<Influence> judged = influences(points_of(cells, used, options.by_hours));
  // Flagged cells are judged beside the used ones, one at a time.
  for (size_t i = 0; i < cells.size(); ++i) {
    const CellRow& c = cells[i];
    CellInfluence row = {c.cell, nan, nan, c.flagged, c.flagged ? c.reason : "", nan, nan};
    const auto at = std::find(used.begin(), used.end(), i);
    const bool in = at != used.end();
    if (in || (c.flagged && c.loss_vertex > 0 && c.compute(options.by_hours) > 0)) {
      std::vector<size_t> all = used;
      if (!in) all.push_back(i);
      const auto place = in ? static_cast<size_t>(at - used.begin()) : all.size() - 1;
      const std::vector<FrontierPoint> points = points_of(cells, all, options.by_hours);
      const Influence one = in ? judged[place] : influences(points)[place];
      row.residual = one.residual;
      row.z = one.z;
      // Of a cell that is left out: with it.
      std::vector<FrontierPoint> other = points;
      if (in) other.erase(other.begin() + static_cast<ptrdiff_t>(place));
      if (const auto tangent = law ? common_tangent(other) : std::nullopt) {
        row.exponent_without = tangent->exponent;
        row.ratio_without = tangent->rates.ratio();
      }
    }
    rows.push_back(row);
  }
  return rows;
}

// ---- the law

std::optional<Bounds> percent95(const Vector& draws) {
  if (draws.size() < static_cast<size_t>(kMinDraws)) return std::nullopt;
  return Bounds{percentile(draws, 2.5), percentile(draws, 97.5)};
}

// Two estimators that answer one question: what either holds possible.
std::optional<Bounds> united(const std::optional<Bounds>& a, const std::optional<Bounds>& b) {
  if (!a || !b) return a ? a : b;
  return Bounds{std::min(a->low, b->low), std::max(a->high, b->high)};
}

DrawOptions draw_options(const ConcludeOptions& options, const std::vector<FrontierPoint>& points) {
  DrawOptions d;
  d.draws = options.draws;
  d.seed = options.seed;
  double loss = 0;
  for (const FrontierPoint& p : points) loss += p.loss / static_cast<double>(points.size());
  d.sigma = options.sigma / loss;
  return d;
}

// As of the exponent: what either estimator holds possible.
void take_band(const FrontierDraws& draws, LawConclusion& law) {
  law.drawn = static_cast<int>(draws.tangent_exponent.size());
  for (size_t k = 0; k < draws.line.size() && law.drawn >= kMinDraws; ++k) {
    const auto slices = law.slices ? percent95(draws.slices_line[k]) : std::nullopt;
    const Bounds b = *united(percent95(draws.line[k]), slices);
    law.low.push_back(std::exp(b.low));
    law.high.push_back(std::exp(b.high));
  }
}

LawConclusion conclude_law(const std::vector<FrontierPoint>& points, const ConcludeOptions& options,
                           const std::vector<FrontierPoint>& targets, FrontierDraws& draws) {
  LawConclusion law;
  law.draws = options.draws;
  law.law = common_tangent(points);
  law.slices = budget_slices(points);
  law.pareto = pareto_line(points);
  law.hull = hull_line(points);
  law.method = law.law ? "tangent" : law.pareto ? "pareto" : "none";
  if (!law.law) law.law = law.pareto;
  if (!law.law) return law;
  double lowest = INFINITY, highest = 0;
  for (const FrontierPoint& p : points) {
    lowest = std::min(lowest, p.compute);
    highest = std::max(highest, p.compute);
  }
  for (int i = 0; i <= 40; ++i)
    law.compute.push_back(lowest * std::pow(2 * highest / lowest, i / 40.0));
  for (const double c : law.compute) law.line.push_back(law.law->at(c));
  law.measured_low = INFINITY;
  for (const TouchPoint& t : law.law->touches) {
    law.measured_low = std::min(law.measured_low, t.compute);
    law.measured_high = std::max(law.measured_high, t.compute);
  }
  DrawOptions own = draw_options(options, points);
  own.at = law.compute;
  own.targets = targets;
  const bool tangent = law.method == "tangent";
  draws = draw_frontier(points, tangent ? LawKind::tangent : LawKind::pareto, own);
  take_band(draws, law);
  law.exponent = percent95(draws.tangent_exponent);
  law.ratio_macs_point = tangent ? law.law->rates.ratio_macs() : std::nan("");
  if (!tangent) return law;
  law.ratio = percent95(draws.tangent_ratio);
  law.ratio_macs = percent95(draws.tangent_ratio_macs);
  law.curvature = percent95(draws.curvature);
  if (law.slices) {
    law.exponent = united(law.exponent, percent95(draws.slices_exponent));
    law.ratio = united(law.ratio, percent95(draws.slices_ratio));
    law.ratio_macs = united(law.ratio_macs, percent95(draws.slices_ratio_macs));
  }
  return law;
}

// The laws of one formula, of the cells that no cheaper one beats.
std::vector<FrontierLaw> frontier_laws(const std::vector<CellRow>& cells,
                                       const std::vector<size_t>& used,
                                       const ConcludeOptions& options) {
  std::vector<FrontierLaw> out;
  const std::vector<FrontierPoint> points = points_of(cells, used, options.by_hours);
  FitTable table;
  table.columns = {{"x", options.by_hours ? "device_hours" : "flops"}, {"y", "loss_vertex"}};
  table.total = cells.size();
  const std::vector<size_t> set = pareto_set(points);
  for (size_t k = 0; k < points.size(); ++k) {
    if (std::find(set.begin(), set.end(), k) == set.end())
      table.excluded.emplace_back(cells[used[k]].cell, "a cheaper cell is as good");
  }
  for (const size_t k : set) {
    table.rows.push_back({points[k].compute, points[k].loss});
    table.names.push_back(cells[used[k]].cell);
  }
  FitOptions fit;
  fit.huber = options.huber;
  fit.draws = options.draws;
  fit.seed = options.seed;
  for (const std::string& law : options.laws) {
    const size_t needed = law == "power" ? 3 : 5;
    if (table.rows.size() >= needed) out.push_back({fit_law(law, table, fit), table, fit});
  }
  return out;
}

std::optional<RateConclusion> conclude_rate(const std::vector<CellRow>& cells,
                                            const std::vector<size_t>& used,
                                            const ConcludeOptions& options) {
  FitTable table;
  table.columns = {{"params", "params"}, {"tokens", "epochs"}, {"lr", "lr_vertex"}};
  for (const size_t i : used) {
    const CellRow& c = cells[i];
    if (!(c.lr_vertex > 0) || c.bracket == "none") continue;
    table.rows.push_back({c.params, c.epochs, c.lr_vertex});
    table.names.push_back(c.cell);
  }
  constexpr size_t kLeast = 6;
  std::vector<double> sizes, epochs;
  for (const Vector& row : table.rows) {
    sizes.push_back(row[0]);
    epochs.push_back(row[1]);
  }
  const auto varied = [](std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return std::unique(v.begin(), v.end()) - v.begin() >= 2;
  };
  if (table.rows.size() < kLeast || !varied(sizes) || !varied(epochs)) return std::nullopt;
  FitOptions fit;
  fit.huber = INFINITY;  // rates are coarse: no outliers to be proof against
  fit.draws = std::min(options.draws, 1000);
  fit.seed = options.seed;
  const LawFit law = fit_law("lr", table, fit);
  RateConclusion rate;
  rate.i = law.param("i");
  rate.p = law.param("p");
  rate.q = law.param("q");
  rate.cells = table.rows.size();
  if (const auto p = law.interval.find("p"); p != law.interval.end()) rate.p_interval = p->second;
  if (const auto q = law.interval.find("q"); q != law.interval.end()) rate.q_interval = q->second;
  return rate;
}

// ---- what follows from the draws

std::vector<CellForecast> forecasts_of(const std::vector<FrontierPoint>& points,
                                       const ConcludeOptions& options, const LawConclusion& law,
                                       const std::vector<FrontierPoint>& targets,
                                       const FrontierDraws& draws) {
  std::vector<CellForecast> out;
  if (!law.law) return out;
  for (size_t k = 0; k < targets.size(); ++k) {
    CellForecast f;
    f.cell = options.targets[k].cell;
    f.law = law.method;
    f.compute = targets[k].compute;
    f.loss = law.method == "tangent" ? law.law->cell_at(targets[k].size, f.compute)
                                     : law.law->at(f.compute);
    f.naive = std::exp(naive_forecast(points, f.compute));
    const Vector& d = draws.target[k];
    const auto bounds = [&](double outside) {
      if (d.size() < static_cast<size_t>(kMinDraws)) return Bounds{-INFINITY, INFINITY};
      return Bounds{std::exp(percentile(d, outside)), std::exp(percentile(d, 100 - outside))};
    };
    f.interval50 = bounds(25);
    f.interval95 = bounds(2.5);
    out.push_back(f);
  }
  return out;
}

// How much the variance of the ratio falls if a cell is measured once more, from how the ratio of a
// draw goes with what was added to the cell.
std::vector<Conclusions::Next> next_cells(const std::vector<CellRow>& cells,
                                          const std::vector<size_t>& used,
                                          const ConcludeOptions& options, const LawConclusion& law,
                                          const FrontierDraws& draws) {
  std::vector<Conclusions::Next> out;
  if (!law.ratio || draws.residual.empty()) return out;
  Vector ratio;
  std::vector<size_t> known;
  for (size_t d = 0; d < draws.residual.size(); ++d)
    if (!std::isnan(draws.ratio_of_draw[d])) {
      known.push_back(d);
      ratio.push_back(draws.ratio_of_draw[d]);
    }
  if (known.size() < static_cast<size_t>(kMinDraws)) return out;
  const std::vector<FrontierPoint> points = points_of(cells, used, options.by_hours);
  const std::vector<ModelCurve> curves = model_curves(points, centre_of(points));
  std::vector<size_t> drawn;  // places in `used`, in the order of the draws
  for (size_t i = 0; i < points.size(); ++i)
    for (const ModelCurve& q : curves)
      if (q.model == points[i].model) drawn.push_back(i);
  double variance = 0;
  const double mean = mean_of(ratio);
  for (const double r : ratio) variance += (r - mean) * (r - mean);
  if (!(variance > 0)) return out;
  for (size_t i = 0; i < drawn.size(); ++i) {
    double both = 0, own = 0, middle = 0;
    for (const size_t d : known) middle += draws.residual[d][i];
    middle /= static_cast<double>(known.size());
    for (size_t k = 0; k < known.size(); ++k) {
      const double a = draws.residual[known[k]][i] - middle;
      both += a * (ratio[k] - mean);
      own += a * a;
    }
    if (!(own > 0)) continue;
    // Its share of the variance; measured twice, half of it goes.
    const double share = std::min(1.0, both * both / own / variance);
    const double width = law.ratio->high - law.ratio->low;
    Conclusions::Next next;
    next.cell = cells[used[drawn[i]]].cell;
    next.cost = points[drawn[i]].compute;
    next.narrowing = width * (1 - std::sqrt(1 - share / 2)) / next.cost;
    out.push_back(next);
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const auto& a, const auto& b) { return a.narrowing > b.narrowing; });
  return out;
}

// What keeps a study from having a law, in words.
std::string missing_cells(const std::vector<CellRow>& cells,
                          const std::map<std::string, size_t>& usable) {
  std::map<std::string, size_t> planned;
  std::vector<std::string> waiting;
  for (const CellRow& c : cells) {
    ++planned[c.model];
    if (std::isnan(c.loss)) waiting.push_back(c.cell);
  }
  std::vector<std::string> parts;
  for (const auto& [model, n] : planned) {
    const auto found = usable.find(model);
    const size_t have = found == usable.end() ? 0 : found->second;
    if (have >= kMinBudgets) continue;
    parts.push_back(fmt::format("{} has {}", model, have) +
                    (n < kMinBudgets ? fmt::format(" (of {} in the grid)", n) : ""));
  }
  std::string text = fmt::format("No law yet: it takes {} models with {} epoch budgets each",
                                 kMinModels, kMinBudgets);
  if (planned.size() < kMinModels) text += fmt::format("; the grid has {} models", planned.size());
  if (!parts.empty()) text += "; " + join(parts, ", ");
  constexpr size_t kShown = 4;
  if (!waiting.empty()) {
    const size_t more = waiting.size() > kShown ? waiting.size() - kShown : 0;
    waiting.resize(waiting.size() - more);
    text += "; waits for " + join(waiting, ", ");
    if (more) text += fmt::format(" and {} more", more);
  }
  return text + ".";
}

// Why there is no law; empty where one may be.
std::string why_no_law(const std::vector<CellRow>& cells, const ConcludeOptions& options,
                       const Usable& usable) {
  if (usable.known == 0) return "No cell has a result yet.";
  const double sigma = options.sigma > 0 ? options.sigma : 0.01 * options.chance;
  if (usable.places.empty() && !usable.at_chance.empty())
    return fmt::format(
        "Nothing was learned yet: all {} cells that have a result lie within 2 sigma ({:.4g} nats) "
        "of chance, ln(classes) = {:.4g} nats. Train longer, or look at the recipe.",
        usable.at_chance.size(), 2 * sigma, options.chance);
  std::map<std::string, size_t> count;
  for (const size_t i : usable.places) ++count[cells[i].model];
  size_t models = 0;
  for (const auto& [model, n] : count) models += n >= kMinBudgets;
  if (models >= kMinModels) return "";
  std::string text = missing_cells(cells, count);
  if (!usable.at_chance.empty())
    text += " In " + join(usable.at_chance, ", ") + " nothing was learned yet.";
  return text;
}

void mark_cells(const LawConclusion& law, const ConcludeOptions& options,
                std::vector<CellRow>& cells) {
  for (CellRow& c : cells) {
    const double compute = c.compute(options.by_hours);
    if (std::isnan(c.loss_vertex) || !(compute > 0)) continue;
    c.excess = std::log(c.loss_vertex) - std::log(law.law->at(compute));
    c.near = c.excess <= options.tolerance;
  }
}

}  // namespace

Conclusions conclude(std::vector<CellRow>& cells, const ConcludeOptions& options) {
  Conclusions c;
  c.axis = options.by_hours ? "device hours" : "operations";
  c.law.method = "none";
  c.law.draws = options.draws;
  Usable usable = usable_cells(cells, options);
  std::string missing = why_no_law(cells, options, usable);
  if (missing.empty()) flag_suspects(cells, options, usable);
  c.used = usable.places;
  const std::vector<FrontierPoint> points = points_of(cells, c.used, options.by_hours);
  if (missing.empty()) {
    std::vector<FrontierPoint> targets;
    for (const CellRow& t : options.targets) targets.push_back(frontier_point(t, options.by_hours));
    FrontierDraws draws;
    c.law = conclude_law(points, options, targets, draws);
    if (c.law.law) {
      mark_cells(c.law, options, cells);
      c.forecasts = forecasts_of(points, options, c.law, targets, draws);
      c.next = next_cells(cells, c.used, options, c.law, draws);
    } else {
      missing =
          "No law: the models' curves have no common tangent inside the measured range, and fewer "
          "than three cells lie on the frontier.";
    }
  }
  if (!points.empty()) {
    c.laws = frontier_laws(cells, c.used, options);
    const bool tangent = c.law.method == "tangent";
    c.optima = optimum_regions(points, tangent ? c.law.law : std::nullopt, options.tolerance);
    c.rate = conclude_rate(cells, c.used, options);
    std::vector<std::string> names;
    for (const size_t i : c.used) names.push_back(cells[i].cell);
    DrawOptions draws = draw_options(options, points);
    draws.draws = std::min(draws.draws, 400);
    c.record = extrapolation_record(points, names, draws);
    c.candidates = candidates_of(cells, c.used, options.by_hours, options);
  }
  c.influence =
      influence_rows(cells, c.used, options, c.law.method == "tangent" ? c.law.law : std::nullopt);
  add_verdicts(cells, options, missing, c);
  if (!usable.at_chance.empty() && c.law.law)
    c.verdicts.push_back(
        {"chance",
         fmt::format(
             "Nothing was learned yet in {}: within 2 sigma of chance, ln(classes) = {:.4g} "
             "nats; left out.",
             join(usable.at_chance, ", "), options.chance),
         "decided", usable.at_chance});
  c.cells = cells;
  if (!cells.empty()) c.family = cells[0].family;
  return c;
}

}  // namespace nfscale
