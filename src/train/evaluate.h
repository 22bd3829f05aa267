// Held-out loss and accuracy: every example once, in the order of the source.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/loader.h"
#include "data/source.h"
#include "model/forward.h"
#include "train/weights_file.h"

namespace nfscale {

struct ExamplePrediction {
  std::string key;
  int64_t label = 0, predicted = 0;
  double loss = 0, probability = 0;
};

struct Evaluation {
  double loss = 0, top1 = 0, top5 = 0;  // means over the examples that could be decoded
  double loss_se = 0;                   // standard error of the loss
  // Expected calibration error: |accuracy - mean probability of the answer|, over 15 equal bins of
  // that probability, weighted by their examples.
  double ece = 0;
  int64_t examples = 0, broken = 0;

  struct OfClass {
    int64_t examples = 0, right = 0;
    double loss = 0;  // mean
  };
  std::vector<OfClass> classes;
  struct Confusion {
    int64_t label = 0, predicted = 0, count = 0;
  };
  std::vector<Confusion> confused;  // the most frequent first, at most 20

  Json json() const;  // {"loss", "loss_se", "top1", "top5", "ece", "examples"}
};

struct EvaluateOptions {
  DataConfig data;
  std::vector<std::string> class_names;  // of the model; labels are matched by name
  int64_t size = 224, batch = 64;
  int threads = 1;
  at::ScalarType compute = at::kFloat;
  std::string loss = "softmax";
  // 2: the picture and its mirror image; 5: the evaluated part, and as large ones at the corners of
  // what lies around it (augment.h, Frame); 10: these and their mirror images. What counts is the
  // mean of the probabilities (Krizhevsky et al., 2012, section 4.1).
  int views = 1;
  std::function<void(const ExamplePrediction&)> each = {};
};
// As the model was trained; classes without names get their numbers.
EvaluateOptions evaluate_options(const TrainedModel& trained, int threads);

// Adds up what is known of single examples.
class EvaluationSum {
 public:
  explicit EvaluationSum(int64_t classes)
      : result_{.classes = std::vector<Evaluation::OfClass>(static_cast<size_t>(classes)),
                .confused = {}} {}
  void add(const ExamplePrediction& example, bool in_top5);
  void add_broken() { ++result_.broken, ++result_.examples; }
  int64_t examples() const { return result_.examples; }
  Evaluation result() const;

 private:
  static constexpr size_t kBins = 15;
  Evaluation result_;
  // Losses around the first one, so that their squares lose nothing.
  double first_ = 0, sum_ = 0, squares_ = 0;
  int64_t counted_ = 0, top1_ = 0, top5_ = 0;
  std::array<double, kBins> confidence_{};
  std::array<int64_t, kBins> right_{};
  std::map<std::pair<int64_t, int64_t>, int64_t> confusions_;
};

// Exit::usage where there is nothing around the evaluated part.
void check_views(const EvaluateOptions& options);

// Logits whose softmax (or sigmoid) is the mean over the views of `frames`, pictures as of
// frame_of(): NCHW, square.
at::Tensor logits_of_views(const Model& model, Filters& filters, const at::Tensor& frames,
                           const EvaluateOptions& options);

// On the device of the weights. Throws Exit::preempted as soon as a stop is requested: the batch is
// finished, nothing is kept.
Evaluation evaluate(const Model& model, std::shared_ptr<const Source> source,
                    const EvaluateOptions& options);

// "bf16" or "f32" as a tensor type.
at::ScalarType compute_type(const std::string& precision);

// NCHW images over the rows [begin, end) of a batch's pixels; nothing is copied.
at::Tensor batch_images(const Batch& batch, int64_t begin, int64_t end);

}  // namespace nfscale
