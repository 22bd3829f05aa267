// The GPUs of this machine, as far as this build can use them. Nothing here initialises a device.
#pragma once

#include <string>
#include <vector>

namespace nfscale::cuda {

#ifdef NFSCALE_CUDA
constexpr bool kBuilt = true;
#else
// What is declared for GPUs is not defined: `if constexpr (kBuilt)` stands in front of every use.
constexpr bool kBuilt = false;
#endif

struct Device {
  std::string name;
  std::string fault;  // why this build cannot use it; empty: it can
};
struct Devices {
  std::vector<Device> by_number;
  std::string missing;  // why there is none; else empty
};
Devices find_devices();

}  // namespace nfscale::cuda
