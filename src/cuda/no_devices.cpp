// devices.h of a build without NFSCALE_CUDA.
#include "cuda/devices.h"

namespace nfscale::cuda {

Devices find_devices() {
  return {{}, "this is a build for CPUs (HACKING.md, GPU, says how to build for GPUs)"};
}

}  // namespace nfscale::cuda
