// What the kernels share, once for each instruction set: loads and stores of both types, loops over
// rows. Included by each kernel's .cpp after <hwy/foreach_target.h>.
#if defined(NFSCALE_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NFSCALE_SIMD_INL_H_
#undef NFSCALE_SIMD_INL_H_
#else
#define NFSCALE_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/types.h"

// Arrays of vectors are registers only in loops without a loop.
#ifdef __clang__
#define NFSCALE_UNROLL _Pragma("unroll")
#else
#define NFSCALE_UNROLL _Pragma("GCC unroll 8")
#endif

HWY_BEFORE_NAMESPACE();
namespace nfscale::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, float* p) {
  hn::StoreU(v, d, p);
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const Bf16* p) {
  const hn::RebindToUnsigned<D> du32;
  const hn::Rebind<uint16_t, D> du16;
  const auto bits = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, bits)));
}
// To the nearest, ties to even; not a number stays one.
template <class D>
HWY_INLINE void store(D, hn::Vec<D> v, Bf16* p) {
  const hn::RebindToUnsigned<D> du32;
  const hn::Rebind<uint16_t, D> du16;
  const auto bits = hn::BitCast(du32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du32, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du32, 0x7FFF)));
  const auto safe =
      hn::IfThenElse(hn::RebindMask(du32, hn::IsNaN(v)), hn::Set(du32, 0x7FC00000u), rounded);
  hn::StoreU(hn::TruncateTo(du16, hn::ShiftRight<16>(safe)), du16, reinterpret_cast<uint16_t*>(p));
}

// Calls body(tag, i) so that [0, n) is covered once, with vectors that become shorter at the end.
template <class Body>
HWY_INLINE void for_lanes(int64_t n, const Body& body) {
  const hn::ScalableTag<float> full;
  const auto lanes = static_cast<int64_t>(hn::Lanes(full));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(full, i);
  const hn::CappedTag<float, 8> eight;
  const hn::CappedTag<float, 4> four;
  const hn::CappedTag<float, 1> one;
  if (hn::Lanes(eight) == 8 && i + 8 <= n) {
    body(eight, i);
    i += 8;
  }
  for (; hn::Lanes(four) == 4 && i + 4 <= n; i += 4) body(four, i);
  for (; i < n; ++i) body(one, i);
}

}  // namespace nfscale::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
