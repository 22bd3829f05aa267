// The case of a golden file, opened: model, inputs and what the file asks for. For parity*.cpp.
#pragma once

#include <map>

#include "base/json.h"
#include "base/safetensors.h"
#include "model/forward.h"

namespace nfscale {

// Results by the name of the stored tensor, in double.
using Results = std::map<std::string, std::vector<double>>;

std::vector<double> doubles(const at::Tensor& t);
// Mean, standard deviation, smallest, largest.
std::vector<double> statistics(const at::Tensor& t);

struct Case {
  const SafetensorsFile& file;
  Json optim, loss;
  Model model;
  at::Tensor images, labels;
  at::Tensor targets;  // [N, K] of 0 and 1; of the labels where the file holds those

  Json meta(const std::string& key) const;
  double smoothing() const { return loss.at("label_smoothing").as_double(); }
  bool sigmoid() const { return loss.at("kind").as_string() == "sigmoid"; }
  at::Tensor tensor(const std::string& name) const;  // of the file, in the type of the model
  at::Tensor mean_loss(const at::Tensor& logits) const;
  at::Tensor forward_pass(Filters& filters, const Masks* masks, const Observer& observe = {}) const;
  Masks masks() const;  // those of the file
  // Pass t = 0, 1, ... of a training case: loss and gradients, kept under "step1/loss" and so on,
  // of the first pass also activations, logits and loss under act/ and out/. Returns the logits.
  at::Tensor pass(Filters& filters, const Masks& masks, size_t t, Results& results) const;
  // For a digest: statistics of what is observed under digest/, whole tensors under act/, where the
  // file holds them.
  Observer digest(Results& results) const;
};

// `numerics` other than "" replaces the file's.
Case open_case(const SafetensorsFile& file, at::ScalarType type, const std::string& numerics);

Results run_nfnet_case(const Case& c);
Results run_vit_case(const Case& c);

}  // namespace nfscale
