#include "fit/problem.h"

#include <algorithm>
#include <cmath>

namespace nfscale {
namespace {

double huber(double r, double delta, double* slope) {
  const double a = std::abs(r);
  *slope = a <= delta ? r : std::copysign(delta, r);
  return a <= delta ? 0.5 * r * r : delta * (a - 0.5 * delta);
}

// The objective near a minimum is small; minimisers see it as about one.
Objective scaled(const FitProblem& problem, double by) {
  return [&problem, by](const Vector& at, Vector* gradient) {
    const double v = by * problem(at, gradient);
    if (gradient)
      for (double& g : *gradient) g *= by;
    return v;
  };
}

bool same_place(const Vector& a, const Vector& b) {
  for (size_t k = 0; k < a.size(); ++k)
    if (std::abs(a[k] - b[k]) > 0.02 * std::max(1.0, std::abs(b[k]))) return false;
  return true;
}

}  // namespace

size_t FitProblem::free_count() const {
  return static_cast<size_t>(
      std::count_if(held.begin(), held.end(), [](double h) { return std::isnan(h); }));
}

Vector FitProblem::whole(const Vector& free) const {
  Vector theta = held;
  size_t i = 0;
  for (double& t : theta)
    if (std::isnan(t)) t = free[i++];
  return theta;
}

Vector FitProblem::free_of(const Vector& theta) const {
  Vector free;
  for (size_t k = 0; k < theta.size(); ++k)
    if (std::isnan(held[k])) free.push_back(theta[k]);
  return free;
}

double FitProblem::residual(const Vector& theta, size_t row) const {
  const Vector& r = table.rows[row];
  return formula.value(theta.data(), r.data(), context) - std::log(r.back());
}

double FitProblem::residual(const Vector& theta, size_t row, Vector& slopes) const {
  std::array<Dual, kMaxParameters> p;
  size_t n = 0;
  for (size_t k = 0; k < theta.size(); ++k)
    p[k] = std::isnan(held[k]) ? Dual::variable(theta[k], n++) : Dual(theta[k]);
  const Vector& r = table.rows[row];
  const Dual z = formula.dual(p.data(), r.data(), context);
  slopes.assign(z.d.begin(), z.d.begin() + static_cast<ptrdiff_t>(n));
  return z.v - std::log(r.back());
}

double FitProblem::operator()(const Vector& free, Vector* gradient) const {
  const Vector theta = whole(free);
  double sum = 0, slope = 0;
  if (gradient) std::fill(gradient->begin(), gradient->end(), 0);
  Vector slopes;
  for (const size_t row : rows) {
    sum += huber(gradient ? residual(theta, row, slopes) : residual(theta, row), delta, &slope);
    if (gradient)
      for (size_t k = 0; k < slopes.size(); ++k) (*gradient)[k] += slope * slopes[k];
  }
  return sum;
}

FitProblem make_problem(const Formula& formula, const FitTable& table, double delta, Vector held) {
  FitProblem problem{formula, table, delta, std::move(held), formula.context(table), {}};
  for (size_t i = 0; i < table.rows.size(); ++i) problem.rows.push_back(i);
  return problem;
}

Minimum damped(const FitProblem& problem, Vector at, int iterations) {
  const size_t p = at.size();
  double value = problem(at, nullptr), damping = 1e-3;
  for (int i = 0; i < iterations && std::isfinite(value); ++i) {
    std::vector<Vector> columns(p);
    Vector right, slopes;
    const Vector theta = problem.whole(at);
    for (const size_t row : problem.rows) {
      double slope = 0;
      const double r = problem.residual(theta, row, slopes);
      huber(r, problem.delta, &slope);
      const double weight = r == 0 ? 1 : std::sqrt(slope / r);
      for (size_t k = 0; k < p; ++k) columns[k].push_back(weight * slopes[k]);
      right.push_back(-weight * r);
    }
    Vector norm(p, 0);
    for (size_t k = 0; k < p; ++k)
      for (const double c : columns[k]) norm[k] += c * c;
    bool moved = false;
    double fall = 0;
    for (int attempt = 0; attempt < 12 && !moved; ++attempt) {
      std::vector<Vector> wide = columns;
      Vector target = right;
      for (size_t k = 0; k < p; ++k) {
        for (size_t j = 0; j < p; ++j)
          wide[j].push_back(j == k ? std::sqrt(damping * std::max(norm[k], 1e-30)) : 0);
        target.push_back(0);
      }
      if (const auto step = least_squares(wide, target)) {
        Vector next = at;
        for (size_t k = 0; k < p; ++k) next[k] += step->at[k];
        const double v = problem(next, nullptr);
        if (v < value) {
          fall = value - v;
          at = std::move(next);
          value = v;
          moved = true;
          damping = std::max(damping / 5, 1e-12);
          break;
        }
      }
      damping *= 8;
    }
    if (!moved || fall <= 1e-15 * value) break;
  }
  return {at, value};
}

Minimum descend(const FitProblem& problem, const Vector& start, int steps, int iterations) {
  Minimum m = damped(problem, start, steps);
  if (!std::isfinite(m.value)) return m;
  const double by = 1 / std::max(m.value, 1e-300);
  if (std::isinf(problem.delta) || m.value < 1e-25) return m;
  Minimum finer = bfgs(scaled(problem, by), m.at, iterations);
  finer.value /= by;
  return finer.value < m.value ? finer : m;
}

Minimum finish(const FitProblem& problem, const Minimum& from) {
  if (from.value < 1e-25) return from;  // exact to rounding
  const double by = 1 / from.value;
  Minimum m = polish(scaled(problem, by), from.at);
  m.value = problem(m.at, nullptr);
  return m.value < from.value ? m : from;
}

Fitted fit_from(const FitProblem& problem, const std::vector<Vector>& starts) {
  std::vector<Minimum> ends;
  for (const Vector& start : starts) {
    Minimum m = descend(problem, problem.free_of(start), 60, 300);
    if (std::isfinite(m.value)) ends.push_back(std::move(m));
  }
  Fitted fit;
  fit.starts = static_cast<int>(starts.size());
  if (ends.empty()) return fit;
  std::stable_sort(ends.begin(), ends.end(),
                   [](const Minimum& a, const Minimum& b) { return a.value < b.value; });
  fit.best = finish(problem, ends[0]);
  for (size_t i = 1; i < std::min<size_t>(3, ends.size()); ++i)
    if (Minimum m = finish(problem, ends[i]); m.value < fit.best.value) fit.best = std::move(m);
  for (const Minimum& m : ends) {
    if (m.value > fit.best.value * 1.01 + 1e-25) continue;
    ++fit.reached;
    bool known = same_place(m.at, fit.best.at);
    for (const Minimum& other : fit.near) known |= same_place(m.at, other.at);
    if (!known) fit.near.push_back(m);
  }
  return fit;
}

std::vector<std::string> natural_names(const Formula& f) {
  std::vector<std::string> names;
  for (const Parameter& p : f.parameters) names.push_back(p.name);
  names.insert(names.end(), f.derived.begin(), f.derived.end());
  return names;
}

Vector natural_values(const Formula& f, const Vector& theta, const Vector& context) {
  if (f.natural) return f.natural(theta, context);
  Vector out = theta;
  for (size_t k = 0; k < out.size(); ++k) {
    const Parameter& p = f.parameters[k];
    const double t = std::clamp(theta[k], p.low, p.high);
    out[k] = p.logarithm ? std::exp(t) : t;
  }
  if (f.derive) {
    const Vector more = f.derive(out);
    out.insert(out.end(), more.begin(), more.end());
  }
  return out;
}

}  // namespace nfscale
