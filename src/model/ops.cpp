#include "model/ops.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/zeros.h>

#include "cuda/devices.h"
#include "kernels/elementwise.h"
#include "model/attention.h"
#include "model/conv.h"
#include "model/cuda.h"
#include "model/parallel.h"
#include "model/pool.h"
#include "model/products.h"

namespace nfscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// As a convolution takes it: of a Transformer, a patch is one position.
at::Tensor filter_of(const Filter& f) {
  return f.standardized ? f.value : f.value.reshape({f.value.size(0), 1, 1, -1});
}

struct Convolve : torch::autograd::Function<Convolve> {
  // The filters outlive the graph of a step, so the graph holds their address.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& bias,
                            Filters* filters, int64_t layer, int64_t activation, int64_t stride,
                            int64_t groups) {
    ctx->save_for_backward({x});
    ctx->saved_data["filters"] = reinterpret_cast<int64_t>(filters);
    ctx->saved_data["layer"] = layer;
    ctx->saved_data["activation"] = activation;
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["groups"] = groups;
    const Filter& f = filters->of_layer[static_cast<size_t>(layer)];
    return conv_forward({stride, groups, static_cast<Activation>(activation), Activation::none}, x,
                        filter_of(f), bias, f.packed);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    const auto number = [&](const char* name) { return ctx->saved_data[name].toInt(); };
    auto* filters = reinterpret_cast<Filters*>(number("filters"));
    Filter& f = filters->of_layer[static_cast<size_t>(number("layer"))];
    const ConvSettings settings = {number("stride"), number("groups"),
                                   static_cast<Activation>(number("activation")), Activation::none};
    const ConvGradients d = conv_backward(
        settings, grads[0].contiguous(at::MemoryFormat::ChannelsLast), x, filter_of(f),
        ctx->needs_input_grad(0),
        [&](int64_t first, int64_t count, float* rows, bool first_part, bool last_part) {
          filter_rows_backward(*filters->weights, f, first, count, rows,
                               filters->summed || !first_part, filters->last && last_part);
        });
    return {d.x, d.bias, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// q may be undefined, see attend_by_kernels.
Attention attention_of(const at::Tensor& q, const at::Tensor& kv, int64_t heads) {
  const std::vector<at::Tensor> parts = kv.chunk(q.defined() ? 2 : 3, -1);
  if (q.defined()) return {q, parts[0], parts[1], heads};
  return {parts[0], parts[1], parts[2], heads};
}

struct Attend : torch::autograd::Function<Attend> {
  static at::Tensor forward(AutogradContext* ctx, const std::optional<at::Tensor>& own_q,
                            const at::Tensor& kv, int64_t heads) {
    const at::Tensor q = own_q.value_or(at::Tensor());
    AttentionResult r = attention_forward(attention_of(q, kv, heads));
    ctx->save_for_backward({q, kv, r.log_sums});
    ctx->saved_data["heads"] = heads;
    return r.out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &q = saved[0], &kv = saved[1];
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const at::Tensor d_q = q.defined() ? at::empty(q.sizes(), q.options()) : at::Tensor(),
                     d_kv = at::empty_like(kv);
    attention_backward(grads[0].contiguous(), attention_of(q, kv, heads), saved[2],
                       attention_of(d_q, d_kv, heads));
    return {d_q, d_kv, at::Tensor()};
  }
};

using PoolForward = at::Tensor (*)(Activation, const at::Tensor& x);
using PoolBackward = at::Tensor (*)(Activation, const at::Tensor& d_y, const at::Tensor& x);

template <PoolForward kForward, PoolBackward kBackward>
struct Pool : torch::autograd::Function<Pool<kForward, kBackward>> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, int64_t activation) {
    ctx->save_for_backward({x});
    ctx->saved_data["activation"] = activation;
    return kForward(static_cast<Activation>(activation), x);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto act = static_cast<Activation>(ctx->saved_data["activation"].toInt());
    const auto format =
        grads[0].dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    return {kBackward(act, grads[0].contiguous(format), ctx->get_saved_variables()[0]),
            at::Tensor()};
  }
};

struct SqueezeExciteAdd : torch::autograd::Function<SqueezeExciteAdd> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& shortcut,
                               const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1,
                               const at::Tensor& w2, const at::Tensor& b2, const at::Tensor& factor,
                               DenseGradient* d_w1, DenseGradient* d_w2) {
    const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
    at::Tensor pooled = at::zeros({x.size(0), channels}, at::kFloat), out = at::empty_like(x);
    for_type(x, [&]<class T>(T) {
      for_examples(x, [&](int64_t at, int64_t row) {
        elementwise<T>().column_sums(data<T>(x) + at, channels, pixels, channels,
                                     pooled.data_ptr<float>() + row);
      });
    });
    pooled /= static_cast<double>(pixels);
    const at::Tensor hidden = at::relu(at::linear(pooled, w1.flatten(1), b1));
    const at::Tensor gate = at::sigmoid(at::linear(hidden, w2.flatten(1), b2));
    const at::Tensor scale = (gate * factor).contiguous();
    for_type(x, [&]<class T>(T) {
      for_examples(x, [&](int64_t at, int64_t row) {
        elementwise<T>().scale_add(data<T>(shortcut) + at, data<T>(x) + at,
                                   scale.const_data_ptr<float>() + row, mutable_data<T>(out) + at,
                                   pixels, channels);
      });
    });
    ctx->save_for_backward({x, w1, w2, factor, pooled, hidden, gate, scale});
    // Like the filters, they outlive the graph of a step.
    ctx->saved_data["d_w1"] = reinterpret_cast<int64_t>(d_w1);
    ctx->saved_data["d_w2"] = reinterpret_cast<int64_t>(d_w2);
    ctx->mark_non_differentiable({gate});
    return {out, gate};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &w1 = saved[1], &w2 = saved[2], &factor = saved[3],
                     &pooled = saved[4], &hidden = saved[5], &gate = saved[6], &scale = saved[7];
    const at::Tensor d_out = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
    at::Tensor along = at::zeros({x.size(0), channels}, at::kFloat), d_x = at::empty_like(x);
    for_type(x, [&]<class T>(T) {
      for_examples(x, [&](int64_t at, int64_t row) {
        elementwise<T>().column_dots(data<T>(d_out) + at, data<T>(x) + at, pixels, channels,
                                     along.data_ptr<float>() + row);
      });
    });
    const at::Tensor d_factor = (along * gate).sum_to_size(factor.sizes());
    const at::Tensor d_z2 = along * factor * gate * (1 - gate);
    const at::Tensor d_z1 = at::mm(d_z2, w2.flatten(1)) * (hidden > 0);
    const at::Tensor shift = at::mm(d_z1, w1.flatten(1)).div_(static_cast<double>(pixels));
    for_type(x, [&]<class T>(T) {
      for_examples(x, [&](int64_t at, int64_t row) {
        elementwise<T>().scale_shift(data<T>(d_out) + at, scale.const_data_ptr<float>() + row,
                                     shift.const_data_ptr<float>() + row, mutable_data<T>(d_x) + at,
                                     pixels, channels);
      });
    });
    const auto weight_gradient = [&](const char* place, const at::Tensor& d_y, const at::Tensor& in,
                                     const at::Tensor& w) {
      auto* factors = reinterpret_cast<DenseGradient*>(ctx->saved_data[place].toInt());
      if (!factors) return at::mm(d_y.t(), in).view(w.sizes());
      add_dense_gradient(*factors, d_y, in);
      return at::Tensor();
    };
    return {d_out,
            d_x,
            weight_gradient("d_w1", d_z1, pooled, w1),
            d_z1.sum(0),
            weight_gradient("d_w2", d_z2, hidden, w2),
            d_z2.sum(0),
            d_factor,
            at::Tensor(),
            at::Tensor()};
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
  const auto n = static_cast<double>(w.numel() / w.size(0));
  const auto [variance, mean] =
      at::var_mean(w, at::IntArrayRef{1, 2, 3}, /*unbiased=*/false, /*keepdim=*/true);
  const at::Tensor deviation = numerics == Numerics::timm
                                   ? at::sqrt((variance + 1e-5) * n)
                                   : at::sqrt((variance * n).clamp_min(1e-4));
  return (w - mean) * (gain * factor / deviation);
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
  if (before == after) return at::conv2d(x, w, b, strides, before, at::IntArrayRef{1, 1}, groups);
  const at::Tensor padded = at::constant_pad_nd(x, {before[1], after[1], before[0], after[0]});
  return at::conv2d(padded, w, b, strides, at::IntArrayRef{0, 0}, at::IntArrayRef{1, 1}, groups);
}

at::Tensor shortcut_pool(const at::Tensor& x) {
  return at::avg_pool2d(x, {2, 2}, {2, 2}, {0, 0}, /*ceil_mode=*/true, /*count_include_pad=*/false);
}

SqueezeExciteResult squeeze_excite_add(const at::Tensor& shortcut, const at::Tensor& x,
                                       const SqueezeExcite& se, const at::Tensor& factor) {
  const auto type = x.scalar_type();
  const at::Tensor pooled = at::mean(x, {2, 3});
  const at::Tensor hidden = at::relu(at::linear(pooled, se.w1.to(type).flatten(1), se.b1.to(type)));
  const at::Tensor gate =
      at::sigmoid(at::linear(hidden, se.w2.to(type).flatten(1), se.b2.to(type)));
  const at::Tensor scale = (gate.to(factor.scalar_type()) * factor).to(type);
  return {at::addcmul(shortcut, x, scale.unsqueeze(-1).unsqueeze(-1)), gate};
}

at::Tensor convolve(const at::Tensor& x, Activation activation, Filters& filters, size_t layer,
                    const at::Tensor& bias, int64_t stride, int64_t groups) {
  if constexpr (cuda::kBuilt)
    if (x.is_cuda())
      return conv_same(activate_on_gpu(activation, x),
                       filters.of_layer[layer].value.permute({0, 3, 1, 2}), bias, stride, groups);
  return Convolve::apply(x.contiguous(at::MemoryFormat::ChannelsLast), bias, &filters,
                         static_cast<int64_t>(layer), static_cast<int64_t>(activation), stride,
                         groups);
}

at::Tensor attend_by_kernels(const at::Tensor& q, const at::Tensor& kv, int64_t heads) {
  const auto own_q = q.defined() ? std::optional(q) : std::nullopt;
  return Attend::apply(own_q, kv.contiguous(), heads);
}

at::Tensor linear_by_kernels(const at::Tensor& x, Activation activation, Filters& filters,
                             size_t layer, const at::Tensor& bias) {
  // A column of pixels, with the tokens for rows.
  const at::Tensor column = x.contiguous().unsqueeze(2).permute({0, 3, 1, 2});
  return convolve(column, activation, filters, layer, bias, 1, 1).permute({0, 2, 3, 1}).squeeze(2);
}

at::Tensor shortcut_pool_by_kernels(const at::Tensor& x, Activation activation) {
  if constexpr (cuda::kBuilt)
    if (x.is_cuda()) return shortcut_pool(activate_on_gpu(activation, x));
  return Pool<pool_forward, pool_backward>::apply(x.contiguous(at::MemoryFormat::ChannelsLast),
                                                  static_cast<int64_t>(activation));
}

at::Tensor mean_by_kernels(const at::Tensor& x, Activation activation) {
  if constexpr (cuda::kBuilt)
    if (x.is_cuda()) return at::mean(activate_on_gpu(activation, x), {2, 3}, false, at::kFloat);
  return Pool<mean_forward, mean_backward>::apply(x.contiguous(at::MemoryFormat::ChannelsLast),
                                                  static_cast<int64_t>(activation));
}

SqueezeExciteResult squeeze_excite_add_by_kernels(const at::Tensor& shortcut, const at::Tensor& x,
                                                  const SqueezeExcite& se,
                                                  const at::Tensor& factor) {
  if constexpr (cuda::kBuilt)
    if (x.is_cuda()) return squeeze_excite_add(shortcut, x, se, factor);
  const variable_list r =
      SqueezeExciteAdd::apply(shortcut, x, se.w1, se.b1, se.w2, se.b2, factor, se.d_w1, se.d_w2);
  return {r[0], r[1]};
}

}  // namespace nfscale
