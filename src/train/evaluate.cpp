#include "train/evaluate.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>

#include "base/log.h"
#include "base/process.h"
#include "model/loss.h"

namespace nfscale {

Json Evaluation::json() const {
  return Json::object({{"loss", loss}, {"top1", top1}, {"top5", top5}, {"examples", examples}});
}

at::ScalarType compute_type(const std::string& precision) {
  return precision == "bf16" ? at::kBFloat16 : at::kFloat;
}

at::Tensor batch_images(const Batch& b, int64_t begin, int64_t end) {
  float* pixels = const_cast<float*>(b.pixels.data()) + begin * b.size * b.size * 3;
  return at::from_blob(pixels, {end - begin, b.size, b.size, 3}, at::kFloat).permute({0, 3, 1, 2});
}

Evaluation evaluate(const Model& model, std::shared_ptr<const Source> source,
                    const EvaluateOptions& o) {
  const at::NoGradGuard no_grad;
  LoaderOptions options;
  options.rows = std::min<int64_t>(o.batch, static_cast<int64_t>(source->size()));
  options.size = o.size;
  options.total_slots = source->size();
  options.training = false;
  options.threads = o.threads;
  options.data = o.data;
  options.label_map = match_classes(*source, o.class_names);
  Loader loader(source, options, 0);
  const at::Device device = model.weights[0].device();
  Filters filters = make_filters(model, o.compute, false);
  Evaluation result;
  double loss_sum = 0;
  int64_t top1 = 0, top5 = 0, counted = 0;
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
        forward(model, filters, batch_images(batch, 0, batch.count).to(device));
    const at::Tensor losses =
        (o.loss == "sigmoid"
             ? sigmoid_loss(logits, at::zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1), 0)
             : softmax_loss(logits, labels, 0))
            .cpu();
    const at::Tensor best =
        std::get<1>(at::topk(logits, std::min<int64_t>(5, logits.size(1)), 1)).cpu().contiguous();
    const at::Tensor probability = at::softmax(logits, 1).cpu();
    const float* loss = losses.const_data_ptr<float>();
    const int64_t* order = best.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < batch.count; ++i) {
      ++result.examples;
      const auto at = static_cast<size_t>(i);
      if (batch.weights[at] == 0) {
        ++result.broken;
        continue;
      }
      const int64_t* row = order + i * best.size(1);
      ++counted;
      loss_sum += static_cast<double>(loss[i]);
      top1 += row[0] == batch.labels[at];
      top5 += std::find(row, row + best.size(1), batch.labels[at]) != row + best.size(1);
      if (o.each)
        o.each({source->key(batch.begin + static_cast<uint64_t>(i)), batch.labels[at], row[0],
                static_cast<double>(loss[i]), probability[i][row[0]].item<double>()});
    }
    live(fmt::format("evaluation {}/{}", result.examples, source->size()));
  }
  const auto n = static_cast<double>(std::max<int64_t>(counted, 1));
  result.loss = loss_sum / n;
  result.top1 = static_cast<double>(top1) / n;
  result.top5 = static_cast<double>(top5) / n;
  end_live();
  return result;
}

}  // namespace nfscale
