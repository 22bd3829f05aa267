// The device that a command computes on, chosen by its --device.
#pragma once

#include <string>
#include <vector>

#include "model/model.h"

namespace nfscale {

// "cpu", "cuda" (the first GPU) or "cuda:N". Exit::usage for another text, for a GPU in a build for
// CPUs, and for one that is not there or cannot be used, with what is missing. CUDA is not touched
// for "cpu".
at::Device open_device(const std::string& text);

// As open_device takes it: "cpu", "cuda:0".
std::string device_text(at::Device device);

// Its maker's name: "Intel(R) Xeon(R) Processor", "NVIDIA H100 80GB HBM3".
std::string device_kind(at::Device device);

// What train.precision = "auto" means there: bf16 where the device multiplies it, else f32.
std::string auto_precision(at::Device device);

// The model with its weights on the device; on a CPU those of the model itself.
Model on_device(const Model& model, at::Device device);

// Waits until the device has done what it was given.
void wait_for(at::Device device);

// For nfscale doctor: "cpu" and every GPU with its name; what --device cannot have, and why.
struct DeviceList {
  std::vector<std::string> devices, missing;
};
DeviceList list_devices();

}  // namespace nfscale
