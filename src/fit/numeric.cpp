#include "fit/numeric.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace nfscale {
namespace {

double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double value_at(const Objective& f, const Vector& at, Vector* gradient) {
  const double v = f(at, gradient);
  return std::isfinite(v) ? v : INFINITY;
}

// A place on the line at + step * direction.
struct OnLine {
  double step = 0, value = 0, slope = 0;
  Vector at, gradient;
};

OnLine on_line(const Objective& f, const Vector& at, const Vector& direction, double step) {
  OnLine p;
  p.step = step;
  p.at = at;
  for (size_t i = 0; i < at.size(); ++i) p.at[i] += step * direction[i];
  p.gradient.assign(at.size(), 0);
  p.value = value_at(f, p.at, &p.gradient);
  p.slope = dot(p.gradient, direction);
  return p;
}

constexpr double kArmijo = 1e-4, kCurvature = 0.9;

// Between two steps of which `low` is the better and satisfies Armijo's condition.
OnLine zoom(const Objective& f, const Vector& at, const Vector& direction, const OnLine& start,
            OnLine low, OnLine high) {
  for (int i = 0; i < 40; ++i) {
    // The minimum of the parabola through low (value, slope) and high (value), kept off the ends.
    const double width = high.step - low.step;
    const double bend = high.value - low.value - low.slope * width;
    double share = bend > 0 && std::isfinite(high.value) ? -low.slope * width / (2 * bend) : 0.5;
    share = std::clamp(share, 0.1, 0.9);
    OnLine p = on_line(f, at, direction, low.step + share * width);
    if (p.value > start.value + kArmijo * p.step * start.slope || p.value >= low.value) {
      high = std::move(p);
    } else {
      if (std::abs(p.slope) <= -kCurvature * start.slope) return p;
      if (p.slope * width >= 0) high = low;
      low = std::move(p);
    }
    if (std::abs(high.step - low.step) < 1e-14 * std::max(1.0, std::abs(low.step))) break;
  }
  return low;
}

OnLine line_search(const Objective& f, const Vector& at, const Vector& direction,
                   const OnLine& start) {
  OnLine before = start;
  double step = 1;
  for (int i = 0; i < 30; ++i) {
    OnLine p = on_line(f, at, direction, step);
    if (p.value > start.value + kArmijo * step * start.slope || (i > 0 && p.value >= before.value))
      return zoom(f, at, direction, start, before, p);
    if (std::abs(p.slope) <= -kCurvature * start.slope) return p;
    if (p.slope >= 0) return zoom(f, at, direction, start, p, before);
    before = std::move(p);
    step *= 2;
  }
  return before;
}

// Square, row by row.
struct Square {
  size_t n;
  Vector m;
  explicit Square(size_t size) : n(size), m(size * size, 0) { reset(1); }
  void reset(double diagonal) {
    std::fill(m.begin(), m.end(), 0);
    for (size_t i = 0; i < n; ++i) m[i * n + i] = diagonal;
  }
  Vector times(const Vector& v) const {
    Vector out(n, 0);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) out[i] += m[i * n + j] * v[j];
    return out;
  }
  // H += (1 + y'Hy / s'y) ss' / s'y - (Hy s' + s (Hy)') / s'y
  void update(const Vector& s, const Vector& y, double sy) {
    const Vector hy = times(y);
    const double factor = (1 + dot(y, hy) / sy) / sy;
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j)
        m[i * n + j] += factor * s[i] * s[j] - (hy[i] * s[j] + s[i] * hy[j]) / sy;
  }
};

// The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz.
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < kTiny ? kTiny : d);
  double h = d;
  for (int m = 1; m < 500; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double factor = 1;
    for (const double term : {even, odd}) {
      d = 1 + term * d;
      c = 1 + term / c;
      d = 1 / (std::abs(d) < kTiny ? kTiny : d);
      if (std::abs(c) < kTiny) c = kTiny;
      factor = d * c;
      h *= factor;
    }
    if (std::abs(factor - 1) < 1e-15) break;
  }
  return h;
}

double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                   : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace

double mean_of(const Vector& v) {
  return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
}

double percentile(Vector v, double p) {
  std::sort(v.begin(), v.end());
  const double at = p / 100 * static_cast<double>(v.size() - 1);
  const auto i = static_cast<size_t>(at);
  if (i + 1 >= v.size()) return v.back();
  return v[i] + (at - static_cast<double>(i)) * (v[i + 1] - v[i]);
}

double median_of(const Vector& v) {
  return percentile(v, 50);
}

std::pair<double, double> line_fit(const Vector& x, const Vector& z) {
  const double mx = mean_of(x), mz = mean_of(z);
  double xx = 0, xz = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    xz += (x[i] - mx) * (z[i] - mz);
  }
  const double slope = xx > 0 ? xz / xx : 0;
  return {mz - slope * mx, slope};
}

std::array<double, 3> quadratic_fit(const Vector& x, const Vector& z) {
  const auto n = static_cast<double>(x.size());
  const double mx = mean_of(x), mz = mean_of(z);
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

std::optional<LeastSquares> least_squares(const std::vector<Vector>& columns, const Vector& z) {
  const size_t n = z.size(), p = columns.size();
  if (n < p) return std::nullopt;
  std::vector<Vector> a = columns;
  Vector right = z;
  for (size_t k = 0; k < p; ++k) {
    double norm = 0;
    for (size_t i = k; i < n; ++i) norm += a[k][i] * a[k][i];
    norm = std::sqrt(norm);
    if (!(norm > 1e-12 * std::sqrt(dot(columns[k], columns[k])))) return std::nullopt;
    const double alpha = a[k][k] > 0 ? -norm : norm;
    Vector v(a[k].begin() + static_cast<ptrdiff_t>(k), a[k].end());
    v[0] -= alpha;
    const double vv = dot(v, v);
    const auto reflect = [&](Vector& column) {
      double s = 0;
      for (size_t i = k; i < n; ++i) s += v[i - k] * column[i];
      for (size_t i = k; i < n; ++i) column[i] -= 2 * s / vv * v[i - k];
    };
    for (size_t j = k; j < p; ++j) reflect(a[j]);
    reflect(right);
  }
  LeastSquares fit;
  fit.at.assign(p, 0);
  fit.triangle.assign(p * p, 0);
  for (size_t k = p; k-- > 0;) {
    double sum = right[k];
    for (size_t j = k; j < p; ++j) {
      fit.triangle[k * p + j] = a[j][k];
      if (j > k) sum -= a[j][k] * fit.at[j];
    }
    fit.at[k] = sum / a[k][k];
  }
  fit.residual = z;
  for (size_t k = 0; k < p; ++k)
    for (size_t i = 0; i < n; ++i) fit.residual[i] -= columns[k][i] * fit.at[k];
  fit.sum = dot(fit.residual, fit.residual);
  return fit;
}

double LeastSquares::leverage(const Vector& row) const {
  const size_t p = at.size();
  Vector u(p, 0);
  for (size_t k = 0; k < p; ++k) {
    double rest = row[k];
    for (size_t j = 0; j < k; ++j) rest -= triangle[j * p + k] * u[j];
    u[k] = rest / triangle[k * p + k];
  }
  return dot(u, u);
}

Minimum bfgs(const Objective& f, Vector start, int iterations) {
  const size_t n = start.size();
  OnLine here;
  here.at = std::move(start);
  here.gradient.assign(n, 0);
  here.value = value_at(f, here.at, &here.gradient);
  Square inverse(n);
  bool fresh = true;
  for (int i = 0, still = 0; i < iterations && still < 3; ++i) {
    Vector direction = inverse.times(here.gradient);
    for (double& d : direction) d = -d;
    here.slope = dot(here.gradient, direction);
    if (!(here.slope < 0) || !std::isfinite(here.slope)) {
      if (fresh) break;
      inverse.reset(1);
      fresh = true;
      continue;
    }
    if (fresh) {  // the first step is as long as one
      const double length = std::sqrt(dot(direction, direction));
      inverse.reset(std::min(1.0, 1 / length));
      for (double& d : direction) d *= std::min(1.0, 1 / length);
      here.slope = dot(here.gradient, direction);
    }
    OnLine next = line_search(f, here.at, direction, here);
    if (!(next.value < here.value)) {
      if (fresh) break;
      inverse.reset(1);
      fresh = true;
      continue;
    }
    still = here.value - next.value <= 1e-15 * std::abs(here.value) ? still + 1 : 0;
    Vector s(n), y(n);
    for (size_t k = 0; k < n; ++k) {
      s[k] = next.at[k] - here.at[k];
      y[k] = next.gradient[k] - here.gradient[k];
    }
    const double sy = dot(s, y);
    if (sy > 1e-14 * std::sqrt(dot(s, s) * dot(y, y))) {
      if (fresh) inverse.reset(sy / dot(y, y));
      inverse.update(s, y, sy);
      fresh = false;
    }
    here = std::move(next);
    here.step = 0;
  }
  return {here.at, here.value};
}

Minimum simplex(const Objective& f, const Vector& start, double step, int evaluations) {
  const size_t n = start.size();
  std::vector<Minimum> corner(n + 1);
  int used = 0;
  const auto at = [&](Vector v) {
    ++used;
    const double value = value_at(f, v, nullptr);
    return Minimum{std::move(v), value};
  };
  corner[0] = at(start);
  for (size_t k = 0; k < n; ++k) {
    Vector v = start;
    v[k] += step * std::max(1.0, std::abs(v[k]));
    corner[k + 1] = at(std::move(v));
  }
  const auto better = [](const Minimum& a, const Minimum& b) { return a.value < b.value; };
  while (used < evaluations) {
    std::stable_sort(corner.begin(), corner.end(), better);
    double width = 0;
    for (size_t k = 0; k < n; ++k)
      width = std::max(width, std::abs(corner[n].at[k] - corner[0].at[k]) /
                                  std::max(1.0, std::abs(corner[0].at[k])));
    if (width < 1e-11 && corner[n].value - corner[0].value <= 1e-15 * std::abs(corner[0].value))
      break;
    if (width < 1e-15) break;
    Vector centre(n, 0);
    for (size_t c = 0; c < n; ++c)
      for (size_t k = 0; k < n; ++k) centre[k] += corner[c].at[k] / static_cast<double>(n);
    const auto towards = [&](double factor) {
      Vector v(n);
      for (size_t k = 0; k < n; ++k) v[k] = centre[k] + factor * (corner[n].at[k] - centre[k]);
      return at(std::move(v));
    };
    Minimum reflected = towards(-1);
    if (reflected.value < corner[0].value) {
      Minimum expanded = towards(-2);
      corner[n] = better(expanded, reflected) ? std::move(expanded) : std::move(reflected);
    } else if (reflected.value < corner[n - 1].value) {
      corner[n] = std::move(reflected);
    } else {
      Minimum inside = towards(reflected.value < corner[n].value ? -0.5 : 0.5);
      if (inside.value < std::min(reflected.value, corner[n].value)) {
        corner[n] = std::move(inside);
      } else {
        for (size_t c = 1; c <= n; ++c) {
          Vector v(n);
          for (size_t k = 0; k < n; ++k)
            v[k] = corner[0].at[k] + 0.5 * (corner[c].at[k] - corner[0].at[k]);
          corner[c] = at(std::move(v));
        }
      }
    }
  }
  return *std::min_element(corner.begin(), corner.end(), better);
}

Minimum polish(const Objective& f, const Vector& start) {
  Minimum best = {start, value_at(f, start, nullptr)};
  for (int round = 0; round < 8; ++round) {
    const double before = best.value;
    if (Minimum m = bfgs(f, best.at); m.value < best.value) best = std::move(m);
    if (Minimum m = simplex(f, best.at, 1e-3); m.value < best.value) best = std::move(m);
    if (!(best.value < before * (1 - 1e-13))) break;
  }
  return best;
}

double golden_section(const std::function<double(double)>& f, double low, double high,
                      double accuracy) {
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  double a = high - ratio * (high - low), b = low + ratio * (high - low);
  double fa = f(a), fb = f(b);
  while (high - low > accuracy) {
    if (fa < fb) {
      high = b;
      b = a;
      fb = fa;
      a = high - ratio * (high - low);
      fa = f(a);
    } else {
      low = a;
      a = b;
      fa = fb;
      b = low + ratio * (high - low);
      fb = f(b);
    }
  }
  return fa < fb ? a : b;
}

double student_quantile(double p, double degrees) {
  if (p < 0.5) return -student_quantile(1 - p, degrees);
  const auto tail = [&](double t) {  // P(T > t)
    return 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
  };
  double low = 0, high = 1;
  while (tail(high) > 1 - p && high < 1e300) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-14 * high; ++i) {
    const double t = (low + high) / 2;
    (tail(t) > 1 - p ? low : high) = t;
  }
  return (low + high) / 2;
}

}  // namespace nfscale
