// The input of a training step on its way to a GPU: pinned memory -> landing place -> input. The
// copy to the landing place runs on a stream of its own, beside the step that still reads the
// input; the input lies at fixed addresses, which a CUDA graph can hold.
#pragma once

#include <ATen/cuda/CUDAEvent.h>

#include <vector>

#include "train/step.h"

namespace nfscale {

// All that a step reads of a batch, one behind the other in one piece of memory.
struct StepInput {
  at::Tensor bytes;
  at::Tensor pixels, labels, weights;  // [N, H, W, 3], [N], [N]; weights are divided by their sum
  Masks masks;                         // of all rows
};

class CudaInput {
 public:
  // For batches of `rows` pictures. Made on the stream of the steps, which is the current one here
  // and in take().
  CudaInput(const Arch& arch, int64_t rows, int64_t size, uint64_t seed, at::Device device);

  // Begins to copy the batch, which may change as soon as this returns. What was uploaded before
  // must have been taken, or is lost.
  void upload(const Batch& batch);
  bool uploaded(const Batch& batch) const;

  // Makes the uploaded batch the input of what the current stream does from here on.
  void take();

  const StepInput& input() const { return input_; }

 private:
  const Arch& arch_;
  uint64_t seed_;
  c10::cuda::CUDAStream copies_;
  StepInput pinned_, landing_, input_;
  at::cuda::CUDAEvent landed_, taken_;
  // Which batch lies in the landing place.
  const Batch* batch_ = nullptr;
  uint64_t begin_ = 0;
};

}  // namespace nfscale
