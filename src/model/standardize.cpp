#include "model/standardize.h"

#include <algorithm>
#include <cmath>

#include "model/rows.h"

namespace nfscale {

template <class T>
RowStatistics row_statistics(const T* w, int64_t n, Numerics numerics) {
  const auto count = static_cast<double>(n);
  const double mean = row_sum(w, n) / count, centred = row_squares(w, mean, n);
  const double squares = centred + count * mean * mean;
  if (numerics == Numerics::timm)
    return {mean, 1 / std::sqrt(centred + 1e-5 * count), squares, false};
  return {mean, 1 / std::sqrt(std::max(centred, 1e-4)), squares, centred < 1e-4};
}

template <class T>
double standardize_row_backward(const T* w, const RowStatistics& row, double gain, double factor,
                                const T* d_out, T* d_w, int64_t n) {
  const double along = row_dot(d_out, w, row.mean, n),
               mean = row_sum(d_out, n) / static_cast<double>(n);
  const double scale = factor * row.scale * gain;
  const double back = row.constant_scale ? 0 : along * row.scale * row.scale * scale;
  row_combine(d_w, d_out, scale, mean, w, back, row.mean, n);
  return factor * along * row.scale;
}

template RowStatistics row_statistics(const float*, int64_t, Numerics);
template RowStatistics row_statistics(const double*, int64_t, Numerics);
template double standardize_row_backward(const float*, const RowStatistics&, double, double,
                                         const float*, float*, int64_t);
template double standardize_row_backward(const double*, const RowStatistics&, double, double,
                                         const double*, double*, int64_t);

}  // namespace nfscale
