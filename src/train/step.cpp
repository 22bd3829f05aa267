#include "train/step.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "base/process.h"
#include "base/random.h"
#include "cuda/devices.h"
#include "model/loss.h"
#include "train/cuda_step.h"
#include "train/evaluate.h"

namespace nfscale {

Masks draw_masks(const Arch& arch, const Batch& batch, int64_t begin, int64_t end, uint64_t seed) {
  Masks masks;
  const auto slot = [&](int64_t row) { return batch.begin + static_cast<uint64_t>(row); };
  for (size_t b = 0; b < arch.branch_rates.size(); ++b) {
    const double rate = arch.branch_rates[b];
    at::Tensor& mask = masks.drop_path.emplace_back();
    if (rate == 0) continue;
    mask = at::empty({end - begin}, at::kFloat);
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t w = words(seed, Op::stochastic_depth, slot(i), static_cast<uint32_t>(b))[0];
      mask.data_ptr<float>()[i - begin] = static_cast<double>(uniform(w)) < rate ? 0.0f : 1.0f;
    }
  }
  if (arch.drop_rate == 0) return masks;
  masks.head = at::empty({end - begin, arch.features}, at::kFloat);
  for (int64_t i = begin; i < end; ++i) {
    float* row = masks.head.data_ptr<float>() + (i - begin) * arch.features;
    for (int64_t f = 0; f < arch.features; ++f) {
      const Words w = words(seed, Op::dropout, slot(i), 0, 0, static_cast<uint32_t>(f / 4));
      row[f] = static_cast<double>(uniform(w[static_cast<size_t>(f % 4)])) < arch.drop_rate ? 0.0f
                                                                                            : 1.0f;
    }
  }
  return masks;
}

at::Tensor example_losses(const at::Tensor& logits, const at::Tensor& labels,
                          const LossConfig& loss) {
  if (loss.kind == "softmax") return softmax_loss(logits, labels, loss.label_smoothing);
  return sigmoid_loss(logits, at::zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1),
                      loss.label_smoothing);
}

StepResult train_step(const Model& model, Filters& filters, Optimizer& optimizer, const Ema& ema,
                      const Batch& batch, const StepSettings& s, double lr, uint64_t t) {
  StepResult result;
  double total = 0;
  for (const float w : batch.weights) total += static_cast<double>(w);
  result.empty = total == 0;
  if (result.empty) return result;
  begin_gradients(model.weights, filters);
  double right = 0;
  for (int64_t begin = 0; begin < batch.rows; begin += s.micro_batch) {
    const int64_t end = std::min(begin + s.micro_batch, batch.rows);
    const double started = now_s();
    const Masks masks = draw_masks(model.arch, batch, begin, end, s.seed);
    const at::Tensor labels =
        at::from_blob(const_cast<int64_t*>(batch.labels.data()) + begin, {end - begin}, at::kLong);
    const at::Tensor weights =
        at::from_blob(const_cast<float*>(batch.weights.data()) + begin, {end - begin}, at::kFloat);
    const at::Tensor logits = forward(model, filters, batch_images(batch, begin, end), &masks);
    const at::Tensor loss = (example_losses(logits, labels, s.loss) * weights).sum() / total;
    result.loss += loss.item<double>();
    right += ((logits.detach().argmax(1) == labels) * weights).sum().item<double>();
    const double middle = now_s();
    add_gradients(loss, filters, end == batch.rows);
    result.forward_s += middle - started;
    result.backward_s += now_s() - middle;
  }
  result.top1 = right / total;
  const double started = now_s();
  result.stats = optimizer.clip(model.weights, filters);
  result.finite = std::isfinite(result.loss) && std::isfinite(result.stats.grad_norm);
  if (result.finite) optimizer.step(model.weights, filters, lr, ema, t);
  result.update_s = now_s() - started;
  return result;
}

namespace {

class CpuStepper : public Stepper {
 public:
  CpuStepper(const Model& model, Optimizer& optimizer, const Ema& ema, at::ScalarType compute,
             const StepSettings& settings)
      : model_(model),
        optimizer_(optimizer),
        ema_(ema),
        settings_(settings),
        filters_(make_filters(model, compute, true)) {}
  StepResult step(const Batch& batch, const Batch*, double lr, uint64_t t) override {
    return train_step(model_, filters_, optimizer_, ema_, batch, settings_, lr, t);
  }
  void to_host() override {}

 private:
  const Model& model_;
  Optimizer& optimizer_;
  const Ema& ema_;
  StepSettings settings_;
  Filters filters_;
};

}  // namespace

std::unique_ptr<Stepper> make_stepper(at::Device device, const Model& model, Optimizer& optimizer,
                                      const Ema& ema, at::ScalarType compute,
                                      const StepSettings& settings) {
  if constexpr (cuda::kBuilt)
    if (device.type() == at::kCUDA)
      return make_cuda_stepper(device, model, optimizer, ema, compute, settings);
  return std::make_unique<CpuStepper>(model, optimizer, ema, compute, settings);
}

}  // namespace nfscale
