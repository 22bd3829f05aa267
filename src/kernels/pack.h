// Rearrangements in front of matrix products.
#pragma once

#include "kernels/types.h"

namespace nfscale {

struct Pack {
  // out[c][r] = x[r][c]
  void (*transpose16)(const uint16_t* x, int64_t ldx, int64_t rows, int64_t columns, uint16_t* out,
                      int64_t ldo);
  void (*transpose32)(const uint32_t* x, int64_t ldx, int64_t rows, int64_t columns, uint32_t* out,
                      int64_t ldo);
  // out[r / 2][c][r % 2] = x[r][c]: pairs of rows beside each other, as products of bfloat16 read
  // them. An odd last row has zeros for its partner. Rows of out are 2 ldo apart.
  void (*interleave)(const Bf16* x, int64_t ldx, int64_t rows, int64_t columns, Bf16* out,
                     int64_t ldo);
};

// Those of the best instruction set here.
Pack pack();

}  // namespace nfscale
