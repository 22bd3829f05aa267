// The training step on a GPU. Its first steps run operation by operation; one is then captured as a
// CUDA graph, and every further step replays it: forward and backward passes over all
// micro-batches, the gradients of the weights, clipping, update, average, and the filters of the
// next step.
//
// What changes from step to step lies at fixed addresses: the input (train/cuda_input.h), learning
// rate and factor of the average, and what the step came to.
#pragma once

#include "train/step.h"

namespace nfscale {

// Steps that are not replayed, before one is captured: cuDNN, cuBLAS and the allocator make what
// they need at first use, which a capture does not allow.
constexpr int kEagerSteps = 3;

// Weights, momentum and average are copied to the device here, so that a run goes on where their
// host copies stand. Exit::usage where there is no kernel for `compute`.
std::unique_ptr<Stepper> make_cuda_stepper(at::Device device, const Model& model,
                                           Optimizer& optimizer, const Ema& ema,
                                           at::ScalarType compute, const StepSettings& settings,
                                           int eager_steps = kEagerSteps);

}  // namespace nfscale
