#include "kernels/pack.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/pack.cpp"
#include <hwy/foreach_target.h>
// After foreach_target: once for each instruction set.
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nfscale::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// A square of kSide x kSide numbers in vectors of 128 bits. Taking the lanes of vectors i and
// i + kSide / 2 by turns, log2(kSide) times, transposes.
template <class U, int64_t kSide>
HWY_INLINE void transpose_square(const U* x, int64_t ldx, U* out, int64_t ldo) {
  const hn::FixedTag<U, kSide> d;
  hn::Vec<decltype(d)> v[kSide], w[kSide];
  for (int64_t i = 0; i < kSide; ++i) v[i] = hn::LoadU(d, x + i * ldx);
  for (int64_t round = kSide; round > 1; round /= 2) {
    for (int64_t i = 0; i < kSide / 2; ++i) {
      w[2 * i] = hn::InterleaveLower(d, v[i], v[i + kSide / 2]);
      w[2 * i + 1] = hn::InterleaveUpper(d, v[i], v[i + kSide / 2]);
    }
    for (int64_t i = 0; i < kSide; ++i) v[i] = w[i];
  }
  for (int64_t i = 0; i < kSide; ++i) hn::StoreU(v[i], d, out + i * ldo);
}
#endif

template <class U, int64_t kSide>
void transpose(const U* x, int64_t ldx, int64_t rows, int64_t columns, U* out, int64_t ldo) {
  int64_t whole_rows = 0, whole_columns = 0;
#if HWY_TARGET != HWY_SCALAR
  whole_rows = rows - rows % kSide;
  whole_columns = columns - columns % kSide;
  for (int64_t c = 0; c < whole_columns; c += kSide)
    for (int64_t r = 0; r < whole_rows; r += kSide)
      transpose_square<U, kSide>(x + r * ldx + c, ldx, out + c * ldo + r, ldo);
#endif
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      out[c * ldo + r] = x[r * ldx + c];
}

void interleave_rows(const Bf16* x, int64_t ldx, int64_t rows, int64_t columns, Bf16* out,
                     int64_t ldo) {
  const auto* from = reinterpret_cast<const uint16_t*>(x);
  auto* to = reinterpret_cast<uint16_t*>(out);
  for (int64_t r = 0; r < rows; r += 2) {
    const uint16_t* upper = from + r * ldx;
    const uint16_t* lower = r + 1 < rows ? upper + ldx : nullptr;
    uint16_t* pairs = to + r * ldo;
    int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
    const hn::FixedTag<uint16_t, 8> d;
    for (; lower && c + 8 <= columns; c += 8) {
      const auto a = hn::LoadU(d, upper + c), b = hn::LoadU(d, lower + c);
      hn::StoreU(hn::InterleaveLower(d, a, b), d, pairs + 2 * c);
      hn::StoreU(hn::InterleaveUpper(d, a, b), d, pairs + 2 * c + 8);
    }
#endif
    for (; c < columns; ++c) {
      pairs[2 * c] = upper[c];
      pairs[2 * c + 1] = lower ? lower[c] : uint16_t{0};
    }
  }
}

Pack table() {
  return {transpose<uint16_t, 8>, transpose<uint32_t, 4>, interleave_rows};
}

}  // namespace nfscale::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nfscale {

HWY_EXPORT(table);

Pack pack() {
  return HWY_DYNAMIC_DISPATCH(table)();
}

}  // namespace nfscale
#endif
