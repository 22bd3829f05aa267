#include "kernels/softmax.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax.cpp"
#include <hwy/foreach_target.h>
// After foreach_target: once for each instruction set.
#include <hwy/contrib/math/math-inl.h>

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nfscale::HWY_NAMESPACE {

using Lanes = hn::CappedTag<float, 16>;

// e^x for x <= 0, as exactly as the type of the probabilities can hold.
template <class T, class D>
HWY_INLINE hn::Vec<D> exponential(D d, hn::Vec<D> x) {
  // Not a number stays one: a model that diverges must not look well.
  hn::Vec<D> e;
  if constexpr (std::is_same_v<T, Bf16>)
    e = power_of_two(d, hn::Max(hn::Mul(x, hn::Set(d, 1.44269504f)), hn::Set(d, -126.0f)));
  else
    e = hn::Exp(d, hn::Max(x, hn::Set(d, -87.0f)));
  return hn::IfThenElse(hn::IsNaN(x), x, e);
}

template <class T>
void softmax_forward(float* s, int64_t ld, int64_t rows, float scale, T* p, float* log_sums) {
  const Lanes d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r) {
    float* row = s + r * ld;
    auto most = hn::LoadU(d, row);
    for (int64_t i = lanes; i < ld; i += lanes) most = hn::Max(most, hn::LoadU(d, row + i));
    const float top = hn::GetLane(hn::MaxOfLanes(d, most));
    auto sum = hn::Zero(d);
    for (int64_t i = 0; i < ld; i += lanes) {
      const auto below = hn::Sub(hn::LoadU(d, row + i), hn::Set(d, top));
      const auto e = exponential<T>(d, hn::Mul(below, hn::Set(d, scale)));
      sum = hn::Add(sum, e);
      hn::StoreU(e, d, row + i);
    }
    const float total = hn::GetLane(hn::SumOfLanes(d, sum));
    log_sums[r] = scale * top + std::log(total);
    write_rows(1, ld, p + r * ld, ld, [&](auto tag, int64_t, int64_t i) HWY_ATTR {
      return hn::Mul(load(tag, row + i), hn::Set(tag, 1 / total));
    });
  }
}

template <class T>
void softmax_backward(float* s, const float* d_p, int64_t ld, int64_t rows, float scale,
                      const float* log_sums, T* p, T* d_s) {
  const Lanes d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r) {
    float* row = s + r * ld;
    const float* beside = d_p + r * ld;
    auto sum = hn::Zero(d);
    for (int64_t i = 0; i < ld; i += lanes) {
      const auto x = hn::MulSub(hn::LoadU(d, row + i), hn::Set(d, scale), hn::Set(d, log_sums[r]));
      const auto e = exponential<T>(d, x);
      sum = hn::MulAdd(e, hn::LoadU(d, beside + i), sum);
      hn::StoreU(e, d, row + i);
    }
    const float dot = hn::GetLane(hn::SumOfLanes(d, sum));
    write_rows(1, ld, p + r * ld, ld,
               [&](auto tag, int64_t, int64_t i) HWY_ATTR { return load(tag, row + i); });
    write_rows(1, ld, d_s + r * ld, ld, [&](auto tag, int64_t, int64_t i) HWY_ATTR {
      const auto from_mean = hn::Sub(load(tag, beside + i), hn::Set(tag, dot));
      return hn::Mul(hn::Mul(load(tag, row + i), hn::Set(tag, scale)), from_mean);
    });
  }
}

Softmax<float> softmax_float() {
  return {softmax_forward<float>, softmax_backward<float>};
}
Softmax<Bf16> softmax_bf16() {
  return {softmax_forward<Bf16>, softmax_backward<Bf16>};
}

}  // namespace nfscale::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nfscale {

HWY_EXPORT(softmax_float);
HWY_EXPORT(softmax_bf16);

template <>
Softmax<float> softmax() {
  return HWY_DYNAMIC_DISPATCH(softmax_float)();
}
template <>
Softmax<Bf16> softmax() {
  return HWY_DYNAMIC_DISPATCH(softmax_bf16)();
}

}  // namespace nfscale
#endif
