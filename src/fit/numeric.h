// Small dense numerics for fits: least squares, minimisers, quantiles. Everything is a pure
// function and deterministic; sums run in the order of their arguments.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace nfscale {

using Vector = std::vector<double>;

double mean_of(const Vector& v);
// Of v sorted, with linear interpolation (numpy's default); p in percent. v must not be empty.
double percentile(Vector v, double p);
double median_of(const Vector& v);

// Least squares of z = first + second x.
std::pair<double, double> line_fit(const Vector& x, const Vector& z);
// Least squares of z = a + b x + c x^2, by polynomials that are orthogonal on the points.
std::array<double, 3> quadratic_fit(const Vector& x, const Vector& z);

struct LeastSquares {
  Vector at;        // a coefficient for each column
  double sum = 0;   // of squared residuals
  Vector residual;  // z - prediction
  Vector triangle;  // R of X = QR, row by row
  // x' (X'X)^-1 x of a row.
  double leverage(const Vector& row) const;
};
// By Householder reflections; nothing where the columns do not have full rank.
std::optional<LeastSquares> least_squares(const std::vector<Vector>& columns, const Vector& z);

struct Minimum {
  Vector at;
  double value = 0;
};
// The value at a place, and the gradient if it is asked for.
using Objective = std::function<double(const Vector& at, Vector* gradient)>;

// Quasi-Newton (BFGS with a line search to the Wolfe conditions; Nocedal and Wright, Numerical
// Optimization, 2nd ed., algorithms 3.5 and 6.1) from `start` until the value stops falling. Values
// that are not finite count as infinite.
Minimum bfgs(const Objective& f, Vector start, int iterations = 1000);
// Nelder and Mead's simplex, for objectives with kinks; `step` is the first edge.
Minimum simplex(const Objective& f, const Vector& start, double step, int evaluations = 4000);
// The two in turn, until neither lowers the value by 1e-13 of itself.
Minimum polish(const Objective& f, const Vector& start);
// Golden section in [low, high], to a width of `accuracy`.
double golden_section(const std::function<double(double)>& f, double low, double high,
                      double accuracy = 1e-10);

// t such that a Student variable of that many degrees of freedom is below it with probability p.
double student_quantile(double p, double degrees);

}  // namespace nfscale
