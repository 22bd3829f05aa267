// Kernels for GPUs: plain device pointers, sizes and a stream; no tensor. All are launched on the
// stream and return at once; std::runtime_error where a launch fails. Every sum has a fixed order,
// so that the same numbers give the same bits.
#pragma once

#include <cstdint>

#include "kernels/types.h"

using cudaStream_t = struct CUstream_st*;

namespace nfscale::cuda {

enum class Type { f32, bf16 };  // of activations and filters

// ---- activations
// y = gelu(x), d_x = d_y gelu'(x), of n numbers; `activation` is not none.
void gelu_forward(Type type, Activation activation, const void* x, void* y, int64_t n,
                  cudaStream_t stream);
void gelu_backward(Type type, Activation activation, const void* d_y, const void* x, void* d_x,
                   int64_t n, cudaStream_t stream);

// ---- all parameters of a model at once, by tables in device memory
// A block of threads takes a unit of clipping (train/optimizer.h): `length` numbers of a parameter.
// The rows of a convolution's weight are units, and what else belongs to such a row goes with it:
// the number of its gain, the row of its filter (model/filters.h).
struct Parameter {
  float *weight, *momentum, *average;  // average: null where there is none
  float* gradient;
  int64_t length;      // numbers of a unit
  int64_t first_unit;  // its place among all units
  double decay;
  bool clips;  // whether adaptive clipping applies
};

struct Filter {
  const float *weight, *gain;  // [rows, in, taps], [rows]
  void* value;                 // [rows, taps, in]
  double factor;               // of the activation in front
  int32_t in, taps;
  bool timm;  // whose epsilon
  // For training:
  const void* d_value;                // like value
  int32_t parameter, gain_parameter;  // of weight and gain
};

struct Unit {
  int32_t parameter;  // -1 in evaluation
  int32_t filter;     // -1: the parameter is no convolution's weight
  int32_t row;        // which unit of the parameter
};

struct Squares {
  double weight, gradient;  // of the Euclidean norms of a unit
};

struct Tables {
  const Parameter* parameters;
  const Filter* filters;
  const Unit* units;  // rows of filters, then those of other parameters, then those of gains
  int64_t filter_rows, others, gains;
  Squares* squares;  // by unit
};

// The filters of all convolutions.
void standardize(const Tables& tables, Type value, cudaStream_t stream);

// From the gradients of the filters those of the weights and gains, with the squares of the rows.
void standardize_backward(const Tables& tables, Type d_value, cudaStream_t stream);

// The squares of all units that are no rows of filters.
void measure_units(const Tables& tables, cudaStream_t stream);

struct ClipSettings {
  double threshold, eps;  // of adaptive clipping
  double clip_norm;       // of the whole gradient behind it; 0: off
};

// What a step came to.
struct Outcome {
  double loss, top1;
  double grad_norm;  // before any clipping
  double clipped;    // share of the clipped units among those that may be clipped
  double factor;     // of the whole gradient, for clip_norm
  int32_t finite;    // 0: loss or gradient is not, and `update` changes nothing
};

// From the squares of all units, and of `totals`, loss and share of right answers.
void decide(const Tables& tables, const ClipSettings& settings, const double* totals,
            Outcome* outcome, cudaStream_t stream);

// What changes from step to step, in device memory.
struct StepNumbers {
  double rate, ema_keep;
};
struct UpdateSettings {
  ClipSettings clip;
  double momentum;
  bool nesterov;
};

// Clipping, decay, momentum, step, average, and the filters of the new weights.
void update(const Tables& tables, const UpdateSettings& settings, const StepNumbers* numbers,
            const Outcome* outcome, Type value, cudaStream_t stream);

}  // namespace nfscale::cuda
