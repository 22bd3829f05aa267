// A number with its derivatives by a few parameters: laws are written once, as templates, and give
// their gradient without a second formula that could disagree with the first.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

namespace nfscale {

inline constexpr size_t kMaxParameters = 7;

struct Dual {
  double v = 0;
  std::array<double, kMaxParameters> d = {};

  Dual() = default;
  Dual(double value) : v(value) {}
  static Dual variable(double value, size_t place) {
    Dual x(value);
    x.d[place] = 1;
    return x;
  }
  // The value, and `slope` times the derivatives: the chain rule.
  Dual chain(double value, double slope) const {
    Dual out(value);
    for (size_t i = 0; i < kMaxParameters; ++i) out.d[i] = slope * d[i];
    return out;
  }
};

inline Dual operator+(const Dual& a, const Dual& b) {
  Dual out(a.v + b.v);
  for (size_t i = 0; i < kMaxParameters; ++i) out.d[i] = a.d[i] + b.d[i];
  return out;
}
inline Dual operator-(const Dual& a, const Dual& b) {
  Dual out(a.v - b.v);
  for (size_t i = 0; i < kMaxParameters; ++i) out.d[i] = a.d[i] - b.d[i];
  return out;
}
inline Dual operator*(const Dual& a, const Dual& b) {
  Dual out(a.v * b.v);
  for (size_t i = 0; i < kMaxParameters; ++i) out.d[i] = a.d[i] * b.v + a.v * b.d[i];
  return out;
}
inline Dual operator/(const Dual& a, const Dual& b) {
  Dual out(a.v / b.v);
  for (size_t i = 0; i < kMaxParameters; ++i) out.d[i] = (a.d[i] - out.v * b.d[i]) / b.v;
  return out;
}
inline Dual operator-(const Dual& a) {
  return a.chain(-a.v, -1);
}

inline Dual exp(const Dual& a) {
  const double e = std::exp(a.v);
  return a.chain(e, e);
}
inline Dual expm1(const Dual& a) {
  return a.chain(std::expm1(a.v), std::exp(a.v));
}
inline Dual log(const Dual& a) {
  return a.chain(std::log(a.v), 1 / a.v);
}
inline Dual abs(const Dual& a) {
  return a.v < 0 ? -a : a;
}

inline double value_of(double a) {
  return a;
}
inline double value_of(const Dual& a) {
  return a.v;
}

// Held at a bound: there the derivative is zero.
inline double clip(double a, double low, double high) {
  return a < low ? low : a > high ? high : a;
}
inline Dual clip(const Dual& a, double low, double high) {
  return a.v < low ? Dual(low) : a.v > high ? Dual(high) : a;
}

}  // namespace nfscale
