// Held-out loss and accuracy: every example once, in the order of the source.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/loader.h"
#include "data/source.h"
#include "model/forward.h"

namespace nfscale {

struct ExamplePrediction {
  std::string key;
  int64_t label = 0, predicted = 0;
  double loss = 0, probability = 0;
};

struct Evaluation {
  double loss = 0, top1 = 0, top5 = 0;  // means over the examples that could be decoded
  int64_t examples = 0, broken = 0;
  Json json() const;  // {"loss", "top1", "top5", "examples"}
};

struct EvaluateOptions {
  DataConfig data;
  std::vector<std::string> class_names;  // of the model; labels are matched by name
  int64_t size = 224, batch = 64;
  int threads = 1;
  at::ScalarType compute = at::kFloat;
  std::string loss = "softmax";
  std::function<void(const ExamplePrediction&)> each = {};
};

// On the device of the weights. Throws Exit::preempted as soon as a stop is requested: the batch is
// finished, nothing is kept.
Evaluation evaluate(const Model& model, std::shared_ptr<const Source> source,
                    const EvaluateOptions& options);

// "bf16" or "f32" as a tensor type.
at::ScalarType compute_type(const std::string& precision);

// NCHW images over the rows [begin, end) of a batch's pixels; nothing is copied.
at::Tensor batch_images(const Batch& batch, int64_t begin, int64_t end);

}  // namespace nfscale
