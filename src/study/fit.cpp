#include "study/fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/random.h"
#include "base/text.h"
#include "study/plan.h"

namespace nfscale {
namespace {

constexpr double kScanLow = 0.001, kScanHigh = 1.0, kScanStep = 1e-4;
constexpr size_t kMinBudgets = 4, kMinModels = 3;

// Least squares of z = a + b x + c x^2, by polynomials that are orthogonal on the points.
std::array<double, 3> quadratic(const std::vector<double>& x, const std::vector<double>& z) {
  const auto n = static_cast<double>(x.size());
  const double mx = std::accumulate(x.begin(), x.end(), 0.0) / n;
  const double mz = std::accumulate(z.begin(), z.end(), 0.0) / n;
  double s2 = 0, s3 = 0, uz = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double u = x[i] - mx;
    s2 += u * u;
    s3 += u * u * u;
    uz += u * (z[i] - mz);
  }
  if (!(s2 > 0)) return {mz, 0, 0};
  double ww = 0, wz = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double u = x[i] - mx, w = u * u - s3 / s2 * u - s2 / n;
    ww += w * w;
    wz += w * (z[i] - mz);
  }
  const double c = ww > 1e-12 * s2 * s2 ? wz / ww : 0;
  const double b = uz / s2 - c * s3 / s2;  // around mx
  return {mz - c * s2 / n - b * mx + c * mx * mx, b - 2 * c * mx, c};
}

// Least squares of z = first + second x.
std::pair<double, double> line_fit(const std::vector<double>& x, const std::vector<double>& z) {
  const auto n = static_cast<double>(x.size());
  const double mx = std::accumulate(x.begin(), x.end(), 0.0) / n;
  const double mz = std::accumulate(z.begin(), z.end(), 0.0) / n;
  double xx = 0, xz = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    xz += (x[i] - mx) * (z[i] - mz);
  }
  const double slope = xx > 0 ? xz / xx : 0;
  return {mz - slope * mx, slope};
}

double mean_of(const std::vector<double>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
}

double percentile(std::vector<double> v, double p) {
  std::sort(v.begin(), v.end());
  const double at = p / 100 * static_cast<double>(v.size() - 1);
  const auto i = static_cast<size_t>(at);
  if (i + 1 >= v.size()) return v.back();
  return v[i] + (at - static_cast<double>(i)) * (v[i + 1] - v[i]);
}

double centre_of(const std::vector<FitPoint>& points) {
  std::vector<double> x;
  for (const FitPoint& p : points) x.push_back(std::log(p.compute));
  return mean_of(x);
}

// Where a line of slope -s touches a curve, and its height at the centre there.
struct Touch {
  double x, offset;
  bool inside;
};
Touch touch(const Curve2& q, double s) {
  const double x = -(s + q.b) / (2 * q.c);
  return {x, q.a - (s + q.b) * (s + q.b) / (4 * q.c), x >= q.low && x <= q.high};
}

// Variance of the heights of the curves that are touched inside their range; infinite below three.
double spread(const std::vector<Curve2>& curves, double s) {
  double sum = 0;
  size_t n = 0;
  for (const Curve2& q : curves) {
    const Touch t = touch(q, s);
    if (!t.inside) continue;
    sum += t.offset;
    ++n;
  }
  if (n < kMinModels) return INFINITY;
  const double mean = sum / static_cast<double>(n);
  double variance = 0;
  for (const Curve2& q : curves)
    if (const Touch t = touch(q, s); t.inside) variance += (t.offset - mean) * (t.offset - mean);
  return variance / static_cast<double>(n);
}

double golden(const std::vector<Curve2>& curves, double low, double high) {
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  double a = high - ratio * (high - low), b = low + ratio * (high - low);
  double fa = spread(curves, a), fb = spread(curves, b);
  while (high - low > 1e-10) {
    if (fa < fb) {
      high = b;
      b = a;
      fb = fa;
      a = high - ratio * (high - low);
      fa = spread(curves, a);
    } else {
      low = a;
      a = b;
      fa = fb;
      b = low + ratio * (high - low);
      fb = spread(curves, b);
    }
  }
  return fa < fb ? a : b;
}

// A line through the cells that no cheaper one beats.
std::optional<Tangent> pareto_line(std::vector<FitPoint> points) {
  const double centre = centre_of(points);
  std::stable_sort(points.begin(), points.end(),
                   [](const FitPoint& a, const FitPoint& b) { return a.compute < b.compute; });
  std::vector<double> x, z;
  Tangent line;
  double least = INFINITY;
  for (const FitPoint& p : points) {
    if (p.loss >= least) continue;
    least = p.loss;
    x.push_back(std::log(p.compute) - centre);
    z.push_back(std::log(p.loss));
    line.touches.push_back({p.model, p.compute, p.loss, p.params, p.epochs});
  }
  if (x.size() < 3) return std::nullopt;
  const auto [offset, slope] = line_fit(x, z);
  line.exponent = -slope;
  line.offset = offset;
  line.centre = centre;
  return line;
}

struct Draws {
  std::vector<double> exponent, ratio;
  std::vector<std::vector<double>> line;  // by place on the axis
};

// Residuals around the smooth curves, drawn again; everything downstream is done again.
template <class Estimate>
Draws resample(const std::vector<FitPoint>& points, const std::vector<double>& fitted,
               size_t parameters, const FitOptions& options, const std::vector<double>& at,
               const Estimate& estimate) {
  Draws draws;
  draws.line.resize(at.size());
  const size_t n = points.size();
  std::vector<double> residual, losses;
  for (size_t i = 0; i < n; ++i) {
    residual.push_back(std::log(points[i].loss) - fitted[i]);
    losses.push_back(points[i].loss);
  }
  const double mean = mean_of(residual);
  double rms = 0;
  for (double& r : residual) {
    r -= mean;
    rms += r * r;
  }
  rms = std::sqrt(rms / static_cast<double>(n));
  const double wanted =
      std::max(rms * std::sqrt(static_cast<double>(n) /
                               static_cast<double>(std::max<size_t>(1, n - parameters))),
               options.sigma / mean_of(losses));
  const bool normal = rms < 1e-12;  // nothing to draw from
  const double factor = normal ? 0 : wanted / rms;
  for (int d = 0; d < options.draws; ++d) {
    std::vector<FitPoint> drawn = points;
    Words w{};
    for (size_t i = 0; i < n; ++i) {
      if (i % 2 == 0)
        w = words(options.seed, Op::study, static_cast<uint64_t>(d), 0, 1,
                  static_cast<uint32_t>(i / 2));
      const uint32_t a = w[2 * (i % 2)], b = w[2 * (i % 2) + 1];
      const double r = normal ? wanted * normal_pair(a, b).first
                              : factor * residual[below(a, static_cast<uint32_t>(n))];
      drawn[i].loss = std::exp(fitted[i] + r);
    }
    const std::optional<Tangent> law = estimate(drawn);
    if (!law) continue;
    draws.exponent.push_back(law->exponent);
    draws.ratio.push_back(law->rate_params > 0 ? law->rate_epochs / law->rate_params
                                               : std::nan(""));
    for (size_t k = 0; k < at.size(); ++k) draws.line[k].push_back(law->at(at[k]));
  }
  return draws;
}

std::string number(double v) {
  return fmt::format("{:.4g}", v);
}

// What keeps a study from having a law, in words.
std::string missing(const std::vector<CellRow>& cells,
                    const std::map<std::string, size_t>& usable) {
  std::map<std::string, size_t> planned;
  std::vector<std::string> waiting;
  for (const CellRow& c : cells) {
    ++planned[c.model];
    if (std::isnan(c.loss)) waiting.push_back(c.cell);
  }
  std::vector<std::string> parts;
  for (const auto& [model, n] : planned) {
    const auto found = usable.find(model);
    const size_t have = found == usable.end() ? 0 : found->second;
    if (have >= kMinBudgets) continue;
    parts.push_back(fmt::format("{} has {}", model, have) +
                    (n < kMinBudgets ? fmt::format(" (of {} in the grid)", n) : ""));
  }
  std::string text = fmt::format("No law yet: it takes {} models with {} epoch budgets each",
                                 kMinModels, kMinBudgets);
  if (planned.size() < kMinModels) text += fmt::format("; the grid has {} models", planned.size());
  if (!parts.empty()) text += "; " + join(parts, ", ");
  constexpr size_t kShown = 4;
  if (!waiting.empty()) {
    const size_t more = waiting.size() > kShown ? waiting.size() - kShown : 0;
    waiting.resize(waiting.size() - more);
    text += "; waits for " + join(waiting, ", ");
    if (more) text += fmt::format(" and {} more", more);
  }
  return text + ".";
}

}  // namespace

double Tangent::at(double compute) const {
  return std::exp(offset - exponent * (std::log(compute) - centre));
}

std::vector<Curve2> model_curves(const std::vector<FitPoint>& points, double centre) {
  std::vector<std::string> models;
  for (const FitPoint& p : points)
    if (std::find(models.begin(), models.end(), p.model) == models.end()) models.push_back(p.model);
  std::vector<Curve2> curves;
  for (const std::string& model : models) {
    std::vector<double> x, z;
    Curve2 q;
    q.model = model;
    for (const FitPoint& p : points) {
      if (p.model != model) continue;
      x.push_back(std::log(p.compute) - centre);
      z.push_back(std::log(p.loss));
      q.ln_params = std::log(p.params);
      q.ln_epochs_minus_x += std::log(p.epochs) - x.back();
    }
    if (x.size() < kMinBudgets) continue;
    q.ln_epochs_minus_x /= static_cast<double>(x.size());
    const auto [a, b, c] = quadratic(x, z);
    q.a = a;
    q.b = b;
    q.c = c;
    q.low = *std::min_element(x.begin(), x.end());
    q.high = *std::max_element(x.begin(), x.end());
    curves.push_back(q);
  }
  return curves;
}

std::optional<Tangent> common_tangent(const std::vector<FitPoint>& points) {
  if (points.empty()) return std::nullopt;
  const double centre = centre_of(points);
  std::vector<Curve2> curves = model_curves(points, centre);
  std::erase_if(curves, [](const Curve2& q) { return !(q.c > 0); });
  if (curves.size() < kMinModels) return std::nullopt;
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
  // Least where a model is about to leave its measured range: not a minimum, only an end.
  if (std::isinf(spread(curves, best - kScanStep)) || std::isinf(spread(curves, best + kScanStep)))
    return std::nullopt;
  const double fine = golden(curves, best - kScanStep, best + kScanStep);
  Tangent t;
  t.exponent = spread(curves, fine) <= least ? fine : best;
  t.centre = centre;
  t.sd_offset = std::sqrt(spread(curves, t.exponent));
  std::vector<double> x, size, epochs, offsets;
  for (const Curve2& q : curves) {
    const Touch at = touch(q, t.exponent);
    if (!at.inside) continue;
    x.push_back(at.x);
    size.push_back(q.ln_params);
    epochs.push_back(at.x + q.ln_epochs_minus_x);
    offsets.push_back(at.offset);
    t.touches.push_back({q.model, std::exp(at.x + centre), std::exp(at.offset - t.exponent * at.x),
                         std::exp(q.ln_params), std::exp(epochs.back())});
  }
  t.offset = mean_of(offsets);
  t.rate_params = line_fit(x, size).second;
  t.rate_epochs = line_fit(x, epochs).second;
  return t;
}

FrontierFit fit_frontier(const std::vector<CellRow>& cells, const FitOptions& options) {
  FrontierFit fit;
  fit.method = "none";
  fit.axis = options.by_hours ? "device hours" : "operations";
  fit.draws = options.draws;
  std::vector<FitPoint> points;
  std::vector<std::string> at_chance;
  std::map<std::string, size_t> usable;
  // Noise that is not known is taken as a hundredth of the chance loss.
  const double sigma = options.sigma > 0 ? options.sigma : 0.01 * options.chance;
  size_t known = 0;
  for (size_t i = 0; i < cells.size(); ++i) {
    const CellRow& c = cells[i];
    const double compute = options.by_hours ? c.device_hours : c.flops;
    if (std::isnan(c.loss)) continue;
    ++known;
    if (options.chance > 0 && c.loss > options.chance - 2 * sigma) {
      at_chance.push_back(c.cell);
      continue;
    }
    if (options.drop_flagged && c.flagged) {
      fit.notes.push_back(fmt::format("{} is left out: {}", c.cell, c.reason));
      continue;
    }
    if (!(compute > 0) || !(c.loss_vertex > 0)) continue;
    fit.used.push_back(i);
    points.push_back({c.model, compute, c.loss_vertex, c.params, c.epochs});
    ++usable[c.model];
  }
  if (known == 0) {
    fit.verdict = "No cell has a result yet.";
    return fit;
  }
  if (!at_chance.empty())
    fit.notes.push_back(fmt::format(
        "nothing was learned yet in {}: within 2 sigma of chance, ln(classes) = {} nats",
        join(at_chance, ", "), number(options.chance)));
  if (points.empty() && !at_chance.empty()) {
    fit.verdict = fmt::format(
        "Nothing was learned yet: all {} cells that have a result lie within 2 sigma ({} nats) of "
        "chance, ln(classes) = {} nats. Train longer, or look at the recipe.",
        at_chance.size(), number(2 * sigma), number(options.chance));
    return fit;
  }
  size_t models = 0;
  for (const auto& [model, n] : usable) models += n >= kMinBudgets;
  if (models < kMinModels) {
    fit.verdict = missing(cells, usable);
    if (!at_chance.empty())
      fit.verdict += " In " + join(at_chance, ", ") + " nothing was learned yet.";
    return fit;
  }

  const double centre = centre_of(points);
  double lowest = INFINITY, highest = 0;
  for (const FitPoint& p : points) {
    lowest = std::min(lowest, p.compute);
    highest = std::max(highest, p.compute);
  }
  for (int i = 0; i <= 40; ++i)
    fit.compute.push_back(lowest * std::pow(2 * highest / lowest, i / 40.0));

  fit.law = common_tangent(points);
  Draws draws;
  if (fit.law) {
    fit.method = "tangent";
    const std::vector<Curve2> curves = model_curves(points, centre);
    std::vector<FitPoint> smooth;  // of the models that have a curve
    std::vector<double> fitted;
    for (const FitPoint& p : points)
      for (const Curve2& q : curves)
        if (q.model == p.model) {
          const double x = std::log(p.compute) - centre;
          smooth.push_back(p);
          fitted.push_back(q.a + q.b * x + q.c * x * x);
        }
    draws = resample(smooth, fitted, 3 * curves.size(), options, fit.compute, common_tangent);
  } else if ((fit.law = pareto_line(points))) {
    fit.method = "pareto";
    std::vector<FitPoint> front;
    std::vector<double> fitted;
    for (const TouchPoint& t : fit.law->touches) {
      front.push_back({t.model, t.compute, t.loss, t.params, t.epochs});
      fitted.push_back(std::log(fit.law->at(t.compute)));
    }
    draws = resample(front, fitted, 2, options, fit.compute,
                     [](const std::vector<FitPoint>& p) -> std::optional<Tangent> {
                       std::vector<double> x, z;
                       Tangent t;
                       t.centre = centre_of(p);
                       for (const FitPoint& q : p) {
                         x.push_back(std::log(q.compute) - t.centre);
                         z.push_back(std::log(q.loss));
                       }
                       const auto [offset, slope] = line_fit(x, z);
                       t.offset = offset;
                       t.exponent = -slope;
                       return t;
                     });
  } else {
    fit.compute.clear();
    fit.verdict =
        "No law: the models' curves have no common tangent inside the measured range, "
        "and fewer than three cells lie on the frontier.";
    return fit;
  }

  fit.measured_low = INFINITY;
  for (const TouchPoint& t : fit.law->touches) {
    fit.measured_low = std::min(fit.measured_low, t.compute);
    fit.measured_high = std::max(fit.measured_high, t.compute);
  }
  for (const double c : fit.compute) fit.line.push_back(fit.law->at(c));
  fit.drawn = static_cast<int>(draws.exponent.size());
  if (fit.drawn >= 20) {
    fit.exponent = Interval{percentile(draws.exponent, 2.5), percentile(draws.exponent, 97.5)};
    std::erase_if(draws.ratio, [](double r) { return std::isnan(r); });
    if (fit.method == "tangent" && draws.ratio.size() >= 20)
      fit.ratio = Interval{percentile(draws.ratio, 2.5), percentile(draws.ratio, 97.5)};
    for (const auto& values : draws.line) {
      fit.low.push_back(percentile(values, 2.5));
      fit.high.push_back(percentile(values, 97.5));
    }
  }
  const double reference =
      std::pow(10, std::round(std::log10(std::sqrt(fit.measured_low * fit.measured_high))));
  const std::string law = fmt::format(
      "loss = {:.3f} ({} / {:g})^-{}{}", fit.law->at(reference), fit.axis, reference,
      number(fit.law->exponent),
      fit.exponent ? fmt::format(" [{}, {}]", number(fit.exponent->low), number(fit.exponent->high))
                   : "");
  if (fit.method == "tangent") {
    fit.verdict = fmt::format(
        "The best held-out loss falls as a power of compute: {}, touched by {} models between {} "
        "and {} {}.",
        law, fit.law->touches.size(), plain_number(fit.measured_low),
        plain_number(fit.measured_high), fit.axis);
    if (fit.drawn < options.draws * 9 / 10)
      fit.notes.push_back(
          fmt::format("only {} of {} draws have a common tangent: the interval is of those",
                      fit.drawn, options.draws));
    if (fit.law->touches.size() > 1 && fit.law->rate_params > 0) {
      std::string same = "not decided by these runs";
      if (fit.ratio && fit.ratio->high - fit.ratio->low < 0.3 && fit.ratio->low <= 1 &&
          fit.ratio->high >= 1)
        same = "consistent with the same rate";
      else if (fit.ratio && fit.ratio->low > 1)
        same = "epochs grow faster";
      else if (fit.ratio && fit.ratio->high < 1)
        same = "epochs grow more slowly";
      fit.notes.push_back(fmt::format(
          "optimal epochs against optimal size: ratio of the rates {}{}: {}",
          number(fit.law->rate_epochs / fit.law->rate_params),
          fit.ratio ? fmt::format(" [{}, {}]", number(fit.ratio->low), number(fit.ratio->high))
                    : "",
          same));
    }
  } else {
    fit.verdict = fmt::format(
        "No common tangent yet: the curves of the models do not bend enough inside the measured "
        "range, so the best epoch budgets are open above. A line through the {} cells that no "
        "cheaper cell beats, as commonly drawn, is {}; such a line lies above the true law.",
        fit.law->touches.size(), law);
  }
  if (!options.complete) fit.verdict += " The study is not complete: this may change.";
  return fit;
}

void set_excess(const FrontierFit& fit, bool by_hours, std::vector<CellRow>& cells) {
  if (!fit.law) return;
  for (CellRow& c : cells) {
    const double compute = by_hours ? c.device_hours : c.flops;
    if (std::isnan(c.loss_vertex) || !(compute > 0)) continue;
    c.excess = std::log(c.loss_vertex) - std::log(fit.law->at(compute));
    c.near = c.excess <= 0.005;
  }
}

Json fit_json(const FrontierFit& fit, const std::vector<CellRow>& cells, uint64_t input_hash) {
  Json params = Json::object(), interval = Json::object();
  Json touches = Json::array(), excluded = Json::array(), used = Json::array();
  double rms = 0, largest = 0;
  std::string worst;
  if (fit.law) {
    params.set("exponent", fit.law->exponent);
    params.set("at_1e4", fit.law->at(1e4));
    if (fit.method == "tangent") {
      params.set("touching_models", fit.law->touches.size());
      params.set("sd_offset", fit.law->sd_offset);
      params.set("rate_params", fit.law->rate_params);
      params.set("rate_epochs", fit.law->rate_epochs);
      params.set("ratio", fit.law->rate_epochs / fit.law->rate_params);
    }
    for (const TouchPoint& t : fit.law->touches) {
      touches.push(Json::object({{"model", t.model},
                                 {"compute", t.compute},
                                 {"loss", t.loss},
                                 {"params", t.params},
                                 {"epochs", t.epochs}}));
      const double r = std::log(t.loss) - std::log(fit.law->at(t.compute));
      rms += r * r / static_cast<double>(fit.law->touches.size());
      if (std::abs(r) > largest) {
        largest = std::abs(r);
        worst = t.model;
      }
    }
  }
  interval.set("method", "residuals drawn again around the models' parabolas");
  interval.set("level", 0.95);
  const auto pair = [](const Interval& i) { return Json::array({i.low, i.high}); };
  if (fit.exponent) interval.set("exponent", pair(*fit.exponent));
  if (fit.ratio) interval.set("ratio", pair(*fit.ratio));
  interval.set("draws", fit.drawn);
  for (size_t i = 0; i < cells.size(); ++i) {
    if (std::find(fit.used.begin(), fit.used.end(), i) != fit.used.end()) {
      used.push(cells[i].cell);
      continue;
    }
    excluded.push(
        Json::object({{"row", cells[i].cell},
                      {"why", cells[i].flagged            ? cells[i].reason
                              : std::isnan(cells[i].loss) ? "no result"
                                                          : "at chance, or no compute"}}));
  }
  return Json::object(
      {{"law", "frontier"},
       {"method", fit.method},
       {"verdict", fit.verdict},
       {"columns", Json::object({{"x", fit.axis == "device hours" ? "device_hours" : "flops"},
                                 {"y", "loss_vertex"}})},
       {"rows", cells.size()},
       {"used", used},
       {"excluded", excluded},
       {"objective",
        Json::object({{"name", "variance of the offsets of the touched models"},
                      {"value", fit.law ? Json(fit.law->sd_offset * fit.law->sd_offset) : Json()},
                      {"delta", nullptr}})},
       {"params", params},
       {"interval", interval},
       {"open", Json::object()},
       {"touches", touches},
       {"residual", Json::object({{"rms", std::sqrt(rms)}, {"max", largest}, {"worst", worst}})},
       {"warnings", Json(fit.notes)},
       {"input_hash", fmt::format("{:016x}", input_hash)},
       {"version", NFSCALE_VERSION}});
}

}  // namespace nfscale
