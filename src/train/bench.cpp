#include "train/bench.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <torch/version.h>

#include "arch/cost.h"
#include "base/process.h"
#include "base/random.h"
#include "config/load.h"
#include "data/loader.h"
#include "model/init.h"
#include "train/cuda_step.h"
#include "train/device.h"
#include "train/evaluate.h"
#include "train/step.h"

namespace nfscale {
namespace {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

Batch made_up_batch(int64_t rows, int64_t size, int64_t classes) {
  Batch batch;
  batch.rows = batch.count = rows;
  batch.size = size;
  batch.pixels.resize(static_cast<size_t>(rows * size * size * 3));
  for (size_t i = 0; i < batch.pixels.size(); ++i)
    batch.pixels[i] = 2 * uniform(words(1, Op::generator, i)[0]) - 1;
  for (int64_t i = 0; i < rows; ++i) batch.labels.push_back(i % classes);
  batch.weights.assign(static_cast<size_t>(rows), 1);
  return batch;
}

}  // namespace

double matrix_product_tflops(const std::string& precision, at::Device device) {
  const at::NoGradGuard no_grad;
  const int64_t side = device == at::kCPU ? 1024 : 8192;
  const auto options = at::TensorOptions(compute_type(precision)).device(device);
  const at::Tensor a = at::randn({side, side}).to(options), b = at::randn({side, side}).to(options);
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    wait_for(device);
    const double started = now_s();
    at::mm(a, b);
    wait_for(device);
    best = std::min(best, now_s() - started);
  }
  return 2e-12 * std::pow(static_cast<double>(side), 3) / best;
}

std::string torch_version() {
  return TORCH_VERSION;
}

namespace {

// ms of the parts of one step.
struct Sample {
  double step, forward, backward = 0, update = 0;
};

// step(i) is called for i = 0, 1, ... and measures itself.
template <class Step>
BenchResult measure(const BenchOptions& o, const Step& step) {
  std::vector<double> forward_ms, backward_ms, update_ms;
  BenchResult r;
  const double end = now_s() + o.seconds;
  // The first steps fill caches; on a GPU they are captured.
  const int first = o.device == at::kCPU ? 2 : kEagerSteps + 2;
  for (int i = 0; i < first + 3 || now_s() < end; ++i) {
    const Sample s = step(i);
    if (i < first) continue;
    r.repeats.push_back(s.step);
    forward_ms.push_back(s.forward);
    backward_ms.push_back(s.backward);
    update_ms.push_back(s.update);
  }
  r.step_ms = median(r.repeats);
  r.forward_ms = median(forward_ms);
  r.backward_ms = median(backward_ms);
  r.update_ms = median(update_ms);
  return r;
}

BenchResult measure_evaluation(const BenchOptions& o, const Model& model, const Batch& batch) {
  const at::NoGradGuard no_grad;
  Filters filters = make_filters(model, compute_type(o.precision), false);
  return measure(o, [&](int) {
    const double started = now_s();
    forward(model, filters, batch_images(batch, 0, batch.rows).to(o.device));
    wait_for(o.device);
    const double ms = 1e3 * (now_s() - started);
    return Sample{.step = ms, .forward = ms};
  });
}

BenchResult measure_training(const BenchOptions& o, const Model& model, const Batch& batch) {
  const Config& config = o.config;
  Optimizer optimizer(model.params, model.weights, optimizer_settings(config.optim, model.arch));
  Ema ema{.average = {}, .decay = config.ema.decay};
  if (ema.decay > 0)
    for (const at::Tensor& w : model.weights) ema.average.push_back(w.detach().clone());
  const auto stepper =
      make_stepper(o.device, model, optimizer, ema, compute_type(o.precision),
                   {.loss = config.loss,
                    .micro_batch = resolve_micro_batch(config, model.arch, o.device),
                    .seed = 0,
                    .sam = sam_settings(config.optim, model.params)});
  std::optional<Loader> loader;
  if (o.pictures)
    loader.emplace(o.pictures, training_options(config, at::get_num_threads(), uint64_t{1} << 48),
                   0);
  return measure(o, [&](int i) {
    const double started = now_s();
    const Batch& next = loader ? loader->next() : batch;
    const StepResult s =
        stepper->step(next, loader ? loader->ready() : &batch, 1e-3, static_cast<uint64_t>(i));
    return Sample{1e3 * (now_s() - started), 1e3 * s.forward_s, 1e3 * s.backward_s,
                  1e3 * s.update_s};
  });
}

}  // namespace

Config bench_config(const std::string& model, int64_t size, int64_t batch) {
  Config config;
  config.model.name = model;
  config.train.image_size = size;
  config.train.batch = batch;
  config.loss.label_smoothing = 0.1;
  config.ema.decay = 0.9999;
  if (model.starts_with("vit")) {
    config.optim.name = "adamw";
    config.optim.clip_norm = 1;
  }
  return config;
}

BenchResult bench_step(const BenchOptions& o) {
  const int64_t size = o.config.train.image_size, batch_size = o.config.train.batch;
  Model model = make_model(make_arch(o.config.model, o.classes, sides_of(size)));
  init_weights(model, 0);
  const Batch batch = made_up_batch(batch_size, size, model.arch.classes);
  BenchResult r = o.evaluation ? measure_evaluation(o, on_device(model, o.device), batch)
                               : measure_training(o, model, batch);
  r.images_per_s = 1e3 * static_cast<double>(batch_size) / r.step_ms;
  const int64_t macs = model.arch.macs(size, size);
  const double flops = o.evaluation
                           ? 2 * static_cast<double>(macs)
                           : training_flops(macs, 1, ascent_share(o.config.optim, batch_size));
  r.tflops = 1e-12 * flops * r.images_per_s;
  r.has_parts = o.evaluation || o.device == at::kCPU;
  r.gemm_tflops = matrix_product_tflops(o.precision, o.device);
  r.mfu = r.tflops / r.gemm_tflops;
  return r;
}

}  // namespace nfscale
