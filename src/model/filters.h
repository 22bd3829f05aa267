// The weights of layers as the forward pass uses them, in the type of the activations: those of an
// NFNet's convolutions standardised, times the gain and the factor of the activation in front (B21
// section 4.1), those of a Transformer's layers over tokens as they are. They change only with the
// weights, so they are made once a step, in the pass that updates the weights, and once for a whole
// evaluation.
#pragma once

#include "kernels/rows.h"
#include "model/model.h"

namespace nfscale {

enum class Numerics { deepmind, timm };  // which reference program is followed where they differ

// What the standardisation of one row needs again in its backward pass.
struct RowStatistics {
  double mean = 0;
  double scale = 0;    // 1 / sqrt(fan_in * variance), with the epsilon of the numerics
  double squares = 0;  // sum of w^2
  // deepmind's maximum took the epsilon: no gradient goes through the variance.
  bool constant_scale = false;
};

struct Filter {
  bool standardized = true;     // else there is no gain and no factor
  size_t weight = 0, gain = 0;  // places in Model::weights
  double factor = 1;            // of the activation in front
  Numerics numerics = Numerics::deepmind;
  at::Tensor value;   // [O, k, k, I/G], of the activations' type; in evaluation only its shape
  at::Tensor packed;  // pack_filter of it, in evaluation
  // float, as many numbers as `value`: the gradient of `value`, in its order, while backward passes
  // add to it; behind the last of them that of the weight, [O, I/G, k, k]. Undefined in evaluation.
  at::Tensor gradient;
  std::vector<double> squares;      // by row: of the gradient of the weight
  std::vector<RowStatistics> rows;  // of the weight that `value` was made of
};

using Weights = std::vector<at::Tensor>;  // Model::weights

// The gradient d_y x of the weight [O, I] of a fully connected layer, as its factors: with fewer
// examples than channels they are smaller than it, and whoever reads it multiplies a few rows at a
// time in the cache.
struct DenseGradient {
  at::Tensor d_y, x;                   // [O, N], [N, I], float; undefined before a backward pass
  std::vector<double> weight_squares;  // by row of the weight; empty: autograd has the gradient
};

struct Filters {
  at::ScalarType compute = at::kFloat;  // of the activations
  // By layer of the architecture; `value` is undefined where a layer is no convolution. Empty: the
  // forward pass is the composition of ATen's operations, with autograd through standardisation.
  std::vector<Filter> of_layer;
  // Parallel to Model::weights: those of squeeze-excite; empty in evaluation.
  std::vector<DenseGradient> dense;
  bool summed = false;  // gradients hold the sum of earlier backward passes, to be added to
  const Weights* weights = nullptr;  // which begin_gradients was given
  bool last = false;                 // this backward pass is the last of a step
};

// 1 / std(gelu(z)) for z ~ N(0, 1), as both programs write it (B21 appendix C).
constexpr double kGeluFactor = 1.7015043497085571;

// By layer: the factor of the activation in front, which the filter takes over. It commutes with
// the convolution; that saves a pass over the activations in each direction.
std::vector<double> input_factors(const Arch& arch);

Numerics numerics_of(const Arch& arch);

// Whether the kernels of this program are used for activations of this type: not for double, not
// where the machine lacks what they need, and not with NFSCALE_KERNELS=reference.
bool uses_kernels(at::ScalarType compute);

// Empty `of_layer` where kernels are not used, or do not have one of the layers. For `training`,
// with room for gradients, or for evaluation alone. On a GPU a filter is its value alone, which the
// convolution takes as a leaf of autograd; the gradient of training is left to train/cuda_step.h.
Filters make_filters(const Model& model, at::ScalarType compute, bool training);

// Anew, of weights that something else has changed.
void remake_filters(const Weights& weights, Filters& filters);

// Values of the filters [begin, end) of a layer from its weights. `sums` may be those of the only
// row [begin, end), where they are known.
void filter_rows_forward(const Weights& weights, Filter& filter, int64_t begin, int64_t end,
                         const Sums* sums = nullptr);
// Takes the gradient of the values of `count` filters from `first` on, `rows` [count, k, k, I/G],
// which it may change: added to what the filter holds where `add`, and turned into the gradients of
// the weights and the gain where it is the `last`.
void filter_rows_backward(const Weights& weights, Filter& filter, int64_t first, int64_t count,
                          float* rows, bool add, bool last);

// More examples: d_y [N, O], x [N, I].
void add_dense_gradient(DenseGradient& gradient, const at::Tensor& d_y, const at::Tensor& x);
// Its rows [first, first + count), in a buffer of this thread.
const float* dense_gradient_rows(const DenseGradient& gradient, int64_t first, int64_t count);

// By row: squares of the gradient.
std::vector<double> dense_row_squares(const DenseGradient& gradient);

// Of a weight whose gradient is kept as factors, or null.
template <class AnyFilters>
auto factors_of(size_t weight, AnyFilters& filters) {
  auto* g = weight < filters.dense.size() ? &filters.dense[weight] : nullptr;
  return g && g->d_y.defined() ? g : nullptr;
}
// By weight: its filter, or null.
template <class AnyFilters>
auto filters_by_weight(size_t weights, AnyFilters& filters) {
  std::vector<decltype(filters.of_layer.data())> found(weights);
  for (auto& f : filters.of_layer)
    if (f.value.defined()) found[f.weight] = &f;
  return found;
}

// The gradients of a step: begin_gradients, then add_gradients for each of its parts. Behind the
// last one the weights have theirs, but for those that are kept as factors.
void begin_gradients(const Weights& weights, Filters& filters);
void add_gradients(const at::Tensor& loss, Filters& filters, bool last = true);

// Sums of gradients, parallel to the weights, in the place of those of the last backward passes.
void set_gradients(const Weights& weights, Filters& filters, const std::vector<at::Tensor>& sums);

// The gradients of all weights, undefined where there is none. Those kept as factors are multiplied
// out.
std::vector<at::Tensor> gradients(const Weights& weights, const Filters& filters);

}  // namespace nfscale
