#include <algorithm>
#include <cmath>
#include <map>

#include "base/random.h"
#include "fit/laws.h"

namespace nfscale {
namespace {

struct Vertex {
  double x = 0, curvature = 0;
  size_t points = 0;
};

// Of a parabola of z over x through the points within `window` of the lowest, four at least. Says
// why where there is none.
std::optional<Vertex> vertex_of(const Vector& x, const Vector& z, double window, std::string& why) {
  constexpr size_t kLeast = 4;
  const auto low = static_cast<size_t>(std::min_element(z.begin(), z.end()) - z.begin());
  why = "open";
  if (low == 0 || low + 1 == x.size()) return std::nullopt;
  Vector distance;
  for (const double v : x) distance.push_back(std::abs(v - x[low]));
  if (std::count_if(distance.begin(), distance.end(), [&](double d) { return d <= window; }) <
      static_cast<ptrdiff_t>(kLeast)) {
    Vector sorted = distance;
    std::sort(sorted.begin(), sorted.end());
    window = sorted[std::min(kLeast, sorted.size()) - 1] + 1e-12;
  }
  Vector u, v;
  bool below = false, above = false;
  for (size_t i = 0; i < x.size(); ++i) {
    if (distance[i] > window) continue;
    u.push_back(x[i] - x[low]);
    v.push_back(z[i]);
    below |= i < low;
    above |= i > low;
  }
  if (!below || !above) return std::nullopt;
  const auto [a, b, c] = quadratic_fit(u, v);
  if (!(c > 0)) {
    why = "not convex";
    return std::nullopt;
  }
  const double at = -b / (2 * c);
  if (at < u.front() || at > u.back()) return std::nullopt;
  return Vertex{x[low] + at, c, u.size()};
}

struct Optima {
  Vector budget, size;  // logarithms
  Json listed = Json::object(), open = Json::array();
};

using Budgets = std::map<double, std::pair<Vector, Vector>>;  // ln size, ln loss

Optima optima_of(const Budgets& budgets, double window) {
  Optima o;
  for (const auto& [flops, points] : budgets) {
    std::string why;
    const auto vertex = vertex_of(points.first, points.second, window, why);
    o.listed.set(fmt::format("{:.6g}", flops), vertex ? Json(std::exp(vertex->x)) : Json(why));
    if (!vertex) {
      o.open.push(flops);
      continue;
    }
    o.budget.push_back(std::log(flops));
    o.size.push_back(vertex->x);
  }
  return o;
}

}  // namespace

LawFit fit_isoflop(const FitTable& table, const FitOptions& options) {
  if (!options.fix.empty())
    fail(Exit::usage, "--fix {}: no parameter of the law isoflop can be given",
         options.fix.begin()->first);
  Budgets budgets;  // rows are sorted by budget and size
  for (const Vector& row : table.rows) {
    budgets[row[0]].first.push_back(std::log(row[1]));
    budgets[row[0]].second.push_back(std::log(row[2]));
  }
  const Optima o = optima_of(budgets, std::log(4));
  if (o.budget.size() < 2)
    fail(Exit::usage, "law isoflop: {} of {} budgets have an optimum inside, at least 2 are needed",
         o.budget.size(), budgets.size());
  LawFit fit;
  fit.law = "isoflop";
  const auto [offset, slope] = line_fit(o.budget, o.size);
  fit.params = {{"exponent", slope}, {"coef", std::exp(offset)}};
  for (size_t i = 0; i < o.budget.size(); ++i) {
    fit.residual.push_back(offset + slope * o.budget[i] - o.size[i]);
    fit.objective += 0.5 * fit.residual.back() * fit.residual.back();
  }
  fit.objective_name = "half the sum of squares of ln optimum over the budgets";
  fit.starts = fit.reached = 1;  // a closed form
  fit.more.set("budgets_used", o.budget.size());
  fit.more.set("budgets_open", o.open);
  fit.more.set("optimum", o.listed);

  Json windows = Json::object();
  Vector other = {slope};
  for (const int w : {2, 3, 4, 8}) {
    const Optima at = optima_of(budgets, std::log(w));
    if (at.budget.size() < 2) continue;
    other.push_back(line_fit(at.budget, at.size).second);
    windows.set(fmt::format("x{}", w), other.back());
  }
  fit.more.set("exponent_by_window", windows);
  if (options.draws == 0) return fit;
  Vector draws, coefs;
  const auto n = static_cast<uint32_t>(o.budget.size());
  for (int d = 0; d < options.draws; ++d) {
    Vector x, y;
    for (uint32_t i = 0; i < n; ++i) {
      const Words w = words(options.seed, Op::study, static_cast<uint64_t>(d), i / 4, 2);
      const uint32_t k = below(w[i % 4], n);
      x.push_back(o.budget[k]);
      y.push_back(o.size[k]);
    }
    if (*std::min_element(x.begin(), x.end()) == *std::max_element(x.begin(), x.end())) continue;
    const auto [a, b] = line_fit(x, y);
    draws.push_back(b);
    coefs.push_back(std::exp(a));
  }
  fit.interval_method =
      fmt::format("budgets drawn again {} times, widened by the windows of factor 2, 3, 4 and 8",
                  options.draws);
  Bounds b = percentile_interval(draws, {}, options.level);
  // What the window alone moves is as much of an uncertainty as what the budgets do.
  b.low += std::min(0.0, *std::min_element(other.begin(), other.end()) - slope);
  b.high += std::max(0.0, *std::max_element(other.begin(), other.end()) - slope);
  fit.interval["exponent"] = b;
  fit.interval["coef"] = percentile_interval(coefs, {}, options.level);
  return fit;
}

}  // namespace nfscale
