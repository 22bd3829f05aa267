#include "arch/cost.h"

#include "base/error.h"

namespace nfscale {

const std::vector<Accelerator>& accelerators() {
  static const std::vector<Accelerator> all = {{"tpu-v3-core", 61.5e12},
                                               {"tpu-v4-core", 137.5e12},
                                               {"a100", 312e12},
                                               {"h100", 989.4e12},
                                               {"h200", 989.4e12}};
  return all;
}

double training_flops(int64_t macs, double images, double ascent) {
  return 6.0 * static_cast<double>(macs) * images * (1 + ascent);
}

double device_hours(double flops, const Accelerator& device, double utilisation) {
  return flops / (3600 * utilisation * device.peak);
}

double PaperRun::utilisation(const std::string& accelerator) const {
  for (const Accelerator& a : accelerators())
    if (a.name == accelerator)
      return device_hours(flops(), a, 1) / (accelerator == "tpu-v4-core" ? v4_hours : v3_hours);
  NFSCALE_CHECK(false);
  return 0;
}

std::vector<PaperRun> paper_runs() {
  constexpr int64_t kClasses = 29593, kSide = 224;
  const auto run = [](const std::string& name, double images, double v4, double v3, bool at_least) {
    ModelConfig config;
    config.name = name;
    return PaperRun{name, images, make_arch(config, kClasses).macs(kSide, kSide), v4, v3, at_least};
  };
  return {run("nfnet_f7+", 8 * 4e9, 110e3, 250e3, false),
          run("vit_giant14", 1e6 * 16384, 120e3, 210e3, false),
          run("vit_gigantic14", 5e6 * 4096, 280e3, 500e3, true),
          run("vit_so400m14", 40e9, 130e3, 230e3, false)};
}

std::vector<std::string> paper_assumptions() {
  // Whole strings: pieces of them in a list would look like forgotten commas.
  return {
      std::string("images: NFNet-F7+ 8 epochs of \"about 4 billion\"; ViT-g/14 1,000,000 steps of "
                  "16,384 (its configuration); ViT-G/14 5,000,000 steps of 4,096 and SoViT-400m/14 "
                  "40e9 (their papers)"),
      std::string(
          "224 px and the 29,593 classes of the ViTs' configurations for all; the paper says "
          "30k"),
      "training costs three times the forward pass, 2 FLOP a multiply-add",
      "a TPU-v4 core is half a chip, 137.5 TFLOP/s; a v3 core 61.5",
      "\"250 TPU-v3 core hours\" of F7+ means 250k",
      std::string(
          "F7+ keeps bottlenecks narrower than two groups; floored, as in the released code, "
          "it would need 9 % fewer multiply-adds"),
  };
}

}  // namespace nfscale
