#include "model/squeeze_excite.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kernels/elementwise.h"
#include "kernels/pack.h"
#include "model/parallel.h"
#include "model/products.h"

namespace nfscale {
namespace {

struct Sizes {
  int64_t batch, channels, pixels, hidden;
};
Sizes sizes_of(const at::Tensor& x, const SqueezeExcite& se) {
  return {x.size(0), x.size(1), x.size(2) * x.size(3), se.w1.size(0)};
}

float* floats(const at::Tensor& t) {
  return t.data_ptr<float>();
}

// out [columns, rows] = x [rows, columns]
void transpose(const float* x, int64_t rows, int64_t columns, float* out) {
  pack().transpose32(reinterpret_cast<const uint32_t*>(x), columns, rows, columns,
                     reinterpret_cast<uint32_t*>(out), rows);
}

// c [m, n] = a [m, k] b [k, n], all dense.
void dense_product(int64_t m, int64_t n, int64_t k, const float* a, const float* b, float* c) {
  product<float>(m, n, k, a, k, b, n, c, n, false);
}

// Examples [first, last) for a thread each: work(first, last).
template <class Work>
void for_shares(int64_t batch, const Work& work) {
  const int64_t shares = std::min<int64_t>(at::get_num_threads(), batch);
  at::parallel_for(0, shares, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      work(s * batch / shares, (s + 1) * batch / shares);
      end_products<float>();
    }
  });
}

float factor_of(const at::Tensor& factor, int64_t example) {
  return floats(factor)[factor.numel() == 1 ? 0 : example];
}

}  // namespace

// Weights are large and examples few, so a layer is its weights, as they lie in memory, times
// columns of examples.
at::Tensor squeeze_excite_forward(const at::Tensor& shortcut, const at::Tensor& x,
                                  const SqueezeExcite& se, const at::Tensor& factor,
                                  SqueezeExciteState& state) {
  const auto [batch, channels, pixels, hidden] = sizes_of(x, se);
  state.pooled = at::empty({batch, channels}, at::kFloat);
  state.hidden = at::empty({batch, hidden}, at::kFloat);
  state.gate = at::empty({batch, channels}, at::kFloat);
  at::Tensor out = at::empty_like(x);
  for_type(x, [&, c = channels, p = pixels, e = hidden, n = batch]<class T>(T) {
    const Elementwise<T> kernels = elementwise<T>();
    for_shares(n, [&](int64_t first, int64_t last) {
      const int64_t m = last - first;
      float *pooled = floats(state.pooled) + first * c, *gate = floats(state.gate) + first * c;
      std::vector<float> columns(static_cast<size_t>(m * c)), inner(static_cast<size_t>(m * e)),
          scale(static_cast<size_t>(c));
      std::fill_n(pooled, m * c, 0.0f);
      for (int64_t i = 0; i < m; ++i)
        kernels.column_sums(data<T>(x) + (first + i) * p * c, c, p, c, pooled + i * c);
      for (int64_t i = 0; i < m * c; ++i) pooled[i] /= static_cast<float>(p);
      transpose(pooled, m, c, columns.data());
      dense_product(e, m, c, floats(se.w1), columns.data(), inner.data());
      for (int64_t k = 0; k < e; ++k)
        for (int64_t i = 0; i < m; ++i) {
          float& h = inner[static_cast<size_t>(k * m + i)];
          h = std::max(h + floats(se.b1)[k], 0.0f);
        }
      transpose(inner.data(), e, m, floats(state.hidden) + first * e);
      dense_product(c, m, e, floats(se.w2), inner.data(), columns.data());
      transpose(columns.data(), c, m, gate);
      for (int64_t i = 0; i < m; ++i) {
        elementwise<float>().sigmoid(gate + i * c, floats(se.b2), c);
        const float f = factor_of(factor, first + i);
        for (int64_t k = 0; k < c; ++k) scale[static_cast<size_t>(k)] = gate[i * c + k] * f;
        const int64_t at = (first + i) * p * c;
        kernels.scale_add(data<T>(shortcut) + at, data<T>(x) + at, scale.data(),
                          mutable_data<T>(out) + at, p, c);
      }
    });
  });
  return out;
}

namespace {

// d_w [outputs, inputs] and d_b of a layer, from d_y [N, outputs] and its inputs, in blocks of
// outputs.
void layer_gradients(const at::Tensor& d_y, const at::Tensor& inputs, at::Tensor& d_w,
                     at::Tensor& d_b, int64_t block) {
  constexpr int64_t kOutputs = 64;
  const int64_t n = d_y.size(0), outputs = d_y.size(1), from = block * kOutputs,
                count = std::min(kOutputs, outputs - from), width = inputs.size(1);
  std::vector<float> rows(static_cast<size_t>(count * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < count; ++k)
      rows[static_cast<size_t>(k * n + i)] = floats(d_y)[i * outputs + from + k];
  for (int64_t k = 0; k < count; ++k) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += rows[static_cast<size_t>(k * n + i)];
    floats(d_b)[from + k] = sum;
  }
  dense_product(count, width, n, rows.data(), floats(inputs), floats(d_w) + from * width);
  end_products<float>();
}

}  // namespace

SqueezeExciteGradients squeeze_excite_backward(const at::Tensor& d_out, const at::Tensor& x,
                                               const SqueezeExcite& se, const at::Tensor& factor,
                                               const SqueezeExciteState& state) {
  const auto [batch, channels, pixels, hidden] = sizes_of(x, se);
  SqueezeExciteGradients d{
      at::empty_like(x),
      at::empty({batch, 1}, at::kFloat),
      {at::empty_like(se.w1), at::empty_like(se.b1), at::empty_like(se.w2), at::empty_like(se.b2)}};
  // Gradients in front of the sigmoid and of the relu.
  at::Tensor d_z2 = at::empty({batch, channels}, at::kFloat),
             d_z1 = at::empty({batch, hidden}, at::kFloat);
  for_type(x, [&, c = channels, p = pixels, e = hidden, n = batch]<class T>(T) {
    const Elementwise<T> kernels = elementwise<T>();
    for_shares(n, [&](int64_t first, int64_t last) {
      const int64_t m = last - first;
      float *z2 = floats(d_z2) + first * c, *z1 = floats(d_z1) + first * e;
      const float *gate = floats(state.gate) + first * c, *h = floats(state.hidden) + first * e;
      std::vector<float> scale(static_cast<size_t>(m * c)), shift(static_cast<size_t>(m * c));
      for (int64_t i = 0; i < m; ++i) {
        const int64_t at = (first + i) * p * c;
        float* along = z2 + i * c;
        std::fill_n(along, c, 0.0f);
        kernels.column_dots(data<T>(d_out) + at, data<T>(x) + at, p, c, along);
        const float f = factor_of(factor, first + i);
        float by_factor = 0;
        for (int64_t k = 0; k < c; ++k) {
          const float g = gate[i * c + k];
          by_factor += along[k] * g;
          scale[static_cast<size_t>(i * c + k)] = g * f;
          along[k] *= f * g * (1 - g);
        }
        floats(d.factor)[first + i] = by_factor;
      }
      dense_product(m, e, c, z2, floats(se.w2), z1);
      for (int64_t i = 0; i < m * e; ++i) z1[i] = h[i] > 0 ? z1[i] : 0.0f;
      dense_product(m, c, e, z1, floats(se.w1), shift.data());
      for (float& s : shift) s /= static_cast<float>(p);
      for (int64_t i = 0; i < m; ++i) {
        const int64_t at = (first + i) * p * c;
        kernels.scale_shift(data<T>(d_out) + at, scale.data() + i * c, shift.data() + i * c,
                            mutable_data<T>(d.x) + at, p, c);
      }
    });
  });
  const int64_t blocks2 = (channels + 63) / 64, blocks1 = (hidden + 63) / 64;
  for_tasks(blocks2 + blocks1, [&](int64_t i) {
    if (i < blocks2)
      layer_gradients(d_z2, state.hidden, d.se.w2, d.se.b2, i);
    else
      layer_gradients(d_z1, state.pooled, d.se.w1, d.se.b1, i - blocks2);
  });
  d.factor = d.factor.sum_to_size(factor.sizes());
  return d;
}

}  // namespace nfscale
