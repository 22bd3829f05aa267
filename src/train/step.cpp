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
  // Rows behind the last slot are fillers of weight 0.
  std::vector<uint64_t> slots = batch.slots_of_rows();
  for (auto row = std::ssize(slots); row < end; ++row)
    slots.push_back(batch.begin + static_cast<uint64_t>(row));
  const auto slot = [&](int64_t row) { return slots[static_cast<size_t>(row)]; };
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

at::Tensor mixed_losses(const at::Tensor& logits, const at::Tensor& labels,
                        const at::Tensor& partners, const at::Tensor& shares,
                        const LossConfig& loss) {
  return shares * example_losses(logits, labels, loss) +
         (1 - shares) * example_losses(logits, partners, loss);
}

namespace {

double weight_of(const Batch& batch, int64_t begin, int64_t end) {
  double total = 0;
  for (int64_t row = begin; row < end; ++row)
    total += static_cast<double>(batch.weights[static_cast<size_t>(row)]);
  return total;
}

// Backward passes over rows of a batch, a micro-batch at a time.
struct Passes {
  const Model& model;
  Filters& filters;
  const Batch& batch;
  const StepSettings& settings;
  StepResult& result;

  // Of the rows [begin, end), which may be mixed.
  at::Tensor losses(const at::Tensor& logits, const at::Tensor& labels, int64_t begin,
                    int64_t end) const {
    if (batch.shares.empty()) return example_losses(logits, labels, settings.loss);
    const at::Tensor partners = at::from_blob(const_cast<int64_t*>(batch.partners.data()) + begin,
                                              {end - begin}, at::kLong),
                     shares = at::from_blob(const_cast<float*>(batch.shares.data()) + begin,
                                            {end - begin}, at::kFloat);
    return mixed_losses(logits, labels, partners, shares, settings.loss);
  }

  // Adds the gradient of the sum of the losses of the rows times `scale`; what the rows say of loss
  // and accuracy counts where `counts`.
  void add(int64_t first, int64_t past, double scale, bool last, bool counts) const {
    for (int64_t begin = first; begin < past; begin += settings.micro_batch) {
      const int64_t end = std::min(begin + settings.micro_batch, past);
      const double started = now_s();
      const Masks masks = draw_masks(model.arch, batch, begin, end, settings.seed);
      const at::Tensor labels = at::from_blob(const_cast<int64_t*>(batch.labels.data()) + begin,
                                              {end - begin}, at::kLong);
      const at::Tensor weights = at::from_blob(const_cast<float*>(batch.weights.data()) + begin,
                                               {end - begin}, at::kFloat);
      const at::Tensor logits = forward(model, filters, batch_images(batch, begin, end), &masks);
      const at::Tensor loss = (losses(logits, labels, begin, end) * weights).sum() * scale;
      if (counts) {
        result.loss += loss.item<double>();
        result.top1 +=
            scale * ((logits.detach().argmax(1) == labels) * weights).sum().item<double>();
      }
      const double middle = now_s();
      add_gradients(loss, filters, last && end == past);
      result.forward_s += middle - started;
      result.backward_s += now_s() - middle;
    }
  }
};

}  // namespace

int64_t resolve_micro_batch(const Config& config, const Arch& arch, at::Device device) {
  if (config.train.micro_batch) return config.train.micro_batch;
  const int64_t bytes = int64_t{device == at::kCPU ? 4 : 16} << 30;
  const int64_t image = 4 * arch.activations(config.train.image_size, config.train.image_size);
  const int64_t most =
      std::clamp<int64_t>(bytes / std::max<int64_t>(image, 1), 1, config.train.batch);
  const int64_t parts = (config.train.batch + most - 1) / most;
  return (config.train.batch + parts - 1) / parts;
}

SamSettings sam_settings(const OptimConfig& config, const std::vector<Param>& params) {
  SamSettings settings = {.rho = config.sam_rho,
                          .fraction = config.sam_fraction,
                          .sync = config.sam_sync,
                          .group = config.sam_group};
  for (size_t k = 0; k < params.size(); ++k)
    if (params[k].frozen) settings.frozen.push_back(k);
  return settings;
}

StepResult train_step(const Model& model, Filters& filters, Optimizer& optimizer, const Ema& ema,
                      const Batch& batch, const StepSettings& s, double lr, uint64_t t, Sam* sam) {
  StepResult result;
  const double total = weight_of(batch, 0, batch.rows);
  result.empty = total == 0;
  if (result.empty) return result;
  const Passes passes = {model, filters, batch, s, result};
  if (s.sam.rho > 0) {
    Sam own(s.sam);
    (sam ? *sam : own)
        .gradients_of_step(model.weights, filters,
                           ascent_groups(batch.rows, s.sam.group, s.sam.fraction),
                           [&](int64_t begin, int64_t end, bool ascent, double share, bool last) {
                             const double rows = ascent ? weight_of(batch, begin, end) : total;
                             passes.add(begin, end, share / std::max(rows, 1.0), last, !ascent);
                           });
  } else {
    begin_gradients(model.weights, filters);
    passes.add(0, batch.rows, 1 / total, true, true);
  }
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
        sam_(settings.sam),
        filters_(make_filters(model, compute, true)) {}
  StepResult step(const Batch& batch, const Batch*, double lr, uint64_t t) override {
    return train_step(model_, filters_, optimizer_, ema_, batch, settings_, lr, t, &sam_);
  }
  void to_host() override {}

 private:
  const Model& model_;
  Optimizer& optimizer_;
  const Ema& ema_;
  StepSettings settings_;
  Sam sam_;
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
