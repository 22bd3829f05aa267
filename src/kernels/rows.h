// Passes over the rows of weights, each n contiguous numbers that fit a cache. T is float or
// double; sums are double, in a fixed order that depends on the instruction set alone.
#pragma once

#include "kernels/types.h"

namespace nfscale {

// The settings of an update of SGD that are one number for a whole parameter.
struct SgdNumbers {
  double decay = 0, momentum = 0.9, rate = 0, ema_keep = 0;
  bool nesterov = true;
};

// The same of AdamW; the corrections are 1 / (1 - beta^t) of update t = 1, 2, ...
struct AdamNumbers {
  double decay = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, rate = 0, ema_keep = 0;
  double correction1 = 1, correction2 = 1;
};

struct Sums {
  double sum, squares;
};
struct DotAndSum {
  double dot, sum;
};

template <class T>
struct Rows {
  Sums (*sums)(const T* x, int64_t n);
  // sum of (x - shift)^2
  double (*squares)(const T* x, double shift, int64_t n);
  // sum of a (x - shift), sum of a
  DotAndSum (*dot_and_sum)(const T* a, const T* x, double shift, int64_t n);
  // x += y
  void (*add)(T* x, const T* y, int64_t n);
  // out = factor (x - shift)
  void (*scale)(T* out, const T* x, double factor, double shift, int64_t n);
  // out = factor (a - a_shift) - back (x - x_shift); returns the squares of out, which may be a
  double (*combine)(T* out, const T* a, double factor, double a_shift, const T* x, double back,
                    double x_shift, int64_t n);
  // g' = factor g + decay p; m = momentum m + g'; p -= rate (g' + momentum m), or rate m without
  // Nesterov; average = ema_keep average + (1 - ema_keep) p where there is one. Returns the sums of
  // the new p.
  Sums (*sgd)(T* p, T* m, T* average, const T* g, double factor, const SgdNumbers& numbers,
              int64_t n);
  // g' = factor g; m = beta1 m + (1 - beta1) g'; v = beta2 v + (1 - beta2) g'^2;
  // p -= rate (correction1 m / (sqrt(correction2 v) + eps) + decay p); average and result as sgd.
  Sums (*adamw)(T* p, T* m, T* v, T* average, const T* g, double factor, const AdamNumbers& numbers,
                int64_t n);
};

// Those of the best instruction set here.
template <class T>
Rows<T> rows();

}  // namespace nfscale
