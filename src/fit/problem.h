// The fit of one formula to rows of a table: the objective, the minimisers in their order,
// intervals.
#pragma once

#include <string>
#include <vector>

#include "fit/formula.h"

namespace nfscale {

// A law on rows of a table, some of its coordinates held. The free ones are what minimisers see.
struct FitProblem {
  const Formula& formula;
  const FitTable& table;
  double delta;  // of Huber's function
  Vector held;   // NaN where free
  Vector context;
  std::vector<size_t> rows;  // with repetitions when resampled

  size_t free_count() const;
  Vector whole(const Vector& free) const;
  Vector free_of(const Vector& theta) const;
  // ln predicted - ln observed; with its derivatives by the free coordinates.
  double residual(const Vector& theta, size_t row) const;
  double residual(const Vector& theta, size_t row, Vector& slopes) const;
  double operator()(const Vector& free, Vector* gradient) const;
};

// All rows; the context is made of the table.
FitProblem make_problem(const Formula& formula, const FitTable& table, double delta, Vector held);

// Damped Gauss-Newton steps, each residual weighted by what Huber's function makes of it.
Minimum damped(const FitProblem& problem, Vector at, int iterations);
// That, and then quasi-Newton steps. Cheap; for starts and for tables that are drawn again.
Minimum descend(const FitProblem& problem, const Vector& start, int steps, int iterations);
// To the last digits.
Minimum finish(const FitProblem& problem, const Minimum& from);

struct Fitted {
  Minimum best;
  int starts = 0, reached = 0;  // within 1 % of the best
  std::vector<Minimum> near;    // other minima within 1 %
};
// `starts` in all coordinates.
Fitted fit_from(const FitProblem& problem, const std::vector<Vector>& starts);

// Parameters by their names outside, and what is derived from them.
std::vector<std::string> natural_names(const Formula& formula);
Vector natural_values(const Formula& formula, const Vector& theta, const Vector& context);

// Where the profile of the squares of coordinate k rises to what Fisher's F allows for one
// parameter (Bates and Watts, Nonlinear Regression Analysis, 1988, 6.1.2); the law's own point
// `theta` is never left outside. In natural units; infinite where it never rises.
Bounds profile_interval(const FitProblem& problem, size_t k, const Vector& theta, double level);
// The same of what a law of one variable says at x.
Bounds forecast_interval(const FitProblem& problem, const Vector& theta, double x, double level);
// Least value with coordinate k held; `near` is where the search begins and then where it ended.
Minimum with_held(const FitProblem& problem, size_t k, double value, Vector& near);

// Rows drawn again with repetition, by (seed, law, draw), fitted from `starts` (free coordinates).
struct Resampled {
  std::vector<Vector> values;          // by natural name, then draw
  std::vector<std::vector<int>> ends;  // -1 or 1 where a draw has run into a bound
};
Resampled resample(const FitProblem& problem, const std::vector<Vector>& starts,
                   const FitOptions& options);

}  // namespace nfscale
