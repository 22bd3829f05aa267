// Speed on made-up pictures: of a training step (forward, loss, backward, clipping, SGD, EMA), or
// of an evaluation of one batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nfscale {

struct BenchOptions {
  std::string model = "nfnet_f0", precision = "f32";
  int64_t size = 224, batch = 8;
  double seconds = 20;
  bool evaluation = false;
};

struct BenchResult {
  double step_ms = 0, forward_ms = 0, backward_ms = 0, update_ms = 0;  // medians
  // FLOP: 6 a multiply-add of the forward pass, 2 in an evaluation.
  double images_per_s = 0, tflops = 0;
  double gemm_tflops = 0, mfu = 0;  // of a 1024^3 matrix product in the same precision, same run
  std::vector<double> repeats;      // ms of every measured step
};

BenchResult bench_step(const BenchOptions& options);

// TFLOP/s of the best of several products of 1024 x 1024 matrices, in "bf16" or "f32".
double matrix_product_tflops(const std::string& precision);

std::string torch_version();

}  // namespace nfscale
