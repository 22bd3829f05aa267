#include "kernels/elementwise.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cpp"
#include <hwy/foreach_target.h>
// After foreach_target: once for each instruction set.
#include <hwy/contrib/math/math-inl.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nfscale::HWY_NAMESPACE {

// What an activation and its slope are made of: y = x * share.
template <class D>
struct Gelu {
  hn::Vec<D> share, slope;
};

// 0.5 (1 + tanh(u / 2)) = 1 / (1 + exp(-u)), u = 2 sqrt(2 / pi) (x + 0.044715 x^3).
template <bool kSlope, class D>
HWY_INLINE Gelu<D> gelu_tanh(D d, hn::Vec<D> x) {
  // Beyond 10 the share is 0 or 1 in float; unbounded, the slope would multiply 0 with infinity,
  // and the exponential leave the range that it is made for.
  const auto c = hn::Min(hn::Max(x, hn::Set(d, -10.0f)), hn::Set(d, 10.0f));
  const auto squared = hn::Mul(c, c);
  const auto a = hn::Set(d, 1.5957691216f), b = hn::Set(d, 0.0713548163f);
  const auto u = hn::Mul(c, hn::MulAdd(squared, b, a));
  const auto e = hn::Exp(d, hn::Neg(u)), one = hn::Set(d, 1.0f);
  const auto share = hn::Div(one, hn::Add(one, e));
  if constexpr (!kSlope) return {share, share};
  const auto rise = hn::MulAdd(squared, hn::Set(d, 3 * 0.0713548163f), a);
  // e share is 1 - share without its cancellation.
  const auto bend = hn::Mul(hn::Mul(c, rise), hn::Mul(share, hn::Mul(e, share)));
  return {share, hn::Add(share, bend)};
}

// The normal distribution function by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7 / 2; its
// exponential is that of the density too.
template <bool kSlope, class D>
HWY_INLINE Gelu<D> gelu_erf(D d, hn::Vec<D> x) {
  // Beyond 12 the bell is 0 in float.
  const auto z = hn::Mul(hn::Min(hn::Abs(x), hn::Set(d, 12.0f)), hn::Set(d, 0.70710678f));
  const auto bell = hn::Exp(d, hn::Neg(hn::Mul(z, z))), one = hn::Set(d, 1.0f);
  const auto t = hn::Div(one, hn::MulAdd(z, hn::Set(d, 0.3275911f), one));
  auto p = hn::Set(d, 0.5f * 1.061405429f);
  p = hn::MulAdd(p, t, hn::Set(d, 0.5f * -1.453152027f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.5f * 1.421413741f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.5f * -0.284496736f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.5f * 0.254829592f));
  const auto tail = hn::Mul(hn::Mul(p, t), bell);
  const auto share = hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Sub(one, tail), tail);
  if constexpr (!kSlope) return {share, share};
  const auto c = hn::CopySign(z, x);  // sqrt(2 pi) of the density cancels sqrt(2) of z
  return {share, hn::MulAdd(hn::Mul(c, hn::Set(d, 0.56418958f)), bell, share)};
}

// For bfloat16 both forms are 1 / (1 + 2^q(x)) with an odd polynomial q = c0 x + c1 x^3 + ... For
// tanh that is its definition; for erf q is fitted to log2((1 - Phi(x)) / Phi(x)), which leaves
// errors of 1e-4 in the activation and 3e-4 in its slope: bfloat16 rounds to 2e-3 of a number.
template <Activation kAct>
constexpr std::array<float, 4> kOdds = {-2.29919533f, -0.108436589f, 1.30151615e-3f,
                                        -9.22708636e-6f};
template <>
constexpr std::array<float, 2> kOdds<Activation::gelu_tanh> = {-2.302208198f, -0.1029432407f};

template <bool kSlope, Activation kAct, class D>
HWY_INLINE Gelu<D> gelu_by_odds(D d, hn::Vec<D> x) {
  constexpr auto& c = kOdds<kAct>;
  constexpr size_t n = c.size();
  // 2^q leaves the range of float soon behind 10.
  const auto near = hn::Min(hn::Max(x, hn::Set(d, -10.0f)), hn::Set(d, 10.0f));
  const auto squared = hn::Mul(near, near);
  auto q = hn::Set(d, c[n - 1]);
  for (size_t k = n - 1; k-- > 0;) q = hn::MulAdd(q, squared, hn::Set(d, c[k]));
  const auto e = power_of_two(d, hn::Mul(q, near));
  const auto share = hn::ApproximateReciprocal(hn::Add(hn::Set(d, 1.0f), e));
  if constexpr (!kSlope) return {share, share};
  constexpr auto fall = [](size_t k) {
    return -0.69314718f * static_cast<float>(2 * k + 1) * c[k];
  };
  auto rise = hn::Set(d, fall(n - 1));
  for (size_t k = n - 1; k-- > 0;) rise = hn::MulAdd(rise, squared, hn::Set(d, fall(k)));
  // e share is 1 - share without its cancellation.
  const auto bend = hn::Mul(hn::Mul(near, rise), hn::Mul(e, share));
  return {share, hn::MulAdd(bend, share, share)};
}

// The accuracy is what the type of the activations can hold.
template <class T, bool kSlope, Activation kAct, class D>
HWY_INLINE Gelu<D> gelu(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<T, Bf16>)
    return gelu_by_odds<kSlope, kAct>(d, x);
  else if constexpr (kAct == Activation::gelu_tanh)
    return gelu_tanh<kSlope>(d, x);
  else
    return gelu_erf<kSlope>(d, x);
}

template <Activation kAct, class T>
void gelu_rows(const T* x, int64_t ldx, T* y, int64_t ldy, int64_t rows, int64_t n) {
  const Stream<T> in(x, n, ldx);
  write_rows(rows, n, y, ldy, [&](auto d, int64_t r, int64_t i) HWY_ATTR {
    const auto v = in.at(d, r, i);
    return hn::Mul(v, gelu<T, false, kAct>(d, v).share);
  });
}

template <class T>
void activate_rows(Activation act, const T* x, int64_t ldx, T* y, int64_t ldy, int64_t rows,
                   int64_t n) {
  if (ldx == n && ldy == n) n = std::exchange(rows, 1) * n;
  if (act == Activation::gelu_tanh)
    return gelu_rows<Activation::gelu_tanh>(x, ldx, y, ldy, rows, n);
  if (act == Activation::gelu_erf) return gelu_rows<Activation::gelu_erf>(x, ldx, y, ldy, rows, n);
  for (int64_t r = 0; r < rows; ++r)
    if (n < 16)  // too short for a call
      for (int64_t i = 0; i < n; ++i) y[r * ldy + i] = x[r * ldx + i];
    else
      std::copy_n(x + r * ldx, n, y + r * ldy);
}

template <Activation kAct, class T>
void gelu_backward_rows(const float* g, int64_t ldg, const T* x, int64_t ldx, T* out, int64_t ldo,
                        int64_t rows, int64_t n) {
  const Stream<T> in(x, n, ldx);
  write_rows(rows, n, out, ldo, [&](auto d, int64_t r, int64_t i) HWY_ATTR {
    return hn::Mul(gelu<T, true, kAct>(d, in.at(d, r, i)).slope, load(d, g + r * ldg + i));
  });
}

template <class T>
void activate_backward_rows(Activation act, const float* g, int64_t ldg, const T* x, int64_t ldx,
                            T* out, int64_t ldo, int64_t rows, int64_t n) {
  if (ldg == n && ldx == n && ldo == n) n = std::exchange(rows, 1) * n;
  if (act == Activation::gelu_tanh)
    return gelu_backward_rows<Activation::gelu_tanh>(g, ldg, x, ldx, out, ldo, rows, n);
  if (act == Activation::gelu_erf)
    return gelu_backward_rows<Activation::gelu_erf>(g, ldg, x, ldx, out, ldo, rows, n);
  write_rows(rows, n, out, ldo,
             [&](auto d, int64_t r, int64_t i) HWY_ATTR { return load(d, g + r * ldg + i); });
}

template <Activation kAct, class T>
void add_activated_rows(float factor, const T* x, int64_t ldx, float* tile, int64_t ldt,
                        int64_t rows, int64_t n) {
  const Stream<T> in(x, n, ldx);
  for (int64_t r = 0; r < rows; ++r)
    for_lanes(n, [&](auto d, int64_t i) HWY_ATTR {
      auto v = in.at(d, r, i);
      if constexpr (kAct != Activation::none) v = hn::Mul(v, gelu<T, false, kAct>(d, v).share);
      float* to = tile + r * ldt + i;
      store(d, hn::MulAdd(hn::Set(d, factor), v, load(d, to)), to);
    });
}

template <class T>
void add_activated_rows(Activation act, float factor, const T* x, int64_t ldx, float* tile,
                        int64_t ldt, int64_t rows, int64_t n) {
  if (act == Activation::gelu_tanh)
    return add_activated_rows<Activation::gelu_tanh>(factor, x, ldx, tile, ldt, rows, n);
  if (act == Activation::gelu_erf)
    return add_activated_rows<Activation::gelu_erf>(factor, x, ldx, tile, ldt, rows, n);
  add_activated_rows<Activation::none>(factor, x, ldx, tile, ldt, rows, n);
}

template <Activation kAct, class T>
void add_bias_rows(const float* tile, int64_t ldt, const float* bias, T* y, int64_t ldy,
                   int64_t rows, int64_t n) {
  write_rows(rows, n, y, ldy, [&](auto d, int64_t r, int64_t i) HWY_ATTR {
    auto v = hn::Add(load(d, tile + r * ldt + i), load(d, bias + i));
    if constexpr (kAct != Activation::none) v = hn::Mul(v, gelu<T, false, kAct>(d, v).share);
    return v;
  });
}

template <class T>
void add_bias_rows(Activation act, const float* tile, int64_t ldt, const float* bias, T* y,
                   int64_t ldy, int64_t rows, int64_t n) {
  float repeated[16];
  if (n < 16 && 16 % n == 0 && ldt == n && ldy == n && rows * n % 16 == 0) {
    for (int64_t i = 0; i < 16; ++i) repeated[i] = bias[i % n];
    bias = repeated;
    rows = rows * n / 16;
    n = ldt = ldy = 16;
  }
  if (act == Activation::gelu_tanh)
    return add_bias_rows<Activation::gelu_tanh>(tile, ldt, bias, y, ldy, rows, n);
  if (act == Activation::gelu_erf)
    return add_bias_rows<Activation::gelu_erf>(tile, ldt, bias, y, ldy, rows, n);
  add_bias_rows<Activation::none>(tile, ldt, bias, y, ldy, rows, n);
}

// Sums of many rows are sums of the sums of kRows, or their last bits would be lost.
constexpr int64_t kRows = 128;

template <class T>
void column_sums_rows(const T* x, int64_t ldx, int64_t rows, int64_t n, float* sums) {
  for (; rows > 0; rows -= kRows, x += kRows * ldx)
    for_lanes(n, [&](auto d, int64_t i) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (int64_t r = 0; r < std::min(rows, kRows); ++r)
        sum = hn::Add(sum, load(d, x + r * ldx + i));
      store(d, hn::Add(sum, load(d, sums + i)), sums + i);
    });
}

template <class T>
void column_dots_rows(const T* a, const T* b, int64_t rows, int64_t n, float* sums) {
  for (; rows > 0; rows -= kRows, a += kRows * n, b += kRows * n)
    for_lanes(n, [&](auto d, int64_t i) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (int64_t r = 0; r < std::min(rows, kRows); ++r)
        sum = hn::MulAdd(load(d, a + r * n + i), load(d, b + r * n + i), sum);
      store(d, hn::Add(sum, load(d, sums + i)), sums + i);
    });
}

template <class T>
void scale_add_rows(const T* shortcut, const T* x, const float* factor, T* out, int64_t rows,
                    int64_t n) {
  const Stream<T> in(x, n, n), beside(shortcut, n, n);
  write_rows(rows, n, out, n, [&](auto d, int64_t r, int64_t i) HWY_ATTR {
    return hn::MulAdd(in.at(d, r, i), load(d, factor + i), beside.at(d, r, i));
  });
}

template <class T>
void scale_shift_rows(const T* x, const float* factor, const float* shift, T* out, int64_t rows,
                      int64_t n) {
  const Stream<T> in(x, n, n);
  write_rows(rows, n, out, n, [&](auto d, int64_t r, int64_t i) HWY_ATTR {
    return hn::MulAdd(in.at(d, r, i), load(d, factor + i), load(d, shift + i));
  });
}

template <class T>
Elementwise<T> table() {
  return {activate_rows<T>,  activate_backward_rows<T>, add_activated_rows<T>,
          add_bias_rows<T>,  column_sums_rows<T>,       column_dots_rows<T>,
          scale_add_rows<T>, scale_shift_rows<T>};
}
Elementwise<float> elementwise_float() {
  return table<float>();
}
Elementwise<Bf16> elementwise_bf16() {
  return table<Bf16>();
}

}  // namespace nfscale::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nfscale {

HWY_EXPORT(elementwise_float);
HWY_EXPORT(elementwise_bf16);

template <>
Elementwise<float> elementwise() {
  return HWY_DYNAMIC_DISPATCH(elementwise_float)();
}
template <>
Elementwise<Bf16> elementwise() {
  return HWY_DYNAMIC_DISPATCH(elementwise_bf16)();
}

}  // namespace nfscale
#endif
