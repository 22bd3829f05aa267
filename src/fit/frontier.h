// The law of a study: how the best held-out loss falls with compute, from cells that each lie above
// it. Every model's ln loss over ln compute is a parabola; the law is the line that touches them
// all (Figure 2 of Smith et al., arXiv 2310.16764, is drawn so; the estimators and their
// uncertainty are this project's).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fit/numeric.h"

namespace nfscale {

struct FrontierPoint {
  std::string model;
  double compute = 0, loss = 0, size = 0, epochs = 0;  // size: parameters
  double macs = 0;                                     // multiply-adds; 0 where unknown
};

struct ModelCurve {  // z = a + b x + c x^2, z = ln loss, x = ln compute - the centre of the fit
  std::string model;
  double a = 0, b = 0, c = 0;
  double low = 0, high = 0;  // range of x that was measured
  double ln_size = 0, ln_macs = 0;
  double ln_epochs_minus_x = 0;  // ln epochs = x + this
  double at(double x) const { return a + x * (b + x * c); }
};

struct TouchPoint {
  std::string model;
  double compute = 0, loss = 0, size = 0, epochs = 0;
};

// How optimal size and epochs grow: d ln size / d ln compute, d ln epochs / d ln compute.
// Size in parameters, and in multiply-adds (NaN where unknown).
struct Rates {
  double size = 0, epochs = 0, macs = 0;
  double ratio() const { return epochs / size; }
  double ratio_macs() const { return epochs / macs; }
};

// ln loss = offset - exponent (ln compute - centre).
struct Tangent {
  double exponent = 0, offset = 0, centre = 0;
  double sd_offset = 0;             // of the models that are touched
  std::vector<TouchPoint> touches;  // inside the measured range, at least 3
  Rates rates;
  // The mean bend of the curves that are touched, and where a curve of a size is touched:
  // x = touch_offset + touch_slope ln size.
  double curvature = 0, touch_offset = 0, touch_slope = 0;
  double at(double compute) const;
  // The loss of a cell: the law, and above it by how far its compute is from that of its size.
  double cell_at(double size, double compute) const;
};

// The same questions at given budgets: the vertex of ln loss over ln size at each of 15 budgets.
struct Slices {
  double exponent = 0, offset = 0, centre = 0;
  double curvature = 0;  // quadratic term of ln loss over ln compute; NaN with three budgets
  Rates rates;
  std::vector<TouchPoint> optima;  // one a budget; model is empty
  double at(double compute) const;
};

// Mean of ln compute.
double centre_of(const std::vector<FrontierPoint>& points);
// Parabolas of the models with at least four points, in the order of their rows.
std::vector<ModelCurve> model_curves(const std::vector<FrontierPoint>& points, double centre);

// The slope for which the heights of the models that are touched inside their measured range (three
// at least) vary least. Nothing where there is none, or where the least is reached only because a
// touching point leaves its range.
std::optional<Tangent> common_tangent(const std::vector<FrontierPoint>& points);
// Nothing with fewer than three budgets at which four models are measured and the best is inside.
std::optional<Slices> budget_slices(const std::vector<FrontierPoint>& points, int budgets = 15);
// A line through the cells that no cheaper one beats, as commonly drawn; biased upwards. `touches`
// are those cells. Nothing below three.
std::optional<Tangent> pareto_line(const std::vector<FrontierPoint>& points);
// The same through the lower convex hull, which bends less.
std::optional<Tangent> hull_line(const std::vector<FrontierPoint>& points);
// Places of the points that no cheaper one beats, and of the lower convex hull in logarithms.
std::vector<size_t> pareto_set(const std::vector<FrontierPoint>& points);
std::vector<size_t> lower_hull(const std::vector<FrontierPoint>& points);

// Residuals around the smooth curves of the models, drawn again, everything downstream done again.
// The residuals are scaled by sqrt(n / (n - p)), or to `sigma` (of ln loss) where that is more.
struct FrontierDraws {
  // Of the draws that have the estimate; ratios in both measures of size.
  Vector tangent_exponent, slices_exponent;
  Vector tangent_ratio, slices_ratio, tangent_ratio_macs, slices_ratio_macs;
  Vector curvature;  // of the slices
  // ln loss of the law by place on the axis, by the tangent and by the slices.
  std::vector<Vector> line, slices_line;
  std::vector<Vector> target;         // ln loss of one run of a target, by target
  std::vector<Vector> residual;       // by draw: what was added to each point
  std::vector<double> ratio_of_draw;  // as `residual`, by the tangent; NaN where there is none
  double noise = 0;                   // standard deviation of what was added
};
struct DrawOptions {
  int draws = 1000;
  uint64_t seed = 0;
  double sigma = 0;                    // of ln loss
  Vector at;                           // compute at which lines are kept
  std::vector<FrontierPoint> targets;  // size and compute
};
// Points of models without a curve are left out. `by` says which law: the tangent, or the line
// through the pareto set, whose own residuals are drawn then.
enum class LawKind { tangent, pareto };
FrontierDraws draw_frontier(const std::vector<FrontierPoint>& points, LawKind by,
                            const DrawOptions& options);

}  // namespace nfscale
