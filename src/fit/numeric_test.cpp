#include "fit/numeric.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "fit/formula.h"

namespace nfscale {
namespace {

// Table of Student's distribution (Fisher and Yates).
TEST(Numeric, QuantilesOfStudent) {
  EXPECT_NEAR(student_quantile(0.975, 1), 12.7062, 1e-4);
  EXPECT_NEAR(student_quantile(0.975, 5), 2.570582, 1e-6);
  EXPECT_NEAR(student_quantile(0.95, 10), 1.812461, 1e-6);
  EXPECT_NEAR(student_quantile(0.975, 30), 2.042272, 1e-6);
  EXPECT_NEAR(student_quantile(0.025, 5), -2.570582, 1e-6);
  EXPECT_NEAR(student_quantile(0.975, 1e6), 1.959966, 1e-5);
}

TEST(Numeric, PercentilesInterpolate) {
  EXPECT_EQ(percentile({4, 1, 3, 2}, 50), 2.5);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0), 1);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 100), 4);
  EXPECT_NEAR(percentile({1, 2, 3, 4, 5}, 2.5), 1.1, 1e-12);
}

TEST(Numeric, LeastSquaresGivesBackWhatItIsMadeOf) {
  const Vector one(6, 1), x = {1, 2, 3, 4, 5, 6}, xx = {1, 4, 9, 16, 25, 36};
  Vector z;
  for (size_t i = 0; i < 6; ++i) z.push_back(2 - 3 * x[i] + 0.5 * xx[i]);
  const auto fit = least_squares({one, x, xx}, z);
  ASSERT_TRUE(fit);
  EXPECT_NEAR(fit->at[0], 2, 1e-10);
  EXPECT_NEAR(fit->at[1], -3, 1e-10);
  EXPECT_NEAR(fit->at[2], 0.5, 1e-10);
  const auto quadratic = quadratic_fit(x, z);
  for (size_t k = 0; k < 3; ++k) EXPECT_NEAR(quadratic[k], fit->at[k], 1e-10);
  // The leverages of the rows of a design sum to its number of columns.
  double sum = 0;
  for (size_t i = 0; i < 6; ++i) sum += fit->leverage({1, x[i], xx[i]});
  EXPECT_NEAR(sum, 3, 1e-10);
  Vector twice = x;
  for (double& v : twice) v *= 2;
  EXPECT_FALSE(least_squares({one, x, twice}, z));
  EXPECT_FALSE(least_squares({one, x, xx}, {1, 2}));
}

double rosenbrock(const Vector& p, Vector* g) {
  const double a = 1 - p[0], b = p[1] - p[0] * p[0];
  if (g) *g = {-2 * a - 400 * p[0] * b, 200 * b};
  return a * a + 100 * b * b;
}

TEST(Numeric, MinimisersFindTheValleyOfRosenbrock) {
  for (const Vector& start : {Vector{-1.2, 1}, Vector{0, 0}, Vector{3, -4}}) {
    const Minimum quasi = bfgs(rosenbrock, start);
    EXPECT_NEAR(quasi.at[0], 1, 1e-6);
    EXPECT_NEAR(quasi.at[1], 1, 1e-6);
    const Minimum moved = simplex(rosenbrock, start, 0.1, 10000);
    EXPECT_NEAR(moved.at[0], 1, 1e-6);
  }
  // A kink, and values that are not finite beyond a wall.
  const auto kink = [](const Vector& p, Vector*) {
    return p[0] < -1 ? NAN : std::abs(p[0] - 2) + std::abs(p[1]);
  };
  EXPECT_NEAR(simplex(kink, {0, 1}, 0.5).value, 0, 1e-9);
  EXPECT_NEAR(golden_section([](double x) { return (x - 0.3) * (x - 0.3); }, 0, 1), 0.3, 1e-7);
}

// The derivatives of every law against differences, at its own starts.
TEST(Numeric, LawsKnowTheirSlopes) {
  for (const Formula& f : formulas()) {
    FitTable table;
    for (const std::string& name : f.columns) table.columns.emplace_back(name, name);
    for (int i = 0; i < 12; ++i) {
      const double x = std::pow(10, 3 + 0.3 * i), y = 2 * std::pow(x, -0.1) + 0.5;
      Vector row = {x};
      if (f.columns.size() > 2) row.push_back(x * (20 + i));
      if (f.columns.size() > 3) row.push_back(x * 7);
      row.push_back(y);
      table.rows.push_back(row);
      table.names.push_back("row");
    }
    const Vector context = f.context(table);
    const size_t n = f.parameters.size();
    for (const Vector& start : f.starts(table, context))
      for (const Vector& row : table.rows) {
        std::array<Dual, kMaxParameters> p;
        for (size_t k = 0; k < n; ++k) p[k] = Dual::variable(start[k], k);
        const Dual d = f.dual(p.data(), row.data(), context);
        EXPECT_NEAR(d.v, f.value(start.data(), row.data(), context), 1e-9) << f.name;
        for (size_t k = 0; k < n; ++k) {
          const double h = 1e-5 * std::max(1.0, std::abs(start[k]));
          Vector up = start, down = start;
          up[k] += h;
          down[k] -= h;
          const double slope = (f.value(up.data(), row.data(), context) -
                                f.value(down.data(), row.data(), context)) /
                               (2 * h);
          EXPECT_NEAR(d.d[k], slope, 1e-4 * std::max(1.0, std::abs(slope)))
              << f.name << " parameter " << k;
        }
      }
  }
}

}  // namespace
}  // namespace nfscale
