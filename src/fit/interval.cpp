#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "fit/problem.h"

namespace nfscale {
namespace {

// -1 or 1 where a coordinate has run into its lower or upper bound.
int at_bound(const Parameter& p, double theta) {
  return theta <= p.low + 1e-3 ? -1 : theta >= p.high - 1e-3 ? 1 : 0;
}

// From a place, and from the other places of coordinates that can run away from there.
Minimum from_all_places(const FitProblem& problem, const Vector& start) {
  Minimum best = descend(problem, problem.free_of(start), 60, 60);
  for (size_t j = 0; j < start.size(); ++j) {
    const Parameter& p = problem.formula.parameters[j];
    if (!p.places || !std::isnan(problem.held[j])) continue;
    for (const double place : p.places(problem.table)) {
      Vector other = start;
      other[j] = place;
      if (Minimum m = descend(problem, problem.free_of(other), 60, 60); m.value < best.value)
        best = std::move(m);
    }
  }
  return best;
}

// Where the profile of the squares rises to what Fisher's F allows, from the least square upwards
// or downwards; infinite where it never does.
double profile_end(const FitProblem& squares, size_t k, const Vector& least, double allowed,
                   double direction, double low, double high) {
  Vector near = least;
  const double bound = direction < 0 ? low : high;
  double inside = least[k], step = 1e-3 * std::max(1.0, std::abs(least[k]));
  double outside = std::nan("");
  for (int i = 0; i < 60; ++i) {
    const double place = inside + direction * step;
    if (direction * (place - bound) >= 0) {
      Vector at = near;
      if (with_held(squares, k, bound, at).value <= allowed) return direction * INFINITY;
      outside = bound;
      break;
    }
    Vector at = near;
    if (with_held(squares, k, place, at).value > allowed) {
      outside = place;
      break;
    }
    near = at;
    inside = place;
    step *= 1.6;
  }
  if (std::isnan(outside)) return direction * INFINITY;
  for (int i = 0; i < 40 && std::abs(outside - inside) > 1e-9 * std::max(1.0, std::abs(inside));
       ++i) {
    const double m = (inside + outside) / 2;
    Vector at = near;
    if (with_held(squares, k, m, at).value > allowed) {
      outside = m;
    } else {
      inside = m;
      near = at;
    }
  }
  return (inside + outside) / 2;
}

// The squares' own fit, from the law's.
FitProblem squares_of(const FitProblem& problem) {
  FitProblem squares = problem;
  squares.delta = INFINITY;
  return squares;
}

double allowed_rise(double least, size_t rows, size_t parameters, double level) {
  const auto degrees = static_cast<double>(rows - parameters);
  const double t = student_quantile((1 + level) / 2, degrees);
  return least * (1 + t * t / degrees) + 1e-300;
}

}  // namespace

Minimum with_held(const FitProblem& problem, size_t k, double value, Vector& near) {
  FitProblem held = problem;
  held.held[k] = value;
  Vector start = near;
  start[k] = value;
  if (held.free_count() == 0) return {{}, held({}, nullptr)};
  Minimum best = from_all_places(held, start);
  near = held.whole(best.at);
  return best;
}

Bounds profile_interval(const FitProblem& problem, size_t k, const Vector& theta, double level) {
  const FitProblem squares = squares_of(problem);
  const Minimum m = finish(squares, from_all_places(squares, theta));
  const Vector least = squares.whole(m.at);
  const Parameter& p = problem.formula.parameters[k];
  // A floor below a millionth of what was seen cannot be told from none.
  double lowest = p.low, highest = p.high;
  if (p.logarithm && std::isinf(lowest)) lowest = least[k] - 40;
  if (p.name == "floor") {
    double y = INFINITY;
    for (const size_t row : problem.rows) y = std::min(y, problem.table.rows[row].back());
    lowest = std::log(y) - 14;
  }
  const double allowed = allowed_rise(m.value, problem.rows.size(), m.at.size(), level);
  Bounds b;
  b.low =
      least[k] <= lowest ? -INFINITY : profile_end(squares, k, least, allowed, -1, lowest, highest);
  b.high = profile_end(squares, k, least, allowed, 1, lowest, highest);
  // The law's point is that of another objective: it is never left outside.
  b.low = std::min(b.low, theta[k]);
  b.high = std::max(b.high, theta[k]);
  if (p.logarithm) {
    b.low = std::isinf(b.low) ? -INFINITY : std::exp(b.low);
    b.high = std::exp(b.high);
  }
  return b;
}

Bounds forecast_interval(const FitProblem& problem, const Vector& theta, double x, double level) {
  const Vector place = {std::log(x)};
  const double ln_y = problem.formula.value(theta.data(), Vector{x, 1}.data(), problem.context);
  const bool floor = theta.size() == 3, given = floor && !std::isnan(problem.held[2]);
  const bool free = floor && !given;
  FitProblem there{free ? forecast_formula() : problem.formula,
                   problem.table,
                   problem.delta,
                   problem.held,
                   place,
                   problem.rows};
  Vector at = theta;
  const double excess = theta[0] - theta[1] * (place[0] - problem.context[0]);
  at[0] = free ? ln_y : excess;
  if (free) at[2] = std::clamp(theta[2] - excess, -29.0, 29.0);
  Bounds b = profile_interval(there, 0, at, level);
  if (given) {
    b.low += std::exp(theta[2]);
    b.high += std::exp(theta[2]);
  }
  return b;
}

Resampled resample(const FitProblem& problem, const std::vector<Vector>& starts,
                   const FitOptions& options) {
  Resampled out;
  const size_t names = natural_names(problem.formula).size();
  out.values.resize(names);
  out.ends.resize(names);
  const auto n = static_cast<uint32_t>(problem.rows.size());
  uint64_t law = 0;
  for (const char c : problem.formula.name) law = mix64(law + static_cast<unsigned char>(c));
  for (int d = 0; d < options.draws; ++d) {
    FitProblem drawn = problem;
    for (uint32_t i = 0; i < n; ++i) {
      const Words w = words(options.seed ^ law, Op::study, static_cast<uint64_t>(d), i / 4);
      drawn.rows[i] = problem.rows[below(w[i % 4], n)];
    }
    std::sort(drawn.rows.begin(), drawn.rows.end());
    Minimum best{{}, INFINITY};
    for (const Vector& start : starts)
      if (Minimum m = descend(drawn, start, 30, 80); m.value < best.value) best = std::move(m);
    if (!std::isfinite(best.value)) continue;
    const Vector theta = drawn.whole(best.at);
    const Vector values = natural_values(problem.formula, theta, problem.context);
    for (size_t k = 0; k < names; ++k) {
      out.values[k].push_back(values[k]);
      out.ends[k].push_back(k < theta.size() ? at_bound(problem.formula.parameters[k], theta[k])
                                             : 0);
    }
  }
  return out;
}

}  // namespace nfscale
