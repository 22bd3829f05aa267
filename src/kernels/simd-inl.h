// What the kernels share, once for each instruction set: loads and stores of both types, loops over
// rows. Included by each kernel's .cpp after <hwy/foreach_target.h>.
#if defined(NFSCALE_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NFSCALE_SIMD_INL_H_
#undef NFSCALE_SIMD_INL_H_
#else
#define NFSCALE_SIMD_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <type_traits>

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
// The upper halves are those of bfloat16: to the nearest, ties to even; not a number stays one.
template <class D>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> rounded_to_bf16(D, hn::Vec<D> v) {
  const hn::RebindToUnsigned<D> du32;
  const auto bits = hn::BitCast(du32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du32, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du32, 0x7FFF)));
  return hn::IfThenElse(hn::RebindMask(du32, hn::IsNaN(v)), hn::Set(du32, 0x7FC00000u), rounded);
}
template <class D>
HWY_INLINE void store(D d, hn::Vec<D> v, Bf16* p) {
  const hn::Rebind<uint16_t, D> du16;
  hn::StoreU(hn::TruncateTo(du16, hn::ShiftRight<16>(rounded_to_bf16(d, v))), du16,
             reinterpret_cast<uint16_t*>(p));
}

// Rows of activations are long apart and few in a page, so that the prefetchers of a processor come
// late: a pass asks for what it will need itself. How far ahead, in numbers, for rows of n.
HWY_INLINE int64_t ahead(int64_t n, int64_t ld) {
  constexpr int64_t kAhead = 1024;
  return n >= kAhead ? kAhead : (kAhead + n - 1) / n * ld;
}
// Rows of n numbers, ld apart, read in order.
template <class T>
struct Stream {
  const T* p;
  int64_t ld, next;
  HWY_INLINE Stream(const T* rows, int64_t n, int64_t row_length)
      : p(rows), ld(row_length), next(ahead(n, row_length)) {}
  template <class D>
  HWY_INLINE hn::Vec<D> at(D d, int64_t r, int64_t i) const {
    hwy::Prefetch(p + r * ld + i + next);
    return load(d, p + r * ld + i);
  }
};

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

// out[r][i] = value(tag, r, i), a vector at a time. Two vectors are one of bfloat16.
template <class T, class Value>
HWY_INLINE void write_rows(int64_t rows, int64_t n, T* out, int64_t ldo, const Value& value) {
  [[maybe_unused]] const int64_t next = ahead(n, ldo);
  for (int64_t r = 0; r < rows; ++r, out += ldo) {
    int64_t done = 0;
#if HWY_TARGET != HWY_SCALAR
    if constexpr (std::is_same_v<T, Bf16>) {
      const hn::ScalableTag<float> d;
      const hn::Repartition<uint16_t, decltype(d)> du16;
      const auto lanes = static_cast<int64_t>(hn::Lanes(d));
      for (; done + 2 * lanes <= n; done += 2 * lanes) {
        hwy::Prefetch(out + done + next);
        const auto low = hn::BitCast(du16, rounded_to_bf16(d, value(d, r, done))),
                   high = hn::BitCast(du16, rounded_to_bf16(d, value(d, r, done + lanes)));
        hn::StoreU(hn::ConcatOdd(du16, high, low), du16, reinterpret_cast<uint16_t*>(out + done));
      }
    }
#endif
    for_lanes(n - done,
              [&](auto d, int64_t i) HWY_ATTR { store(d, value(d, r, done + i), out + done + i); });
  }
}

// 2^t for |t| < 127, relative error 7e-5. Adding 1.5 * 2^23 leaves the nearest whole number in the
// last bits.
template <class D>
HWY_INLINE hn::Vec<D> power_of_two(D d, hn::Vec<D> t) {
  const auto magic = hn::Set(d, 12582912.0f), shifted = hn::Add(t, magic);
  const auto f = hn::Sub(t, hn::Sub(shifted, magic));
  auto p = hn::MulAdd(hn::Set(d, 0.0551716703f), f, hn::Set(d, 0.242611125f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.693260985f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.999928073f));
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

}  // namespace nfscale::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
