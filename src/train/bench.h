// Speed: of a training step (forward, loss, backward, clipping, SGD, EMA), or
// of an evaluation of one batch.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/source.h"

namespace nfscale {

struct BenchOptions {
  Config config;         // resolved: model, size, batch, optimizer, average
  int64_t classes = 10;  // unless the model says it
  std::string precision = "f32";
  double seconds = 20;
  bool evaluation = false;
  at::Device device = at::kCPU;
  // Training pictures, loaded beside the step as a run does; null: made-up ones, loaded before.
  std::shared_ptr<const Source> pictures = nullptr;
};

struct BenchResult {
  double step_ms = 0, forward_ms = 0, backward_ms = 0, update_ms = 0;  // medians
  bool has_parts = true;  // false: a step on a GPU is one graph, and only step_ms is known
  // FLOP: 6 a multiply-add of the forward pass, 2 in an evaluation.
  double images_per_s = 0, tflops = 0;
  double gemm_tflops = 0, mfu = 0;  // of matrix_product_tflops in the same precision, same run
  std::vector<double> repeats;      // ms of every measured step
};

BenchResult bench_step(const BenchOptions& options);

// What `bench step` measures of a model: its family's optimizer, with an average of the weights;
// not resolved.
Config bench_config(const std::string& model, int64_t size, int64_t batch);

// TFLOP/s of the best of several products of square matrices, in "bf16" or "f32": of side 1024 on a
// CPU, of side 8192 on a GPU, which smaller ones do not fill.
double matrix_product_tflops(const std::string& precision, at::Device device = at::kCPU);

std::string torch_version();

}  // namespace nfscale
