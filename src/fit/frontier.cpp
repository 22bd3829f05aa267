#include "fit/frontier.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

namespace nfscale {
namespace {

constexpr double kScanLow = 0.001, kScanHigh = 1.0, kScanStep = 1e-4;
constexpr size_t kMinBudgets = 4, kMinModels = 3, kMinSlices = 3, kMinSliceModels = 4;

// Where a line of slope -s touches a curve, and its height at the centre there.
struct Touch {
  double x, offset;
  bool inside;
};
Touch touch(const ModelCurve& q, double s) {
  const double x = -(s + q.b) / (2 * q.c);
  return {x, q.a - (s + q.b) * (s + q.b) / (4 * q.c), x >= q.low && x <= q.high};
}

// Variance of the heights of the curves that are touched inside their range; infinite below three.
double spread(const std::vector<ModelCurve>& curves, double s) {
  double sum = 0, square = 0, first = 0;
  size_t n = 0;
  for (const ModelCurve& q : curves) {
    const Touch t = touch(q, s);
    if (!t.inside) continue;
    if (n == 0) first = t.offset;
    sum += t.offset - first;
    square += (t.offset - first) * (t.offset - first);
    ++n;
  }
  if (n < kMinModels) return INFINITY;
  const double mean = sum / static_cast<double>(n);
  return std::max(0.0, square / static_cast<double>(n) - mean * mean);
}

// The slope with the least spread; nothing where it is none or only an end of the range.
std::optional<double> best_slope(const std::vector<ModelCurve>& curves) {
  double best = 0, least = INFINITY;
  const int steps = static_cast<int>((kScanHigh - kScanLow) / kScanStep);
  for (int i = 0; i < steps; ++i) {
    const double s = kScanLow + i * kScanStep, v = spread(curves, s);
    if (v < least) {
      least = v;
      best = s;
    }
  }
  if (!std::isfinite(least)) return std::nullopt;
  if (std::isinf(spread(curves, best - kScanStep)) || std::isinf(spread(curves, best + kScanStep)))
    return std::nullopt;
  const double fine = golden_section([&](double s) { return spread(curves, s); }, best - kScanStep,
                                     best + kScanStep);
  return spread(curves, fine) <= least ? fine : best;
}

bool know_macs(const std::vector<FrontierPoint>& points) {
  return std::all_of(points.begin(), points.end(),
                     [](const FrontierPoint& p) { return p.macs > 0; });
}

// One budget: the vertex of ln loss over the logarithm of a size.
struct Slice {
  double size, epochs, loss;  // logarithms
};
std::optional<Slice> slice_at(const std::vector<ModelCurve>& curves, double x,
                              double ModelCurve::*size) {
  std::vector<const ModelCurve*> here;
  for (const ModelCurve& q : curves)
    if (x >= q.low && x <= q.high) here.push_back(&q);
  if (here.size() < kMinSliceModels) return std::nullopt;
  std::sort(here.begin(), here.end(),
            [&](const ModelCurve* a, const ModelCurve* b) { return a->*size < b->*size; });
  Vector n, z;
  for (const ModelCurve* q : here) {
    n.push_back(q->*size);
    z.push_back(q->at(x));
  }
  const auto best = static_cast<size_t>(std::min_element(z.begin(), z.end()) - z.begin());
  if (best == 0 || best + 1 == z.size()) return std::nullopt;
  const double middle = mean_of(n);
  for (double& v : n) v -= middle;
  const auto [a, b, c] = quadratic_fit(n, z);
  if (!(c > 0)) return std::nullopt;
  const double v = -b / (2 * c);
  if (v < n.front() || v > n.back()) return std::nullopt;
  const auto above = static_cast<size_t>(std::upper_bound(n.begin(), n.end(), v) - n.begin());
  const size_t hi = std::min(above, n.size() - 1), lo = hi - 1;
  const double share = (v - n[lo]) / (n[hi] - n[lo]);
  const double shift = here[lo]->ln_epochs_minus_x +
                       share * (here[hi]->ln_epochs_minus_x - here[lo]->ln_epochs_minus_x);
  return Slice{v + middle, x + shift, a + v * (b + v * c)};
}

Rates rates_of(const Vector& x, const Vector& size, const Vector& epochs, const Vector& macs) {
  return {line_fit(x, size).second, line_fit(x, epochs).second,
          macs.empty() ? std::nan("") : line_fit(x, macs).second};
}

std::optional<Tangent> line_through(const std::vector<FrontierPoint>& points,
                                    const std::vector<size_t>& set) {
  if (set.size() < 3) return std::nullopt;
  Tangent line;
  line.centre = centre_of(points);
  Vector x, z;
  for (const size_t i : set) {
    const FrontierPoint& p = points[i];
    x.push_back(std::log(p.compute) - line.centre);
    z.push_back(std::log(p.loss));
    line.touches.push_back({p.model, p.compute, p.loss, p.size, p.epochs});
  }
  const auto [offset, slope] = line_fit(x, z);
  line.exponent = -slope;
  line.offset = offset;
  return line;
}

}  // namespace

double Tangent::at(double compute) const {
  return std::exp(offset - exponent * (std::log(compute) - centre));
}

double Slices::at(double compute) const {
  return std::exp(offset - exponent * (std::log(compute) - centre));
}

double Tangent::cell_at(double size, double compute) const {
  const double x = std::log(compute) - centre, d = x - touch_offset - touch_slope * std::log(size);
  return at(compute) * std::exp(curvature * d * d);
}

double centre_of(const std::vector<FrontierPoint>& points) {
  Vector x;
  for (const FrontierPoint& p : points) x.push_back(std::log(p.compute));
  return mean_of(x);
}

std::vector<ModelCurve> model_curves(const std::vector<FrontierPoint>& points, double centre) {
  std::vector<std::string> models;
  for (const FrontierPoint& p : points)
    if (std::find(models.begin(), models.end(), p.model) == models.end()) models.push_back(p.model);
  std::vector<ModelCurve> curves;
  for (const std::string& model : models) {
    Vector x, z;
    ModelCurve q;
    q.model = model;
    for (const FrontierPoint& p : points) {
      if (p.model != model) continue;
      x.push_back(std::log(p.compute) - centre);
      z.push_back(std::log(p.loss));
      q.ln_size = std::log(p.size);
      q.ln_macs = std::log(p.macs);
      q.ln_epochs_minus_x += std::log(p.epochs) - x.back();
    }
    if (x.size() < kMinBudgets) continue;
    q.ln_epochs_minus_x /= static_cast<double>(x.size());
    const auto [a, b, c] = quadratic_fit(x, z);
    q.a = a;
    q.b = b;
    q.c = c;
    q.low = *std::min_element(x.begin(), x.end());
    q.high = *std::max_element(x.begin(), x.end());
    curves.push_back(q);
  }
  return curves;
}

std::optional<Tangent> common_tangent(const std::vector<FrontierPoint>& points) {
  if (points.empty()) return std::nullopt;
  const double centre = centre_of(points);
  std::vector<ModelCurve> curves = model_curves(points, centre);
  std::erase_if(curves, [](const ModelCurve& q) { return !(q.c > 0); });
  if (curves.size() < kMinModels) return std::nullopt;
  const auto slope = best_slope(curves);
  if (!slope) return std::nullopt;
  Tangent t;
  t.exponent = *slope;
  t.centre = centre;
  t.sd_offset = std::sqrt(spread(curves, t.exponent));
  Vector x, size, macs, epochs, offsets, bend;
  for (const ModelCurve& q : curves) {
    const Touch at = touch(q, t.exponent);
    if (!at.inside) continue;
    x.push_back(at.x);
    size.push_back(q.ln_size);
    macs.push_back(q.ln_macs);
    epochs.push_back(at.x + q.ln_epochs_minus_x);
    offsets.push_back(at.offset);
    bend.push_back(q.c);
    t.touches.push_back({q.model, std::exp(at.x + centre), std::exp(at.offset - t.exponent * at.x),
                         std::exp(q.ln_size), std::exp(epochs.back())});
  }
  t.offset = mean_of(offsets);
  t.curvature = mean_of(bend);
  if (!know_macs(points)) macs.clear();
  t.rates = rates_of(x, size, epochs, macs);
  std::tie(t.touch_offset, t.touch_slope) = line_fit(size, x);
  return t;
}

std::optional<Slices> budget_slices(const std::vector<FrontierPoint>& points, int budgets) {
  if (points.empty()) return std::nullopt;
  Slices s;
  s.centre = centre_of(points);
  const std::vector<ModelCurve> curves = model_curves(points, s.centre);
  double low = INFINITY, high = -INFINITY;
  for (const FrontierPoint& p : points) {
    low = std::min(low, std::log(p.compute) - s.centre);
    high = std::max(high, std::log(p.compute) - s.centre);
  }
  Vector x, size, epochs, loss, xm, macs, epochs_m;
  const bool with_macs = know_macs(points);
  for (int i = 1; i <= budgets; ++i) {
    const double at = low + (high - low) * i / (budgets + 1);
    if (const auto slice = slice_at(curves, at, &ModelCurve::ln_size)) {
      x.push_back(at);
      size.push_back(slice->size);
      epochs.push_back(slice->epochs);
      loss.push_back(slice->loss);
      s.optima.push_back({"", std::exp(at + s.centre), std::exp(slice->loss), std::exp(slice->size),
                          std::exp(slice->epochs)});
    }
    if (!with_macs) continue;
    if (const auto slice = slice_at(curves, at, &ModelCurve::ln_macs)) {
      xm.push_back(at);
      macs.push_back(slice->size);
      epochs_m.push_back(slice->epochs);
    }
  }
  if (x.size() < kMinSlices) return std::nullopt;
  s.rates = rates_of(x, size, epochs, {});
  if (xm.size() >= kMinSlices)  // epochs over multiply-adds at the vertices over multiply-adds
    s.rates.macs = line_fit(xm, macs).second * s.rates.epochs / line_fit(xm, epochs_m).second;
  const auto [offset, slope] = line_fit(x, loss);
  s.offset = offset;
  s.exponent = -slope;
  s.curvature = x.size() > 3 ? quadratic_fit(x, loss)[2] : std::nan("");
  return s;
}

std::vector<size_t> pareto_set(const std::vector<FrontierPoint>& points) {
  std::vector<size_t> order(points.size()), set;
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return points[a].compute < points[b].compute; });
  double least = INFINITY;
  for (const size_t i : order) {
    if (points[i].loss >= least) continue;
    least = points[i].loss;
    set.push_back(i);
  }
  return set;
}

std::vector<size_t> lower_hull(const std::vector<FrontierPoint>& points) {
  std::vector<size_t> order(points.size()), hull;
  std::iota(order.begin(), order.end(), size_t{0});
  const auto x = [&](size_t i) { return std::log(points[i].compute); };
  const auto z = [&](size_t i) { return std::log(points[i].loss); };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tuple(x(a), z(a), a) < std::tuple(x(b), z(b), b);
  });
  for (const size_t i : order) {
    while (hull.size() >= 2) {
      const size_t a = hull[hull.size() - 2], b = hull.back();
      if ((x(b) - x(a)) * (z(i) - z(a)) - (z(b) - z(a)) * (x(i) - x(a)) > 0) break;
      hull.pop_back();
    }
    hull.push_back(i);
  }
  const auto least =
      std::min_element(hull.begin(), hull.end(), [&](size_t a, size_t b) { return z(a) < z(b); });
  if (least != hull.end()) hull.erase(std::next(least), hull.end());
  return hull;
}

std::optional<Tangent> pareto_line(const std::vector<FrontierPoint>& points) {
  return line_through(points, pareto_set(points));
}

std::optional<Tangent> hull_line(const std::vector<FrontierPoint>& points) {
  return line_through(points, lower_hull(points));
}

}  // namespace nfscale
