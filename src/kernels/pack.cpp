#include "kernels/pack.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/pack.cpp"
#include <hwy/foreach_target.h>
// After foreach_target: once for each instruction set.
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nfscale::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// The kSide numbers of each 128-bit block to a row of their own.
template <int64_t kSide, class D, class U>
HWY_INLINE void store_blocks(D d, hn::Vec<D> v, U* out, int64_t ldo) {
  if constexpr (hn::MaxLanes(d) == kSide) {
    hn::StoreU(v, d, out);
  } else {
    const hn::Half<D> half;
    store_blocks<kSide>(half, hn::LowerHalf(half, v), out, ldo);
    store_blocks<kSide>(half, hn::UpperHalf(half, v), out + hn::Lanes(half) * ldo, ldo);
  }
}

// Taking the lanes of vectors i and i + kSide / 2 by turns, log2(kSide) times, transposes the
// square of numbers in each 128-bit block of kSide vectors.
template <int64_t kSide, class D, class U>
HWY_INLINE void transpose_squares(D d, const U* x, int64_t ldx, U* out, int64_t ldo) {
  hn::Vec<D> v[kSide], w[kSide];
  NFSCALE_UNROLL
  for (int64_t i = 0; i < kSide; ++i) v[i] = hn::LoadU(d, x + i * ldx);
  NFSCALE_UNROLL
  for (int64_t round = kSide; round > 1; round /= 2) {
    NFSCALE_UNROLL
    for (int64_t i = 0; i < kSide / 2; ++i) {
      w[2 * i] = hn::InterleaveLower(d, v[i], v[i + kSide / 2]);
      w[2 * i + 1] = hn::InterleaveUpper(d, v[i], v[i + kSide / 2]);
    }
    NFSCALE_UNROLL
    for (int64_t i = 0; i < kSide; ++i) v[i] = w[i];
  }
  NFSCALE_UNROLL
  for (int64_t i = 0; i < kSide; ++i) store_blocks<kSide>(d, v[i], out + i * ldo, ldo);
}
#endif

template <class U, int64_t kSide>
void transpose(const U* x, int64_t ldx, int64_t rows, int64_t columns, U* out, int64_t ldo) {
  int64_t whole_rows = 0, whole_columns = 0;
#if HWY_TARGET != HWY_SCALAR
  whole_rows = rows - rows % kSide;
  // Bands of rows that fill a cache line of out, each read along its rows: x may come from memory.
  constexpr int64_t kBand = 64 / sizeof(U);
  const auto pass = [&](auto d) HWY_ATTR {
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    const int64_t first = whole_columns, past = columns - (columns - first) % lanes;
    for (int64_t band = 0; band < whole_rows; band += kBand)
      for (int64_t c = first; c < past; c += lanes)
        for (int64_t r = band; r < std::min(band + kBand, whole_rows); r += kSide)
          transpose_squares<kSide>(d, x + r * ldx + c, ldx, out + c * ldo + r, ldo);
    whole_columns = past;
  };
  pass(hn::ScalableTag<U>());
  pass(hn::FixedTag<U, kSide>());
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

Pack pack_table() {
  return {transpose<uint16_t, 8>, transpose<uint32_t, 4>, interleave_rows};
}

}  // namespace nfscale::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nfscale {

HWY_EXPORT(pack_table);

Pack pack() {
  return HWY_DYNAMIC_DISPATCH(pack_table)();
}

}  // namespace nfscale
#endif
