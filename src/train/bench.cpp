#include "train/bench.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <torch/version.h>

#include "base/process.h"
#include "base/random.h"
#include "config/load.h"
#include "model/init.h"
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

double matrix_product_tflops(const std::string& precision) {
  const at::NoGradGuard no_grad;
  const at::ScalarType type = compute_type(precision);
  const at::Tensor a = at::randn({1024, 1024}).to(type), b = at::randn({1024, 1024}).to(type);
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    const double started = now_s();
    at::mm(a, b);
    best = std::min(best, now_s() - started);
  }
  return 2.0 * 1024 * 1024 * 1024 / best * 1e-12;
}

std::string torch_version() {
  return TORCH_VERSION;
}

BenchResult bench_step(const BenchOptions& o) {
  Config config;
  config.model.name = o.model;
  config.loss.label_smoothing = 0.1;
  resolve(config);
  Model model = make_model(make_arch(config.model, default_classes(o.model)));
  init_weights(model, 0);
  Optimizer optimizer(model.params, model.weights, optimizer_settings(config.optim));
  Ema ema{.average = {}, .decay = 0.9999};
  for (const at::Tensor& w : model.weights) ema.average.push_back(w.detach().clone());
  Filters filters = make_filters(model, compute_type(o.precision), true);
  const Batch batch = made_up_batch(o.batch, o.size, model.arch.classes);
  const StepSettings settings{config.loss, o.batch, 0};

  BenchResult r;
  std::vector<double> forward_ms, backward_ms, update_ms;
  const double end = now_s() + o.seconds;
  for (int i = 0; i < 5 || now_s() < end; ++i) {
    const double started = now_s();
    const StepResult s =
        train_step(model, filters, optimizer, ema, batch, settings, 1e-3, static_cast<uint64_t>(i));
    const double ended = now_s();
    if (i < 2) continue;  // the first steps fill caches
    r.repeats.push_back(1e3 * (ended - started));
    forward_ms.push_back(1e3 * s.forward_s);
    backward_ms.push_back(1e3 * s.backward_s);
    update_ms.push_back(1e3 * s.update_s);
  }
  r.step_ms = median(r.repeats);
  r.forward_ms = median(forward_ms);
  r.backward_ms = median(backward_ms);
  r.update_ms = median(update_ms);
  r.images_per_s = 1e3 * static_cast<double>(o.batch) / r.step_ms;
  r.tflops = 6e-12 * static_cast<double>(model.arch.macs(o.size, o.size)) * r.images_per_s;
  r.gemm_tflops = matrix_product_tflops(o.precision);
  r.mfu = r.tflops / r.gemm_tflops;
  return r;
}

}  // namespace nfscale
