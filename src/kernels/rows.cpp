#include "kernels/rows.h"

#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rows.cpp"
#include <hwy/foreach_target.h>
// After foreach_target: once for each instruction set.
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nfscale::HWY_NAMESPACE {

// Two vectors of doubles for a vector of T, so that sums of floats are sums of doubles.
using Wide = hn::ScalableTag<double>;
using V = hn::Vec<Wide>;

HWY_INLINE V widen(const double* p) {
  return hn::LoadU(Wide(), p);
}
HWY_INLINE V widen(const float* p) {
  return hn::PromoteTo(Wide(), hn::LoadU(hn::Rebind<float, Wide>(), p));
}

// Sums of kSums terms at once: term(i, out) adds a vector of doubles of element i on to each of
// out. Four vectors by turns, so that additions do not wait for each other.
template <int kSums, class Term, class Last>
HWY_INLINE void accumulate(int64_t n, double (&sums)[kSums], const Term& term, const Last& last) {
  const Wide d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V a[kSums], b[kSums], c[kSums], e[kSums];
  for (int s = 0; s < kSums; ++s) a[s] = b[s] = c[s] = e[s] = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    term(i, a);
    term(i + lanes, b);
    term(i + 2 * lanes, c);
    term(i + 3 * lanes, e);
  }
  for (; i + lanes <= n; i += lanes) term(i, a);
  for (int s = 0; s < kSums; ++s)
    sums[s] = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a[s], b[s]), hn::Add(c[s], e[s]))));
  for (; i < n; ++i) last(i);
}

template <class T>
Sums sums_of(const T* x, int64_t n) {
  double s[2];
  accumulate<2>(
      n, s,
      [&](int64_t i, V* out) HWY_ATTR {
        const V v = widen(x + i);
        out[0] = hn::Add(out[0], v);
        out[1] = hn::MulAdd(v, v, out[1]);
      },
      [&](int64_t i) {
        const auto v = static_cast<double>(x[i]);
        s[0] += v;
        s[1] += v * v;
      });
  return {s[0], s[1]};
}

template <class T>
double squares_of(const T* x, double shift, int64_t n) {
  double s[1];
  accumulate<1>(
      n, s,
      [&](int64_t i, V* out) HWY_ATTR {
        const V v = hn::Sub(widen(x + i), hn::Set(Wide(), shift));
        out[0] = hn::MulAdd(v, v, out[0]);
      },
      [&](int64_t i) {
        const double v = static_cast<double>(x[i]) - shift;
        s[0] += v * v;
      });
  return s[0];
}

template <class T>
DotAndSum dot_and_sum_of(const T* a, const T* x, double shift, int64_t n) {
  double s[2];
  accumulate<2>(
      n, s,
      [&](int64_t i, V* out) HWY_ATTR {
        const V v = widen(a + i);
        out[0] = hn::MulAdd(v, hn::Sub(widen(x + i), hn::Set(Wide(), shift)), out[0]);
        out[1] = hn::Add(out[1], v);
      },
      [&](int64_t i) {
        const auto v = static_cast<double>(a[i]);
        s[0] += v * (static_cast<double>(x[i]) - shift);
        s[1] += v;
      });
  return {s[0], s[1]};
}

// Maps in the type of the numbers: work(tag, i).
template <class T, class Work>
HWY_INLINE void map(int64_t n, const Work& work) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) work(d, i);
  for (; i < n; ++i) work(hn::CappedTag<T, 1>(), i);
}

template <class T>
void add_row(T* x, const T* y, int64_t n) {
  map<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, x + i);
  });
}

template <class T>
void scale_row(T* out, const T* x, double factor, double shift, int64_t n) {
  const T f = static_cast<T>(factor), s = static_cast<T>(shift);
  map<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::Set(d, f), hn::Sub(hn::LoadU(d, x + i), hn::Set(d, s))), d, out + i);
  });
}

template <class T>
double combine_rows(T* out, const T* a, double factor, double a_shift, const T* x, double back,
                    double x_shift, int64_t n) {
  const T f = static_cast<T>(factor), as = static_cast<T>(a_shift), b = static_cast<T>(back),
          xs = static_cast<T>(x_shift);
  map<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto pull = hn::Mul(hn::Set(d, b), hn::Sub(hn::LoadU(d, x + i), hn::Set(d, xs)));
    const auto own = hn::Sub(hn::LoadU(d, a + i), hn::Set(d, as));
    hn::StoreU(hn::MulSub(hn::Set(d, f), own, pull), d, out + i);
  });
  return squares_of(out, 0, n);
}

// average = keep average + give p
template <class D, class T>
HWY_INLINE void average_in(D d, hn::Vec<D> p, T keep, T give, T* average) {
  const auto own = hn::Mul(hn::Set(d, give), p);
  hn::StoreU(hn::MulAdd(hn::Set(d, keep), hn::LoadU(d, average), own), d, average);
}

template <class T>
Sums sgd_row(T* p, T* m, T* average, const T* g, double factor, const SgdNumbers& numbers,
             int64_t n) {
  const T f = static_cast<T>(factor), decay = static_cast<T>(numbers.decay),
          momentum = static_cast<T>(numbers.momentum), rate = static_cast<T>(numbers.rate),
          keep = static_cast<T>(numbers.ema_keep), give = static_cast<T>(1 - numbers.ema_keep);
  map<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto old = hn::LoadU(d, p + i), mu = hn::Set(d, momentum);
    const auto grad =
        hn::MulAdd(hn::Set(d, f), hn::LoadU(d, g + i), hn::Mul(hn::Set(d, decay), old));
    const auto velocity = hn::MulAdd(mu, hn::LoadU(d, m + i), grad);
    const auto step = numbers.nesterov ? hn::MulAdd(mu, velocity, grad) : velocity;
    const auto now = hn::NegMulAdd(hn::Set(d, rate), step, old);
    hn::StoreU(velocity, d, m + i);
    hn::StoreU(now, d, p + i);
    if (average) average_in(d, now, keep, give, average + i);
  });
  return sums_of(p, n);
}

template <class T>
Sums adamw_row(T* p, T* m, T* v, T* average, const T* g, double factor, const AdamNumbers& numbers,
               int64_t n) {
  const auto number = [](double x) { return static_cast<T>(x); };
  const T f = number(factor), b1 = number(numbers.beta1), b2 = number(numbers.beta2),
          own1 = number(1 - numbers.beta1), own2 = number(1 - numbers.beta2),
          c1 = number(numbers.correction1), c2 = number(numbers.correction2),
          eps = number(numbers.eps), rate = number(numbers.rate), decay = number(numbers.decay),
          keep = number(numbers.ema_keep), give = number(1 - numbers.ema_keep);
  map<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto old = hn::LoadU(d, p + i);
    const auto grad = hn::Mul(hn::Set(d, f), hn::LoadU(d, g + i));
    const auto mean =
        hn::MulAdd(hn::Set(d, b1), hn::LoadU(d, m + i), hn::Mul(hn::Set(d, own1), grad));
    const auto square = hn::MulAdd(hn::Set(d, b2), hn::LoadU(d, v + i),
                                   hn::Mul(hn::Set(d, own2), hn::Mul(grad, grad)));
    const auto size = hn::Add(hn::Sqrt(hn::Mul(hn::Set(d, c2), square)), hn::Set(d, eps));
    const auto step = hn::Div(hn::Mul(hn::Set(d, c1), mean), size);
    const auto now = hn::NegMulAdd(hn::Set(d, rate), hn::MulAdd(hn::Set(d, decay), old, step), old);
    hn::StoreU(mean, d, m + i);
    hn::StoreU(square, d, v + i);
    hn::StoreU(now, d, p + i);
    if (average) average_in(d, now, keep, give, average + i);
  });
  return sums_of(p, n);
}

template <class T>
Rows<T> table() {
  return {sums_of<T>,   squares_of<T>,   dot_and_sum_of<T>, add_row<T>,
          scale_row<T>, combine_rows<T>, sgd_row<T>,        adamw_row<T>};
}
Rows<float> rows_float() {
  return table<float>();
}
Rows<double> rows_double() {
  return table<double>();
}

}  // namespace nfscale::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nfscale {

HWY_EXPORT(rows_float);
HWY_EXPORT(rows_double);

template <>
Rows<float> rows() {
  return HWY_DYNAMIC_DISPATCH(rows_float)();
}
template <>
Rows<double> rows() {
  return HWY_DYNAMIC_DISPATCH(rows_double)();
}

}  // namespace nfscale
#endif
