#include "fit/formula.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace nfscale {
namespace {

using std::abs;
using std::exp;
using std::expm1;
using std::log;

const double kLn1e4 = std::log(1e4);

// ln sum exp.
template <class T, size_t N>
T log_sum(const std::array<T, N>& terms) {
  double most = -INFINITY;
  for (const T& t : terms) most = std::max(most, value_of(t));
  T sum = T(0.0);
  for (const T& t : terms) sum = sum + exp(t - T(most));
  return T(most) + log(sum);
}

Vector no_context(const FitTable&) {
  return {};
}

Vector column(const FitTable& t, size_t place, bool logarithm = true) {
  Vector v;
  for (const Vector& row : t.rows) v.push_back(logarithm ? std::log(row[place]) : row[place]);
  return v;
}

// ---- power, power+floor: a, b, e; the context is the ln x at which a is meant

Vector at_1e4(const FitTable&) {
  return {kLn1e4};
}

template <class T>
T power(const T* p, const double* row, const Vector& context) {
  return p[0] - p[1] * T(std::log(row[0]) - context[0]);
}

// Floors: half of the least value, and next to nothing.
Vector floor_places(const FitTable& t) {
  double least = INFINITY;
  for (const Vector& row : t.rows) least = std::min(least, row.back());
  return {std::log(least / 2), std::log(least) - 13};
}

Vector share_places(const FitTable&) {
  return {0, -13};
}

std::pair<double, double> power_line(const FitTable& t) {
  Vector x = column(t, 0);
  for (double& v : x) v -= kLn1e4;
  const auto [a, slope] = line_fit(x, column(t, 1));
  return {a, -slope};
}

std::vector<Vector> power_starts(const FitTable& t, const Vector&) {
  const auto [a, b] = power_line(t);
  return {{a, b}};
}

template <class T>
T power_floor(const T* p, const double* row, const Vector& context) {
  return log_sum(std::array<T, 2>{p[0] - p[1] * T(std::log(row[0]) - context[0]), p[2]});
}

// The same with ln y at the context's place, b, and the share of y there that is floor (logit).
template <class T>
T power_floor_at(const T* p, const double* row, const Vector& context) {
  const T share = -log(T(1.0) + exp(-p[2]));
  return p[0] +
         log_sum(std::array<T, 2>{share, share - p[2] - p[1] * T(std::log(row[0]) - context[0])});
}

std::vector<Vector> power_floor_starts(const FitTable& t, const Vector&) {
  const Vector y = column(t, 1, false), x = column(t, 0);
  const double least = *std::min_element(y.begin(), y.end());
  std::vector<Vector> starts;
  for (const double b : {0.02, 0.05, 0.1, 0.3, 0.6, 1.0})
    for (const double share : {1e-6, 0.25, 0.5, 0.9}) {
      const double floor = least * share;
      Vector a;
      for (size_t i = 0; i < y.size(); ++i)
        a.push_back(std::log(std::max(y[i] - floor, 1e-6)) + b * (x[i] - kLn1e4));
      starts.push_back({median_of(a), b, std::log(floor)});
    }
  return starts;
}

// ---- joint: a = ln A, b = ln B, e = ln E, alpha, beta

template <class T>
T joint(const T* p, const double* row, const Vector&) {
  return log_sum(
      std::array<T, 3>{p[0] - p[3] * T(std::log(row[0])), p[1] - p[4] * T(std::log(row[1])), p[2]});
}

// Non-negative least squares of few columns: the best of all subsets that is feasible.
std::pair<Vector, double> non_negative(const std::vector<Vector>& columns, const Vector& z) {
  std::pair<Vector, double> best = {Vector(columns.size(), 0), INFINITY};
  for (unsigned subset = 1; subset < 1u << columns.size(); ++subset) {
    std::vector<Vector> some;
    for (size_t k = 0; k < columns.size(); ++k)
      if (subset >> k & 1) some.push_back(columns[k]);
    const auto fit = least_squares(some, z);
    if (!fit || fit->sum >= best.second) continue;
    if (*std::min_element(fit->at.begin(), fit->at.end()) < 0) continue;
    best.second = fit->sum;
    best.first.assign(columns.size(), 0);
    for (size_t k = 0, i = 0; k < columns.size(); ++k)
      if (subset >> k & 1) best.first[k] = fit->at[i++];
  }
  return best;
}

// For given exponents the coefficients follow by least squares: the best node of a grid of them.
Vector projected_start(const FitTable& t, bool tied) {
  const Vector n = column(t, 0), d = column(t, 1), loss = column(t, 2, false);
  const double mn = mean_of(n), md = mean_of(d);
  const Vector one(loss.size(), 1);
  Vector best;
  double least = INFINITY;
  constexpr int kNodes = 24;
  for (int i = 0; i < kNodes; ++i)
    for (int j = 0; j < kNodes; ++j) {
      if (tied && i != j) continue;
      const double alpha = 0.05 * std::pow(24.0, i / (kNodes - 1.0));
      const double beta = 0.05 * std::pow(24.0, j / (kNodes - 1.0));
      std::vector<Vector> columns(3, Vector(loss.size()));
      for (size_t r = 0; r < loss.size(); ++r) {
        columns[0][r] = std::exp(-alpha * (n[r] - mn)) / loss[r];
        columns[1][r] = std::exp(-beta * (d[r] - md)) / loss[r];
        columns[2][r] = 1 / loss[r];
      }
      const auto [at, sum] = non_negative(columns, one);
      if (sum >= least) continue;
      least = sum;
      const auto safe = [](double v) { return std::log(std::max(v, 1e-6)); };
      best = {safe(at[0]) + alpha * mn, safe(at[1]) + beta * md, safe(at[2]), alpha, beta};
    }
  return best;
}

std::vector<Vector> joint_starts(const FitTable& t, const Vector&) {
  std::vector<Vector> starts = {projected_start(t, false)};
  constexpr uint64_t kSeed = 20220329;
  for (uint64_t i = 0; i < 64; ++i) {
    Vector start;
    for (uint32_t k = 0; k < 5; ++k) {
      const double low[] = {0, 0, -1, 0, 0}, high[] = {25, 25, 1, 2, 2};
      const double u = uniform(words(kSeed, Op::study, i, k)[0]);
      start.push_back(low[k] + u * (high[k] - low[k]));
    }
    starts.push_back(start);
  }
  return starts;
}

// N is proportional to C^a_opt at the best division of compute C between N and D.
Vector joint_derived(const Vector& p) {
  return {p[4] / (p[3] + p[4])};
}

template <class T>
T tied(const T* p, const double* row, const Vector&) {
  return log_sum(
      std::array<T, 3>{p[0] - p[3] * T(std::log(row[0])), p[1] - p[3] * T(std::log(row[1])), p[2]});
}

std::vector<Vector> tied_starts(const FitTable& t, const Vector&) {
  Vector start = projected_start(t, true);
  start.pop_back();
  return {start};
}

// ---- repeat: a, b, e, alpha, beta, ln R_D, ln R_N

const double kLowR = -5, kHighR = std::log(1e6);

template <class T>
T repeat(const T* p, const double* row, const Vector&) {
  const double size = row[0], tokens = row[1], unique = row[2];
  const T &a = p[0], &b = p[1], &alpha = p[3], &beta = p[4];
  // Parameters that are optimal for the unique data: the minimum of A N^-alpha + B D^-beta at a
  // given N D has alpha A N^-alpha = beta B D^-beta.
  const T optimum = exp((a - b + log(alpha / beta) + beta * T(std::log(unique))) / alpha);
  const T base = value_of(optimum) < size ? optimum : T(size);
  const auto grown = [](const T& once, const T& again, const T& r) {
    return once - once * r * expm1(-again / r);
  };
  const T rd = exp(clip(p[5], kLowR, kHighR)), rn = exp(clip(p[6], kLowR, kHighR));
  const T data = grown(T(unique), T(std::max(tokens / unique - 1, 0.0)), rd);
  const T more = T(size) / base - T(1.0);
  const T params = grown(base, value_of(more) > 0 ? more : T(0.0), rn);
  return log_sum(std::array<T, 3>{a - alpha * log(params), b - beta * log(data), p[2]});
}

// Of R_D and R_N; the first stage gives the rest.
std::vector<Vector> repeat_starts(const FitTable&, const Vector&) {
  std::vector<Vector> starts;
  for (const double rd : {2., 5., 15., 50., 300., 1e4})
    for (const double rn : {0.1, 1., 5., 20., 300.})
      starts.push_back({0, 0, 0, 0.3, 0.3, std::log(rd), std::log(rn)});
  return starts;
}

// ---- curve3: ln beta, c, ln gamma

template <class T>
T curve3(const T* p, const double* row, const Vector&) {
  return p[0] + p[1] * log(T(1 / row[0]) + exp(p[2]));
}

std::vector<Vector> curve3_starts(const FitTable& t, const Vector&) {
  const Vector x = column(t, 0, false), z = column(t, 1);
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  std::vector<std::pair<double, Vector>> found;
  for (double g = std::log(1 / *high) - 14; g < std::log(1 / *low) + 2; g += 0.25) {
    Vector u;
    for (const double v : x) u.push_back(std::log(1 / v + std::exp(g)));
    const auto [a, c] = line_fit(u, z);
    double sum = 0;
    for (size_t i = 0; i < u.size(); ++i) sum += std::pow(z[i] - a - c * u[i], 2);
    found.push_back({sum, {a, c, g}});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Vector> starts;
  for (size_t i = 0; i < std::min<size_t>(6, found.size()); ++i) starts.push_back(found[i].second);
  return starts;
}

// ---- curve4: ln beta, ln -c, alpha, the floor's share of the least (logit), ln(top - the most)

Vector range_context(const FitTable& t) {
  const Vector y = column(t, t.columns.size() - 1, false);
  return {*std::min_element(y.begin(), y.end()), *std::max_element(y.begin(), y.end())};
}

constexpr double kMostLog = 2;  // of ln -c and of ln(top - the most)

template <class T>
std::array<T, 3> curve4_shape(const T* p, const Vector& context) {  // floor, top, alpha
  return {T(context[0]) / (T(1.0) + exp(-p[3])), T(context[1]) + exp(clip(p[4], -30, kMostLog)),
          abs(p[2])};
}

// u of (0, width) with u = f (width - u)^alpha. With u = width / (1 + e^-t) the logarithm of the
// two sides' quotient grows in t with a slope between 1 and alpha that never turns, so Newton's
// steps end.
double curve4_root(double ln_f, double width, double alpha) {
  const double shift = (1 - alpha) * std::log(width) - ln_f;
  double t = -shift / (shift > 0 ? 1 : std::max(alpha, 1e-3));
  for (int i = 0; i < 60; ++i) {
    const double f = shift - std::log1p(std::exp(-t)) + alpha * std::log1p(std::exp(t));
    const double share = 1 / (1 + std::exp(-t));
    const double step = f / (1 - share + alpha * share);
    t = std::clamp(t - step, -700.0, 700.0);
    if (std::abs(step) < 1e-13 * std::max(1.0, std::abs(t))) break;
  }
  return width / (1 + std::exp(-t));
}

template <class T>
T curve4(const T* p, const double* row, const Vector& context) {
  const auto [floor, top, alpha] = curve4_shape(p, context);
  const T width = top - floor;
  const T lf = clip(p[0] - exp(clip(p[1], -30, kMostLog)) * T(std::log(row[0])), -60, 60);
  const double u = curve4_root(value_of(lf), value_of(width), value_of(alpha));
  if constexpr (std::is_same_v<T, double>) {
    return log(floor + u);
  } else {
    // Implicit differentiation of u - f (width - u)^alpha = 0.
    const double rest = std::max(value_of(width) - u, 1e-300);
    const double power = u;  // f (width - u)^alpha
    const double slope = 1 + value_of(alpha) * power / rest;
    T r = T(u);
    for (size_t i = 0; i < kMaxParameters; ++i) {
      const double grown =
          power * (lf.d[i] + alpha.d[i] * std::log(rest) + value_of(alpha) * width.d[i] / rest);
      r.d[i] = grown / slope;
    }
    return log(floor + r);
  }
}

std::vector<Vector> curve4_starts(const FitTable& t, const Vector& context) {
  const Vector x = column(t, 0), y = column(t, 1, false);
  std::vector<Vector> starts;
  for (const double share : {-6., -1., 1., 3.})
    for (const double alpha : {0.5, 1.5})
      for (const double top : {-5., -2.}) {
        const double floor = context[0] / (1 + std::exp(-share));
        const double most = context[1] + std::exp(top);
        Vector z;
        for (const double v : y)
          z.push_back(std::log(std::max(v - floor, 1e-4)) - alpha * std::log(most - v));
        const auto [a, slope] = line_fit(x, z);
        starts.push_back({a, std::log(std::max(-slope, 1e-2)), alpha, share, top});
      }
  return starts;
}

Vector curve4_natural(const Vector& p, const Vector& context) {
  const auto [floor, top, alpha] = curve4_shape(p.data(), context);
  return {-std::exp(std::min(p[1], kMostLog)), std::exp(std::min(p[0], 700.0)), alpha, floor, top};
}

// ---- lr: i, p, q

template <class T>
T rate(const T* p, const double* row, const Vector&) {
  return p[0] + p[1] * T(std::log(row[0])) + p[2] * T(std::log(row[1]));
}

std::vector<Vector> rate_starts(const FitTable& t, const Vector&) {
  const auto fit =
      least_squares({Vector(t.rows.size(), 1), column(t, 0), column(t, 1)}, column(t, 2));
  return {fit ? fit->at : Vector{0, 0, 0}};
}

}  // namespace

const std::vector<Formula>& formulas() {
  const Parameter floor = {"floor", true, -INFINITY, INFINITY, floor_places};
  const Parameter exponent = {"exponent"};
  static const std::vector<Formula> all = {
      {.name = "power",
       .columns = {"x", "y"},
       .parameters = {{"at_1e4", true}, exponent},
       .value = power<double>,
       .dual = power<Dual>,
       .context = at_1e4,
       .starts = power_starts,
       .profile = true},
      {.name = "power+floor",
       .columns = {"x", "y"},
       .parameters = {{"excess_at_1e4", true}, exponent, floor},
       .value = power_floor<double>,
       .dual = power_floor<Dual>,
       .context = at_1e4,
       .starts = power_floor_starts,
       .profile = true},
      {.name = "joint",
       .columns = {"params", "tokens", "loss"},
       .parameters = {{"A", true}, {"B", true}, {"E", true}, {"alpha"}, {"beta"}},
       .value = joint<double>,
       .dual = joint<Dual>,
       .context = no_context,
       .starts = joint_starts,
       .derived = {"a_opt"},
       .derive = joint_derived},
      {.name = "repeat",
       .columns = {"params", "tokens", "unique_tokens", "loss"},
       .parameters = {{"a"},
                      {"b"},
                      {"e"},
                      {"alpha"},
                      {"beta"},
                      {"R_D", true, kLowR, kHighR},
                      {"R_N", true, kLowR, kHighR}},
       .value = repeat<double>,
       .dual = repeat<Dual>,
       .context = no_context,
       .starts = repeat_starts},
      {.name = "curve3",
       .columns = {"x", "y"},
       .parameters = {{"beta", true}, {"c"}, {"gamma", true}},
       .value = curve3<double>,
       .dual = curve3<Dual>,
       .context = no_context,
       .starts = curve3_starts},
      {.name = "curve4",
       .columns = {"x", "y"},
       .parameters = {{"c"}, {"beta"}, {"alpha"}, {"floor"}, {"top"}},
       .value = curve4<double>,
       .dual = curve4<Dual>,
       .context = range_context,
       .starts = curve4_starts,
       .natural = curve4_natural},
      {.name = "lr",
       .columns = {"params", "tokens", "lr"},
       .parameters = {{"i"}, {"p"}, {"q"}},
       .value = rate<double>,
       .dual = rate<Dual>,
       .context = no_context,
       .starts = rate_starts},
  };
  return all;
}

const Formula& forecast_formula() {
  static const Formula formula = {
      .name = "power+floor at a place",
      .columns = {"x", "y"},
      .parameters = {{"y", true}, {"exponent"}, {"share", false, -30, 30, share_places}},
      .value = power_floor_at<double>,
      .dual = power_floor_at<Dual>,
      .context = at_1e4,
      .starts = power_floor_starts};
  return formula;
}

const Formula& tied_formula() {
  static const Formula formula = {.name = "joint with alpha = beta",
                                  .columns = {"params", "tokens", "loss"},
                                  .parameters = {{"a"}, {"b"}, {"e"}, {"alpha"}},
                                  .value = tied<double>,
                                  .dual = tied<Dual>,
                                  .context = no_context,
                                  .starts = tied_starts};
  return formula;
}

}  // namespace nfscale
