#include "model/ops.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>

#include "model/rows.h"

namespace nfscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What one filter needs again in the backward pass.
struct Row {
  double mean, scale;  // scale: 1 / sqrt(fan_in * variance), with the epsilon of the numerics
  bool
      constant_scale;  // deepmind's maximum took the epsilon: no gradient goes through the variance
};

template <class T>
Row measure(const T* w, int64_t n, Numerics numerics) {
  const auto count = static_cast<double>(n);
  const double mean = row_sum(w, n) / count;
  const double squares = row_squares(w, mean, n);
  if (numerics == Numerics::timm) return {mean, 1 / std::sqrt(squares + 1e-5 * count), false};
  return {mean, 1 / std::sqrt(std::max(squares, 1e-4)), squares < 1e-4};
}

int64_t grain(int64_t n) {
  return std::max<int64_t>(1, 32768 / n);
}

template <class T>
void standardize_rows(const at::Tensor& w, const at::Tensor& gain, at::Tensor& out,
                      Numerics numerics, double factor) {
  const int64_t rows = w.size(0), n = w.numel() / rows;
  const T *from = w.const_data_ptr<T>(), *g = gain.const_data_ptr<T>();
  T* to = out.data_ptr<T>();
  at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Row row = measure(from + r * n, n, numerics);
      row_scale(to + r * n, from + r * n, factor * row.scale * static_cast<double>(g[r]), row.mean,
                n);
    }
  });
}

// With c = w - mean and s the scale: d gain = factor s sum(d out c); d w = factor gain s (d out -
// mean(d out)) - factor gain s^3 sum(d out c) c, the last part only where s depends on the weights.
template <class T>
void standardize_rows_backward(const at::Tensor& w, const at::Tensor& gain, const at::Tensor& d_out,
                               at::Tensor& d_w, at::Tensor& d_gain, Numerics numerics,
                               double factor) {
  const int64_t rows = w.size(0), n = w.numel() / rows;
  const T *from = w.const_data_ptr<T>(), *g = gain.const_data_ptr<T>(),
          *d = d_out.const_data_ptr<T>();
  T *to = d_w.data_ptr<T>(), *to_gain = d_gain.data_ptr<T>();
  at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T *wr = from + r * n, *dr = d + r * n;
      const Row row = measure(wr, n, numerics);
      const double along = row_dot(dr, wr, row.mean, n),
                   mean = row_sum(dr, n) / static_cast<double>(n);
      to_gain[r] = static_cast<T>(factor * along * row.scale);
      const double scale = factor * row.scale * static_cast<double>(g[r]);
      const double back = row.constant_scale ? 0 : along * row.scale * row.scale * scale;
      row_combine(to + r * n, dr, scale, mean, wr, back, row.mean, n);
    }
  });
}

struct Standardize : torch::autograd::Function<Standardize> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& w, const at::Tensor& gain,
                            int64_t numerics, double factor) {
    ctx->save_for_backward({w, gain});
    ctx->saved_data["numerics"] = numerics;
    ctx->saved_data["factor"] = factor;
    at::Tensor out = at::empty_like(w);
    AT_DISPATCH_FLOATING_TYPES(w.scalar_type(), "standardize", [&] {
      standardize_rows<scalar_t>(w, gain, out, static_cast<Numerics>(numerics), factor);
    });
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto numerics = static_cast<Numerics>(ctx->saved_data["numerics"].toInt());
    const double factor = ctx->saved_data["factor"].toDouble();
    const at::Tensor d_out = grads[0].contiguous();
    at::Tensor d_w = at::empty_like(saved[0]), d_gain = at::empty_like(saved[1]);
    AT_DISPATCH_FLOATING_TYPES(d_w.scalar_type(), "standardize_backward", [&] {
      standardize_rows_backward<scalar_t>(saved[0], saved[1], d_out, d_w, d_gain, numerics, factor);
    });
    return {d_w, d_gain, at::Tensor(), at::Tensor()};
  }
};

// Padding of a side: total = max((out - 1) stride + k - n, 0), the smaller half before.
std::pair<int64_t, int64_t> same_padding(int64_t n, int64_t k, int64_t stride) {
  const int64_t out = (n + stride - 1) / stride;
  const int64_t total = std::max<int64_t>((out - 1) * stride + k - n, 0);
  return {total / 2, total - total / 2};
}

}  // namespace

at::Tensor standardize(const at::Tensor& w, const at::Tensor& gain, Numerics numerics,
                       double factor) {
  return Standardize::apply(w, gain, static_cast<int64_t>(numerics), factor);
}

at::Tensor gelu(const at::Tensor& x, Numerics numerics) {
  return at::gelu(x, numerics == Numerics::timm ? "none" : "tanh");
}

at::Tensor conv_same(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     int64_t stride, int64_t groups) {
  at::Tensor w = weight.to(x.options(), false, false, at::MemoryFormat::ChannelsLast);
  const at::Tensor b = bias.to(x.scalar_type());
  std::array<int64_t, 2> strides = {stride, stride}, before{}, after{};
  for (const size_t axis : {0u, 1u}) {
    const auto side = static_cast<int64_t>(axis) + 2;
    std::tie(before[axis], after[axis]) = same_padding(x.size(side), w.size(side), stride);
    if (x.size(side) > 1) continue;
    // One row of pixels meets one row of the kernel; the others see padding alone. oneDNN 3.13
    // leaves their gradient uninitialised in bfloat16 with stride 2.
    w = w.narrow(side, before[axis], 1);
    before[axis] = after[axis] = 0;
    strides[axis] = 1;
  }
  using Sides = at::IntArrayRef;
  if (before == after) return at::conv2d(x, w, b, strides, before, Sides{1, 1}, groups);
  const at::Tensor padded = at::constant_pad_nd(x, {before[1], after[1], before[0], after[0]});
  return at::conv2d(padded, w, b, strides, Sides{0, 0}, Sides{1, 1}, groups);
}

at::Tensor shortcut_pool(const at::Tensor& x) {
  return at::avg_pool2d(x, {2, 2}, {2, 2}, {0, 0}, /*ceil_mode=*/true, /*count_include_pad=*/false);
}

at::Tensor squeeze_excite_gate(const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1,
                               const at::Tensor& w2, const at::Tensor& b2) {
  const auto type = x.scalar_type();
  const at::Tensor pooled = at::mean(x, {2, 3});
  const at::Tensor hidden = at::relu(at::linear(pooled, w1.to(type).flatten(1), b1.to(type)));
  return at::sigmoid(at::linear(hidden, w2.to(type).flatten(1), b2.to(type)));
}

at::Tensor add_scaled(const at::Tensor& shortcut, const at::Tensor& x, const at::Tensor& factor) {
  return at::addcmul(shortcut, x, factor.to(x.scalar_type()).unsqueeze(-1).unsqueeze(-1));
}

at::Tensor softmax_loss(const at::Tensor& logits, const at::Tensor& labels, double smoothing) {
  const at::Tensor log_p = at::log_softmax(logits, 1);
  const at::Tensor own = log_p.gather(1, labels.unsqueeze(1)).squeeze(1);
  if (smoothing == 0) return -own;
  return -(own * (1 - smoothing) + log_p.mean(1) * smoothing);
}

at::Tensor sigmoid_loss(const at::Tensor& logits, const at::Tensor& targets, double smoothing) {
  const at::Tensor y = targets * (1 - smoothing) + smoothing / static_cast<double>(logits.size(1));
  return at::binary_cross_entropy_with_logits(logits, y, {}, {}, at::Reduction::None).sum(1);
}

}  // namespace nfscale
