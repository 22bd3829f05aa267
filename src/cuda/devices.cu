#include "cuda/devices.h"

#include <cuda_runtime.h>

namespace nfscale::cuda {
namespace {

// The kernels multiply in bfloat16.
constexpr int kLeastMajor = 8;

std::string why_none(cudaError_t error) {
  int driver = 0, built = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&built);
  const auto version = [](int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
  };
  if (driver == 0) return "no NVIDIA driver is loaded on this machine";
  if (error == cudaErrorInsufficientDriver)
    return "the NVIDIA driver knows CUDA " + version(driver) + ", CUDA " + version(built) +
           " is needed";
  if (error == cudaErrorNoDevice || error == cudaSuccess)
    return "the NVIDIA driver shows no device (is CUDA_VISIBLE_DEVICES set?)";
  return std::string("the NVIDIA driver says: ") + cudaGetErrorString(error);
}

}  // namespace

Devices find_devices() {
  Devices found;
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // the runtime keeps an error until it is asked for it
  if (error != cudaSuccess || count == 0) {
    found.missing = why_none(error);
    return found;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    if (const cudaError_t unknown = cudaGetDeviceProperties(&p, i); unknown != cudaSuccess) {
      cudaGetLastError();
      found.by_number.push_back({"unknown", cudaGetErrorString(unknown)});
      continue;
    }
    Device& device = found.by_number.emplace_back(Device{p.name, ""});
    if (p.major < kLeastMajor)
      device.fault = "its compute capability is " + std::to_string(p.major) + "." +
                     std::to_string(p.minor) + ", " + std::to_string(kLeastMajor) + ".0 is needed";
  }
  return found;
}

}  // namespace nfscale::cuda
