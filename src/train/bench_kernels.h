// Speed of the single kernels: of the convolutions of a model beside the rate of a matrix product,
// of the passes over activations and weights beside the bandwidth of memory, both measured in the
// same run.
#pragma once

#include <string>
#include <vector>

#include "train/bench.h"

namespace nfscale {

struct KernelTime {
  std::string name, shape;
  int64_t times = 1;            // how often a step has it
  double us = 0;                // of one call, the fastest quarter
  double tflops = 0, gb_s = 0;  // one of them; 0 where it does not apply
  double share = 0;             // of the matrix product's rate, or of memory's bandwidth
};

struct KernelBench {
  double gemm_tflops = 0, bandwidth_gb_s = 0;
  std::vector<KernelTime> kernels;
};

KernelBench bench_kernels(const BenchOptions& options);

}  // namespace nfscale
