#include "study/optimum.h"

#include <algorithm>
#include <cmath>

namespace nfscale {
namespace {

constexpr double kBudgetsPerDecade = 20;

}  // namespace

std::vector<OptimumRegion> optimum_regions(const std::vector<FrontierPoint>& points,
                                           const std::optional<Tangent>& law, double tolerance) {
  std::vector<OptimumRegion> regions;
  if (points.empty()) return regions;
  const double centre = centre_of(points);
  std::vector<ModelCurve> curves = model_curves(points, centre);
  std::stable_sort(curves.begin(), curves.end(),
                   [](const ModelCurve& a, const ModelCurve& b) { return a.ln_size < b.ln_size; });
  if (curves.size() < 2) return regions;
  double low = INFINITY, high = -INFINITY;
  for (const ModelCurve& q : curves) {
    low = std::min(low, q.low);
    high = std::max(high, q.high);
  }
  Vector x, size, epochs;
  const bool touches = law && law->touches.size() >= 3 && law->curvature > 0;
  if (touches)
    for (const TouchPoint& t : law->touches) {
      x.push_back(std::log(t.compute) - centre);
      size.push_back(std::log(t.size));
      epochs.push_back(std::log(t.epochs));
    }
  const double step = std::log(10) / kBudgetsPerDecade;
  for (double at = std::ceil((low + centre) / step) * step; at <= high + centre; at += step) {
    OptimumRegion r;
    r.compute = std::exp(at);
    r.loss = INFINITY;
    const ModelCurve* best = nullptr;
    for (const ModelCurve& q : curves) {
      const double u = at - centre;
      if (u < q.low || u > q.high || std::exp(q.at(u)) >= r.loss) continue;
      best = &q;
      r.loss = std::exp(q.at(u));
      r.model = q.model;
      r.epochs = std::exp(u + q.ln_epochs_minus_x);
    }
    if (!best) continue;
    for (const ModelCurve& q : curves) {
      const double u = at - centre, loss = std::exp(q.at(u));
      if (u >= q.low && u <= q.high && loss <= r.loss * (1 + tolerance))
        r.near.push_back({q.model, std::exp(u + q.ln_epochs_minus_x), loss});
    }
    // Its best is the largest there is, or no model has been trained for longer.
    r.open_above = best == &curves.back() || at - centre > best->high - step / 2;
    r.size = r.size_epochs = std::nan("");
    if (touches && r.compute >= law->touches.front().compute * 0.999 &&
        at - centre <= *std::max_element(x.begin(), x.end()) + 1e-9) {
      const auto [s0, s1] = line_fit(x, size);
      const auto [e0, e1] = line_fit(x, epochs);
      r.size = std::exp(s0 + s1 * (at - centre));
      r.size_epochs = std::exp(e0 + e1 * (at - centre));
    }
    regions.push_back(r);
  }
  return regions;
}

std::vector<Candidate> candidates_of(const std::vector<CellRow>& cells,
                                     const std::vector<size_t>& used, bool by_hours,
                                     const ConcludeOptions& options) {
  std::vector<Candidate> out;
  const auto compute = [&](size_t i) { return cells[i].compute(by_hours); };
  const double budget = options.candidate_budget > 0 ? options.candidate_budget : INFINITY;
  std::optional<size_t> a, b;
  for (const size_t i : used)
    if (compute(i) <= budget && (!a || cells[i].loss_vertex < cells[*a].loss_vertex)) a = i;
  if (!a) return out;
  // At the same compute: epochs are spaced by about two, so within a factor sqrt 2.
  for (const size_t i : used) {
    if (cells[i].params <= cells[*a].params || compute(i) > budget * 1.01) continue;
    if (std::abs(std::log(compute(i) / compute(*a))) > std::log(2) / 2 + 1e-9) continue;
    if (cells[i].loss_vertex > 1.01 * cells[*a].loss_vertex) continue;
    if (!b || cells[i].params < cells[*b].params) b = i;
  }
  const auto trial_at = [&](size_t cell, double lr) -> const TrialPoint* {
    for (const TrialPoint& t : options.trials)
      if (t.cell == cell && std::abs(std::log(t.lr / lr)) < 1e-6) return &t;
    return nullptr;
  };
  const auto add = [&](const char* role, size_t i, double lr, std::string why) {
    const TrialPoint* t = trial_at(i, lr);
    out.push_back({role, cells[i].cell, t ? t->run_id : "", std::move(why), lr,
                   t ? t->loss : cells[i].loss, compute(i)});
  };
  add("a", *a, cells[*a].lr_best, "the best held-out loss of the budget");
  if (b && options.candidates > 1)
    add("b", *b, cells[*b].lr_best,
        "the next larger model at the same compute, its loss within 1 %");
  if (options.candidates < 3) return out;
  const size_t better = b && cells[*b].loss < cells[*a].loss ? *b : *a;
  const TrialPoint* higher = nullptr;
  for (const TrialPoint& t : options.trials)
    if (t.cell == better && t.lr > cells[better].lr_best * 1.0001 && (!higher || t.lr < higher->lr))
      higher = &t;
  if (higher && higher->loss <= 1.005 * cells[better].loss)
    add("c", better, higher->lr, "one step higher in learning rate, its loss within 0.5 %");
  return out;
}

}  // namespace nfscale
