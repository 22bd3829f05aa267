#include "train/cuda_input.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include "base/error.h"

namespace nfscale {
namespace {

// The parts of an input begin at multiples of this many bytes.
constexpr int64_t kAlignment = 256;

StepInput make_input(const Arch& arch, int64_t rows, int64_t size,
                     const at::TensorOptions& options) {
  StepInput input;
  struct Part {
    at::Tensor* tensor;
    std::vector<int64_t> shape;
    at::ScalarType type;
    int64_t begin = 0, end = 0;
  };
  std::vector<Part> parts = {{&input.pixels, {rows, size, size, 3}, at::kFloat},
                             {&input.labels, {rows}, at::kLong},
                             {&input.weights, {rows}, at::kFloat}};
  input.masks.drop_path.resize(arch.branch_rates.size());
  for (size_t b = 0; b < arch.branch_rates.size(); ++b)
    if (arch.branch_rates[b] > 0) parts.push_back({&input.masks.drop_path[b], {rows}, at::kFloat});
  if (arch.drop_rate > 0) parts.push_back({&input.masks.head, {rows, arch.features}, at::kFloat});
  int64_t end = 0;
  for (Part& p : parts) {
    p.begin = (end + kAlignment - 1) / kAlignment * kAlignment;
    end = p.end =
        p.begin + c10::multiply_integers(p.shape) * static_cast<int64_t>(c10::elementSize(p.type));
  }
  input.bytes = at::empty({end}, options.dtype(at::kByte));
  for (const Part& p : parts)
    *p.tensor = input.bytes.narrow(0, p.begin, p.end - p.begin).view(p.type).view(p.shape);
  return input;
}

void fill(StepInput& to, const Arch& arch, const Batch& batch, uint64_t seed) {
  std::copy(batch.pixels.begin(), batch.pixels.end(), to.pixels.data_ptr<float>());
  std::copy(batch.labels.begin(), batch.labels.end(), to.labels.data_ptr<int64_t>());
  double total = 0;
  for (const float w : batch.weights) total += static_cast<double>(w);
  if (total == 0) total = 1;
  std::transform(batch.weights.begin(), batch.weights.end(), to.weights.data_ptr<float>(),
                 [&](float w) { return static_cast<float>(static_cast<double>(w) / total); });
  const Masks masks = draw_masks(arch, batch, 0, batch.rows, seed);
  for (size_t b = 0; b < masks.drop_path.size(); ++b)
    if (masks.drop_path[b].defined()) to.masks.drop_path[b].copy_(masks.drop_path[b]);
  if (masks.head.defined()) to.masks.head.copy_(masks.head);
}

}  // namespace

CudaInput::CudaInput(const Arch& arch, int64_t rows, int64_t size, uint64_t seed, at::Device device)
    : arch_(arch),
      seed_(seed),
      copies_(c10::cuda::getStreamFromPool(false, device.index())),
      pinned_(make_input(arch, rows, size, at::TensorOptions().pinned_memory(true))),
      landing_(make_input(arch, rows, size, device)),
      input_(make_input(arch, rows, size, device)) {
  // What used the memory before may still run on the stream of the steps.
  taken_.record();
}

void CudaInput::upload(const Batch& batch) {
  NFSCALE_CHECK(std::ssize(batch.pixels) == pinned_.pixels.numel() &&
                std::ssize(batch.labels) == pinned_.labels.numel() &&
                std::ssize(batch.weights) == pinned_.weights.numel());
  landed_.synchronize();  // the copy before has read the pinned memory
  fill(pinned_, arch_, batch, seed_);
  const c10::cuda::CUDAStreamGuard guard(copies_);
  taken_.block(copies_);
  landing_.bytes.copy_(pinned_.bytes, /*non_blocking=*/true);
  landed_.record(copies_);
  batch_ = &batch;
  begin_ = batch.begin;
}

bool CudaInput::uploaded(const Batch& batch) const {
  return batch_ == &batch && begin_ == batch.begin;
}

void CudaInput::take() {
  NFSCALE_CHECK(batch_);
  const c10::cuda::CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  landed_.block(stream);
  input_.bytes.copy_(landing_.bytes);
  taken_.record(stream);
  batch_ = nullptr;
}

}  // namespace nfscale
