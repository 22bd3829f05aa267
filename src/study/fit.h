// The law of a study: how the best held-out loss falls with compute, from cells that each lie above
// it. Every model's ln loss over ln compute is a parabola; the law is the line that touches them
// all. Figures 2 and 3 of Smith et al., arXiv 2310.16764, are drawn so; the estimator and its
// uncertainty (residuals drawn again around the parabolas) are this project's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "study/table.h"

namespace nfscale {

struct Curve2 {  // z = a + b x + c x^2, x = ln compute - the centre of the fit
  std::string model;
  double a = 0, b = 0, c = 0;
  double low = 0, high = 0;  // range of x that was measured
  double ln_params = 0;
  double ln_epochs_minus_x = 0;  // ln epochs = x + this
};

struct TouchPoint {
  std::string model;
  double compute = 0, loss = 0, params = 0, epochs = 0;
};

// ln loss = ln level - exponent (ln compute - centre).
struct Tangent {
  double exponent = 0, offset = 0, centre = 0;
  double sd_offset = 0;                     // of the models that are touched
  std::vector<TouchPoint> touches;          // inside the measured range, at least 3
  double rate_params = 0, rate_epochs = 0;  // d ln size / d ln compute, and of epochs
  double at(double compute) const;
};

struct FitPoint {
  std::string model;
  double compute = 0, loss = 0, params = 0, epochs = 0;
};

struct Interval {
  double low = 0, high = 0;
};

struct FrontierFit {
  std::string method;   // "tangent", "pareto" or "none"
  std::string verdict;  // one sentence, always there
  std::string axis;     // "device hours" or "operations"
  std::optional<Tangent> law;
  std::optional<Interval> exponent, ratio;  // 95 % of the draws
  int draws = 0, drawn = 0;                 // asked for, and with a law of their own
  // Of the law, 95 %, at `compute`; empty without draws.
  std::vector<double> compute, line, low, high;
  double measured_low = 0, measured_high = 0;  // compute that the law rests on
  std::vector<size_t> used;                    // rows
  std::vector<std::string> notes;
};

// Parabolas of the models with at least four points that are convex, in the order of their rows.
std::vector<Curve2> model_curves(const std::vector<FitPoint>& points, double centre);

// The common tangent: the slope for which the heights of the models that are touched inside their
// measured range (three at least) vary least. Nothing where there is none, or where the least is
// reached only because a touching point leaves its range.
std::optional<Tangent> common_tangent(const std::vector<FitPoint>& points);

struct FitOptions {
  bool by_hours = true;
  int draws = 1000;
  uint64_t seed = 0;  // of the draws
  double sigma = 0;   // nats; noise of a trial, 0 where it is not known
  double chance = 0;  // nats; ln(classes), 0 where it is not known
  bool drop_flagged = true;
  bool complete = true;  // all cells are through
};

// Never fails: where there is no law the verdict says what is missing.
FrontierFit fit_frontier(const std::vector<CellRow>& cells, const FitOptions& options);

// excess and near of every cell, from the law.
void set_excess(const FrontierFit& fit, bool by_hours, std::vector<CellRow>& cells);

// The object of fits.json.
Json fit_json(const FrontierFit& fit, const std::vector<CellRow>& cells, uint64_t input_hash);

}  // namespace nfscale
