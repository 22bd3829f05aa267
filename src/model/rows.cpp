#include "model/rows.h"

namespace nfscale {
namespace {

// Independent partial sums, so that the additions of a row do not wait for each other.
constexpr int64_t kLanes = 16;

template <class Term>
[[gnu::always_inline]] inline double lanes(int64_t n, Term term) {
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += term(i + lane);
  for (int64_t lane = 0; i < n; ++i, ++lane) sums[lane] += term(i);
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

}  // namespace

#define NFSCALE_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
// The same text for both types: clones cannot be made of templates.
#define NFSCALE_ROWS(T)                                                                          \
  NFSCALE_CLONES double row_sum(const T* x, int64_t n) {                                         \
    return lanes(n, [=](int64_t i) { return static_cast<double>(x[i]); });                       \
  }                                                                                              \
  NFSCALE_CLONES double row_squares(const T* x, double shift, int64_t n) {                       \
    return lanes(n, [=](int64_t i) {                                                             \
      const double c = static_cast<double>(x[i]) - shift;                                        \
      return c * c;                                                                              \
    });                                                                                          \
  }                                                                                              \
  NFSCALE_CLONES double row_dot(const T* a, const T* x, double shift, int64_t n) {               \
    return lanes(n, [=](int64_t i) {                                                             \
      return static_cast<double>(a[i]) * (static_cast<double>(x[i]) - shift);                    \
    });                                                                                          \
  }                                                                                              \
  NFSCALE_CLONES void row_scale(T* out, const T* x, double factor, double shift, int64_t n) {    \
    for (int64_t i = 0; i < n; ++i)                                                              \
      out[i] = static_cast<T>(factor * (static_cast<double>(x[i]) - shift));                     \
  }                                                                                              \
  NFSCALE_CLONES void row_combine(T* out, const T* a, double factor, double a_shift, const T* x, \
                                  double back, double x_shift, int64_t n) {                      \
    for (int64_t i = 0; i < n; ++i)                                                              \
      out[i] = static_cast<T>(factor * (static_cast<double>(a[i]) - a_shift) -                   \
                              back * (static_cast<double>(x[i]) - x_shift));                     \
  }                                                                                              \
  NFSCALE_CLONES void row_sgd(T* p, T* m, T* average, const T* g, double factor,                 \
                              const SgdNumbers& numbers, int64_t n) {                            \
    const T f = static_cast<T>(factor), wd = static_cast<T>(numbers.decay);                      \
    const T mu = static_cast<T>(numbers.momentum), lr = static_cast<T>(numbers.rate);            \
    const T own = static_cast<T>(numbers.nesterov ? 1 : 0);                                      \
    const T carried = numbers.nesterov ? mu : static_cast<T>(1);                                 \
    for (int64_t i = 0; i < n; ++i) {                                                            \
      const T grad = f * g[i] + wd * p[i];                                                       \
      m[i] = mu * m[i] + grad;                                                                   \
      p[i] -= lr * (own * grad + carried * m[i]);                                                \
    }                                                                                            \
    if (!average) return;                                                                        \
    const T keep = static_cast<T>(numbers.ema_keep), add = static_cast<T>(1 - numbers.ema_keep); \
    for (int64_t i = 0; i < n; ++i) average[i] = keep * average[i] + add * p[i];                 \
  }

NFSCALE_ROWS(float)
NFSCALE_ROWS(double)

}  // namespace nfscale
