#include "train/evaluate.h"

#include <ATen/ops/flip.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logit.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>

#include "base/log.h"
#include "base/process.h"
#include "data/augment.h"
#include "model/loss.h"

namespace nfscale {

Json Evaluation::json() const {
  return Json::object({{"loss", loss},
                       {"loss_se", loss_se},
                       {"top1", top1},
                       {"top5", top5},
                       {"ece", ece},
                       {"examples", examples}});
}

void EvaluationSum::add(const ExamplePrediction& e, bool in_top5) {
  if (counted_ == 0 && std::isfinite(e.loss)) first_ = e.loss;
  const double loss = e.loss - first_;
  const bool right = e.predicted == e.label;
  ++result_.examples;
  ++counted_;
  sum_ += loss;
  squares_ += loss * loss;
  top1_ += right;
  top5_ += in_top5;
  // A model of weights that are not finite is sure of nothing.
  const double probability = std::isfinite(e.probability) ? e.probability : 0;
  const auto bin =
      static_cast<size_t>(std::clamp(probability * kBins, 0.0, static_cast<double>(kBins) - 1));
  confidence_[bin] += probability;
  right_[bin] += right;
  Evaluation::OfClass& c = result_.classes.at(static_cast<size_t>(e.label));
  ++c.examples;
  c.right += right;
  c.loss += e.loss;
  if (!right) ++confusions_[{e.label, e.predicted}];
}

Evaluation EvaluationSum::result() const {
  constexpr size_t kConfusions = 20;
  Evaluation r = result_;
  const auto n = static_cast<double>(std::max<int64_t>(counted_, 1));
  r.loss = first_ + sum_ / n;
  if (counted_ > 1) r.loss_se = std::sqrt(std::max(0.0, squares_ - sum_ * sum_ / n) / (n - 1) / n);
  r.top1 = static_cast<double>(top1_) / n;
  r.top5 = static_cast<double>(top5_) / n;
  for (size_t b = 0; b < kBins; ++b)
    r.ece += std::abs(confidence_[b] - static_cast<double>(right_[b])) / n;
  for (Evaluation::OfClass& c : r.classes)
    c.loss /= static_cast<double>(std::max<int64_t>(c.examples, 1));
  for (const auto& [pair, count] : confusions_)
    r.confused.push_back({pair.first, pair.second, count});
  std::stable_sort(r.confused.begin(), r.confused.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  if (r.confused.size() > kConfusions) r.confused.resize(kConfusions);
  return r;
}

at::ScalarType compute_type(const std::string& precision) {
  return precision == "bf16" ? at::kBFloat16 : at::kFloat;
}

at::Tensor batch_images(const Batch& b, int64_t begin, int64_t end) {
  float* pixels = const_cast<float*>(b.pixels.data()) + begin * b.size * b.size * 3;
  return at::from_blob(pixels, {end - begin, b.size, b.size, 3}, at::kFloat).permute({0, 3, 1, 2});
}

EvaluateOptions evaluate_options(const TrainedModel& trained, int threads) {
  EvaluateOptions options{.data = trained.data,
                          .class_names = trained.class_names,
                          .size = trained.eval_size,
                          .threads = threads,
                          .compute = compute_type(trained.precision),
                          .loss = trained.loss};
  if (options.class_names.empty())
    for (int64_t c = 0; c < trained.model.arch.classes; ++c)
      options.class_names.push_back(std::to_string(c));
  return options;
}

namespace {

struct View {
  int64_t top = 0, left = 0;
  bool mirrored = false;
};

// In a frame with `around` pixels more than the evaluated part.
std::vector<View> views_of(int views, int64_t around) {
  const int64_t middle = around / 2;
  std::vector<View> all = {{middle, middle}};
  if (views >= 5)
    for (const int64_t top : {int64_t{0}, around})
      for (const int64_t left : {int64_t{0}, around}) all.push_back({top, left});
  if (views == 2 || views == 10)
    for (size_t i = 0, n = all.size(); i < n; ++i) all.push_back({all[i].top, all[i].left, true});
  return all;
}

}  // namespace

void check_views(const EvaluateOptions& o) {
  if (o.views >= 5 && frame_of(o.data.eval_crop, o.size).size == o.size)
    fail(
        Exit::usage,
        "--views {}: the whole picture is evaluated (data.eval_crop = \"{}\"), nothing lies around "
        "it; 1 and 2 are allowed",
        o.views, o.data.eval_crop);
}

at::Tensor logits_of_views(const Model& model, Filters& filters, const at::Tensor& frames,
                           const EvaluateOptions& o) {
  const std::vector<View> views = views_of(o.views, frames.size(2) - o.size);
  const bool sigmoid = o.loss == "sigmoid";
  std::vector<at::Tensor> all;
  for (const View& v : views) {
    at::Tensor images = frames.narrow(2, v.top, o.size).narrow(3, v.left, o.size);
    if (v.mirrored) images = images.flip(3);
    const at::Tensor logits =
        forward(model, filters, images.contiguous(at::MemoryFormat::ChannelsLast));
    if (views.size() == 1) return logits;
    all.push_back(sigmoid ? at::sigmoid(logits.to(at::kDouble)) : at::log_softmax(logits, 1));
  }
  // Of softmax by logarithms: a class may have less than the least float in every view.
  const at::Tensor stacked = at::stack(all);
  return sigmoid ? at::logit(stacked.mean(0), 1e-15)
                 : at::logsumexp(stacked, 0) - std::log(static_cast<double>(all.size()));
}

Evaluation evaluate(const Model& model, std::shared_ptr<const Source> source,
                    const EvaluateOptions& o) {
  const at::NoGradGuard no_grad;
  check_views(o);
  LoaderOptions options;
  options.rows = std::min<int64_t>(o.batch, static_cast<int64_t>(source->size()));
  options.size = o.size;
  options.data = o.data;
  if (o.views >= 5) {
    const Frame frame = frame_of(o.data.eval_crop, o.size);
    options.size = frame.size;
    options.data.eval_crop = frame.rule;
  }
  options.total_slots = source->size();
  options.training = false;
  options.threads = o.threads;
  options.label_map = match_classes(*source, o.class_names);
  Loader loader(source, options, 0);
  const at::Device device = model.weights[0].device();
  Filters filters = make_filters(model, o.compute, false);
  EvaluationSum sum(model.arch.classes);
  for (;;) {
    const Batch& batch = loader.next();
    if (batch.count == 0) break;
    if (stop_requested())
      throw Error(Exit::preempted,
                  "stopped during an evaluation; the same command begins it again");
    const at::Tensor labels =
        at::from_blob(const_cast<int64_t*>(batch.labels.data()), {batch.count}, at::kLong)
            .to(device);
    const at::Tensor logits =
        logits_of_views(model, filters, batch_images(batch, 0, batch.count).to(device), o);
    const at::Tensor losses =
        (o.loss == "sigmoid"
             ? sigmoid_loss(logits, at::zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1), 0)
             : softmax_loss(logits, labels, 0))
            .cpu();
    const at::Tensor best =
        std::get<1>(at::topk(logits, std::min<int64_t>(5, logits.size(1)), 1)).cpu().contiguous();
    const at::Tensor probability =
        (o.loss == "sigmoid" ? at::sigmoid(logits) : at::softmax(logits, 1)).cpu().contiguous();
    const float* chance = probability.const_data_ptr<float>();
    const float* loss = losses.const_data_ptr<float>();
    const int64_t* order = best.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < batch.count; ++i) {
      const auto at = static_cast<size_t>(i);
      if (batch.weights[at] == 0) {
        sum.add_broken();
        continue;
      }
      const int64_t* row = order + i * best.size(1);
      const ExamplePrediction e = {
          o.each ? source->key(batch.begin + static_cast<uint64_t>(i)) : "", batch.labels[at],
          row[0], static_cast<double>(loss[i]),
          static_cast<double>(chance[i * probability.size(1) + row[0]])};
      sum.add(e, std::find(row, row + best.size(1), e.label) != row + best.size(1));
      if (o.each) o.each(e);
    }
    live(fmt::format("evaluation {}/{}", sum.examples(), source->size()));
  }
  end_live();
  return sum.result();
}

}  // namespace nfscale
