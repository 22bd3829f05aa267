// What operations (model/ops.h) and filters (model/filters.h) are on a GPU. Defined in a build with
// NFSCALE_CUDA alone. Everything runs on the current stream of the device of its arguments.
#pragma once

#include "cuda/kernels.h"
#include "model/filters.h"

namespace nfscale {

// gelu(x) with its gradient, each by one kernel; only x, [N, C, H, W] of float or bfloat16, is
// kept.
at::Tensor activate_on_gpu(Activation activation, const at::Tensor& x);

// The values of all filters from the weights of the model, by one kernel.
void standardize_on_gpu(const Model& model, Filters& filters);

// What the kernels of src/cuda need to know of the filters and their rows, in the order of layers;
// nothing of gradients.
struct FilterTable {
  std::vector<cuda::Filter> filters;
  std::vector<cuda::Unit> rows;
};
FilterTable filter_table(const Model& model, const Filters& filters);

cuda::Type kernel_type(at::ScalarType type);

// A copy of the table in device memory, as bytes.
at::Tensor table_on_gpu(const void* data, size_t bytes, at::Device device);
template <class T>
at::Tensor table_on_gpu(const std::vector<T>& table, at::Device device) {
  return table_on_gpu(table.data(), table.size() * sizeof(T), device);
}

}  // namespace nfscale
