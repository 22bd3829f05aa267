// The weights of all convolutions as the forward pass uses them: standardised, times the gain and
// the factor of the activation in front (B21 section 4.1), in the type of the activations. They
// change only with the weights, so they are made once a step, in the pass that updates the weights,
// and once for a whole evaluation.
#pragma once

#include "model/model.h"
#include "model/standardize.h"

namespace nfscale {

struct Filter {
  size_t weight = 0, gain = 0;  // places in Model::weights
  double factor = 1;            // of the activation in front
  Numerics numerics = Numerics::deepmind;
  at::Tensor value;  // [O, k, k, I/G], of the activations' type
  // float, as many numbers as `value`. A backward pass leaves the gradient of `value`, in its
  // order; filter_rows_backward turns it into that of the weight, [O, I/G, k, k]. Undefined in
  // evaluation.
  at::Tensor gradient;
  std::vector<RowStatistics> rows;  // of the weight that `value` was made of
};

struct Filters {
  at::ScalarType compute = at::kFloat;  // of the activations
  // By layer of the architecture; `value` is undefined where a layer is no convolution. Empty: the
  // forward pass is the composition of ATen's operations, with autograd through standardisation.
  std::vector<Filter> of_layer;
  bool summed = false;   // gradients hold the sum of earlier backward passes, to be added to
  bool pending = false;  // gradients are those of the values, not yet of the weights
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

// Empty `of_layer` where kernels are not used. With `gradients`, room for them.
Filters make_filters(const Model& model, at::ScalarType compute, bool gradients);

using Weights = std::vector<at::Tensor>;  // Model::weights

// Values of the filters [begin, end) of a layer from its weights.
void filter_rows_forward(const Weights& weights, Filter& filter, int64_t begin, int64_t end);
// Gradients of the weights and the gain of the filters [begin, end) from those of the values;
// `squares` [O] receives the sum of squares of each filter's and may be null.
void filter_rows_backward(const Weights& weights, Filter& filter, int64_t begin, int64_t end,
                          double* squares);

// A step: drop_gradients, any number of add_gradients, then either finish_gradients or, row by row,
// what it does (Optimizer::clip).
void drop_gradients(const Weights& weights, Filters& filters);
// loss.backward(), added to what is there.
void add_gradients(const at::Tensor& loss, Filters& filters);
// The weights have their gradients behind it.
void finish_gradients(const Weights& weights, Filters& filters);
// Gives the weights and gains the memory of their gradients, not yet filled.
void attach_gradients(const Weights& weights, Filters& filters);

}  // namespace nfscale
