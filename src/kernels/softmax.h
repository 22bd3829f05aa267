// The softmax of an attention and its gradient, over tiles of scores. T is float or Bf16; tiles are
// float with rows of `ld` numbers, a multiple of 16.
#pragma once

#include "kernels/types.h"

namespace nfscale {

template <class T>
struct Softmax {
  // p = exp(scale s) / sum, log_sums = ln of the sum, by row. A score of -1e30 counts for nothing.
  // The tile is used up.
  void (*forward)(float* s, int64_t ld, int64_t rows, float scale, T* p, float* log_sums);
  // p again from its scores, and d_s = scale p (d_p - sum of p d_p). The scores are used up.
  void (*backward)(float* s, const float* d_p, int64_t ld, int64_t rows, float scale,
                   const float* log_sums, T* p, T* d_s);
};

// Those of the best instruction set here.
template <class T>
Softmax<T> softmax();

}  // namespace nfscale
