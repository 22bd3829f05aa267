#include "model/cuda.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <c10/cuda/CUDAGuard.h>

#include "base/error.h"

namespace nfscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

cudaStream_t stream_of(const at::Tensor& t) {
  return c10::cuda::getCurrentCUDAStream(t.device().index()).stream();
}

struct Activate : torch::autograd::Function<Activate> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, int64_t activation) {
    ctx->save_for_backward({x});
    ctx->saved_data["activation"] = activation;
    const c10::cuda::CUDAGuard guard(x.device());
    at::Tensor y = at::empty_like(x);
    cuda::gelu_forward(kernel_type(x.scalar_type()), static_cast<Activation>(activation),
                       x.const_data_ptr(), y.mutable_data_ptr(), x.numel(), stream_of(x));
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    const c10::cuda::CUDAGuard guard(x.device());
    // The kernel takes the numbers as they lie: both tensors must lie alike.
    const at::Tensor d_y = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor d_x = at::empty_like(x);
    cuda::gelu_backward(kernel_type(x.scalar_type()),
                        static_cast<Activation>(ctx->saved_data["activation"].toInt()),
                        d_y.const_data_ptr(), x.const_data_ptr(), d_x.mutable_data_ptr(), x.numel(),
                        stream_of(x));
    return {d_x, at::Tensor()};
  }
};

}  // namespace

cuda::Type kernel_type(at::ScalarType type) {
  NFSCALE_CHECK(type == at::kFloat || type == at::kBFloat16);
  return type == at::kFloat ? cuda::Type::f32 : cuda::Type::bf16;
}

at::Tensor activate_on_gpu(Activation activation, const at::Tensor& x) {
  if (activation == Activation::none) return x;
  return Activate::apply(x.contiguous(at::MemoryFormat::ChannelsLast),
                         static_cast<int64_t>(activation));
}

at::Tensor table_on_gpu(const void* data, size_t bytes, at::Device device) {
  return at::from_blob(const_cast<void*>(data), {static_cast<int64_t>(bytes)}, at::kByte)
      .to(device);
}

FilterTable filter_table(const Model& model, const Filters& filters) {
  FilterTable table;
  for (const Filter& f : filters.of_layer) {
    if (!f.value.defined()) continue;
    const auto number = static_cast<int32_t>(table.filters.size());
    const auto in = static_cast<int32_t>(f.value.size(3)),
               taps = static_cast<int32_t>(f.value.size(1) * f.value.size(2));
    table.filters.push_back({.weight = model.weights[f.weight].const_data_ptr<float>(),
                             .gain = model.weights[f.gain].const_data_ptr<float>(),
                             .value = f.value.data_ptr(),
                             .factor = f.factor,
                             .in = in,
                             .taps = taps,
                             .timm = f.numerics == Numerics::timm,
                             .d_value = nullptr,
                             .parameter = static_cast<int32_t>(f.weight),
                             .gain_parameter = static_cast<int32_t>(f.gain)});
    for (int32_t row = 0; row < f.value.size(0); ++row)
      table.rows.push_back({static_cast<int32_t>(f.weight), number, row});
  }
  return table;
}

void standardize_on_gpu(const Model& model, Filters& filters) {
  const FilterTable table = filter_table(model, filters);
  const at::Device device = model.weights[0].device();
  const c10::cuda::CUDAGuard guard(device);
  const at::Tensor of_filters = table_on_gpu(table.filters, device),
                   of_rows = table_on_gpu(table.rows, device);
  const cuda::Tables tables = {.parameters = nullptr,
                               .filters = static_cast<const cuda::Filter*>(of_filters.data_ptr()),
                               .units = static_cast<const cuda::Unit*>(of_rows.data_ptr()),
                               .filter_rows = std::ssize(table.rows),
                               .others = 0,
                               .gains = 0,
                               .squares = nullptr};
  cuda::standardize(tables, kernel_type(filters.compute), stream_of(of_filters));
}

}  // namespace nfscale
