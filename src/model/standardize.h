// Scaled weight standardisation of one row, the weights of one output channel (B21 section 4.1,
// both programs' epsilons): factor * gain * (w - mean) / sqrt(n * variance), n numbers in the row.
#pragma once

#include <cstdint>

namespace nfscale {

enum class Numerics { deepmind, timm };  // which reference program is followed where they differ

struct RowStatistics {
  double mean = 0, scale = 0;  // scale: 1 / sqrt(n * variance), with the epsilon of the numerics
  double squares = 0;          // sum of w^2
  // deepmind's maximum took the epsilon: no gradient goes through the variance.
  bool constant_scale = false;
};

template <class T>
RowStatistics row_statistics(const T* w, int64_t n, Numerics numerics);

// With c = w - mean, s the scale and k = factor * gain:
//   d gain = factor s sum(d out c)
//   d w = k s (d out - mean(d out)) - k s^3 sum(d out c) c
// the last part only where s depends on the weights. d_w may be d_out. Returns d gain.
template <class T>
double standardize_row_backward(const T* w, const RowStatistics& row, double gain, double factor,
                                const T* d_out, T* d_w, int64_t n);

}  // namespace nfscale
