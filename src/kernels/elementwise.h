// Passes over activations: rows of n channels, `ld` apart. T is float or Bf16; sums and tiles are
// float.
#pragma once

#include "kernels/types.h"

namespace nfscale {

template <class T>
struct Elementwise {
  // y = act(x)
  void (*activate)(Activation act, const T* x, int64_t ldx, T* y, int64_t ldy, int64_t rows,
                   int64_t n);
  // out = g act'(x), of a tile of gradients; x is not read without an activation.
  void (*activate_backward)(Activation act, const float* g, int64_t ldg, const T* x, int64_t ldx,
                            T* out, int64_t ldo, int64_t rows, int64_t n);
  // tile += factor act(x)
  void (*add_activated)(Activation act, float factor, const T* x, int64_t ldx, float* tile,
                        int64_t ldt, int64_t rows, int64_t n);
  // y = act(tile + bias)
  void (*add_bias)(Activation act, const float* tile, int64_t ldt, const float* bias, T* y,
                   int64_t ldy, int64_t rows, int64_t n);
  // sums += the sums of the columns of x
  void (*column_sums)(const T* x, int64_t ldx, int64_t rows, int64_t n, float* sums);
  // sums += the sums of the columns of a * b, of dense rows
  void (*column_dots)(const T* a, const T* b, int64_t rows, int64_t n, float* sums);
  // out = shortcut + x * factor, of dense rows with one factor a column
  void (*scale_add)(const T* shortcut, const T* x, const float* factor, T* out, int64_t rows,
                    int64_t n);
  // out = x * factor + shift, of dense rows with one of each a column
  void (*scale_shift)(const T* x, const float* factor, const float* shift, T* out, int64_t rows,
                      int64_t n);
};

// Those of the best instruction set here.
template <class T>
Elementwise<T> elementwise();

}  // namespace nfscale
