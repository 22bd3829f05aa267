// What a run costs on devices that are not here: from counted operations, a device's peak and a
// utilisation. And the paper's own runs, for which hours were reported.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "arch/arch.h"

namespace nfscale {

struct Accelerator {
  std::string name;
  double peak;  // FLOP/s of dense bfloat16, from the maker's documentation
};
// TPU-v3 and v4 by the core, two of which are a chip; GPUs whole.
const std::vector<Accelerator>& accelerators();

// 6 multiply-adds of an image (2 FLOP, three times that of the forward pass) and all images, and of
// the rows of SAM's ascent once more: `ascent` of them for every image.
double training_flops(int64_t macs, double images, double ascent = 0);

// Of a device's peak, where nothing is known of a run on it.
constexpr double kAssumedUtilisation = 0.4;
// Hours of one device at a share of its peak.
double device_hours(double flops, const Accelerator& device, double utilisation);

// A row of the table of arXiv 2310.16764, section 3 and its references.
struct PaperRun {
  std::string model;
  double images;
  int64_t macs;  // of one image at 224 px, with the 29,593 classes of JFT
  double v4_hours, v3_hours;
  bool v3_at_least;  // reported as more than v3_hours
  double utilisation(const std::string& accelerator) const;
  double flops() const { return training_flops(macs, images); }
};
std::vector<PaperRun> paper_runs();
// What had to be assumed for it, a sentence each.
std::vector<std::string> paper_assumptions();

}  // namespace nfscale
