#include "train/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <cstdlib>

#include "base/cpu.h"
#include "base/error.h"
#include "base/text.h"
#include "cuda/devices.h"

namespace nfscale {
namespace {

void check_gpu(const std::string& text, int64_t number) {
  const cuda::Devices found = cuda::find_devices();
  if (!found.missing.empty()) fail(Exit::usage, "--device {}: {}", text, found.missing);
  const auto count = std::ssize(found.by_number);
  if (number >= count)
    fail(Exit::usage, "--device {}: expected at most cuda:{}, for this machine shows {} GPU{}",
         text, count - 1, count, count == 1 ? "" : "s");
  const cuda::Device& device = found.by_number[static_cast<size_t>(number)];
  if (!device.fault.empty())
    fail(Exit::usage, "--device {}: {} cannot be used: {}", text, device.name, device.fault);
}

at::Device open_gpu(const std::string& text, int64_t number) {
  check_gpu(text, number);
  // cuBLAS computes the same bits every time only with a workspace of this form.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::Context& context = at::globalContext();
  // "f32" is float32, not the shorter TF32 that cuDNN takes for it by default.
  context.setAllowTF32CuDNN(false);
  // Deterministic algorithms would fill all new memory first, a pass over every activation.
  context.setDeterministicFillUninitializedMemory(false);
  return {at::kCUDA, static_cast<at::DeviceIndex>(number)};
}

}  // namespace

at::Device open_device(const std::string& text) {
  if (text == "cpu") {
    // Autograd makes a thread for each GPU that libtorch sees.
    if constexpr (cuda::kBuilt) setenv("CUDA_VISIBLE_DEVICES", "", /*overwrite=*/1);
    return at::kCPU;
  }
  const std::optional<int64_t> number = text == "cuda"              ? 0
                                        : text.starts_with("cuda:") ? parse_int(text.substr(5))
                                                                    : std::nullopt;
  if (!number || *number < 0 || *number > std::numeric_limits<at::DeviceIndex>::max()) {
    const std::vector<std::string> known = {"cpu", "cuda", "cuda:0"};
    fail(Exit::usage, "--device: expected cpu, cuda or cuda:N, found {} (nearest: {})",
         printable(text), nearest(text, known));
  }
  return open_gpu(text, *number);
}

std::string device_text(at::Device device) {
  return device.type() == at::kCUDA ? fmt::format("cuda:{}", device.index()) : "cpu";
}

std::string device_kind(at::Device device) {
  if (device == at::kCPU) return processor_name();
  const cuda::Devices found = cuda::find_devices();
  return found.by_number.at(static_cast<size_t>(device.index())).name;
}

std::string auto_precision(at::Device device) {
  return device.type() == at::kCUDA ? "bf16" : cpu_precision();
}

Model on_device(const Model& model, at::Device device) {
  Model result{model.arch, model.params, {}};
  for (const at::Tensor& w : model.weights) result.weights.push_back(w.detach().to(device));
  return result;
}

void wait_for(at::Device device) {
  if (device.type() == at::kCUDA) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

DeviceList list_devices() {
  DeviceList list = {{"cpu"}, {}};
  const cuda::Devices found = cuda::find_devices();
  for (const cuda::Device& d : found.by_number) {
    const std::string name = fmt::format("cuda:{} {}", &d - found.by_number.data(), d.name);
    list.devices.push_back(name);
    if (!d.fault.empty()) list.missing.push_back(name + ": " + d.fault);
  }
  if (!found.missing.empty()) list.missing.push_back("CUDA: " + found.missing);
  return list;
}

}  // namespace nfscale
