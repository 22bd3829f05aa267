#include "train/soup.h"

#include <ATen/ops/lerp.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "config/load.h"

namespace nfscale {
namespace {

std::vector<std::pair<std::string, Json>> values_of(const ModelConfig& model) {
  Config config;
  config.model = model;
  return config_values(config);
}

void require_same(const TrainedModel& first, const TrainedModel& other) {
  const auto refuse = [&](const std::string& what) {
    fail(Exit::usage, "{}: {} not that of {}: only runs of one model can be averaged",
         other.file.string(), what, first.file.string());
  };
  if (other.model.params.size() != first.model.params.size()) refuse("the model is");
  for (size_t i = 0; i < first.model.params.size(); ++i)
    if (other.model.params[i].name != first.model.params[i].name ||
        other.model.params[i].shape != first.model.params[i].shape)
      refuse("the model is");
  const auto a = values_of(first.config), b = values_of(other.config);
  for (size_t i = 0; i < a.size(); ++i)
    if (is_of_backbone(a[i].first) && !(a[i].second == b[i].second)) refuse(a[i].first + " is");
  if (other.class_names != first.class_names) refuse("the list of classes is");
  if (other.data.mean != first.data.mean || other.data.std != first.data.std ||
      other.data.eval_crop != first.data.eval_crop || other.data.exif != first.data.exif ||
      other.eval_size != first.eval_size)
    refuse("the preparation of pictures is");
  if (other.loss != first.loss) refuse("loss.kind is");
}

TrainedModel load_finite(const Path& path) {
  TrainedModel t = load_trained(path);
  require_finite(t);
  return t;
}

std::vector<TrainedModel> load_all(const std::vector<Path>& checkpoints) {
  std::vector<TrainedModel> all;
  for (const Path& path : checkpoints) {
    all.push_back(load_finite(path));
    require_same(all.front(), all.back());
  }
  return all;
}

// The mean of `soup`, of `count` models, and one more.
TrainedModel with_one_more(const TrainedModel& soup, double count, const TrainedModel& more) {
  TrainedModel result = soup;
  for (size_t i = 0; i < soup.model.weights.size(); ++i)
    result.model.weights[i] =
        at::lerp(soup.model.weights[i].detach(), more.model.weights[i].detach(), 1 / (count + 1));
  return result;
}

}  // namespace

TrainedModel uniform_soup(const std::vector<Path>& checkpoints) {
  NFSCALE_CHECK(!checkpoints.empty());
  TrainedModel soup = load_finite(checkpoints[0]);
  for (size_t i = 1; i < checkpoints.size(); ++i) {
    const TrainedModel more = load_finite(checkpoints[i]);
    require_same(soup, more);
    soup = with_one_more(soup, static_cast<double>(i), more);
  }
  return soup;
}

GreedySoup greedy_soup(const std::vector<Path>& checkpoints,
                       const std::function<double(const TrainedModel&)>& loss) {
  const std::vector<TrainedModel> all = load_all(checkpoints);
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < all.size(); ++i) {
    const double alone = loss(all[i]);
    order.emplace_back(std::isnan(alone) ? INFINITY : alone, i);  // NaN has no place in an order
  }
  std::stable_sort(order.begin(), order.end());
  GreedySoup soup{all[order[0].second], order[0].first, {}};
  double count = 1;
  for (size_t k = 0; k < order.size(); ++k) {
    const auto [alone, i] = order[k];
    SoupStep step = {checkpoints[i], alone, alone, k == 0};
    if (k > 0) {
      TrainedModel more = with_one_more(soup.model, count, all[i]);
      step.with = loss(more);
      step.taken = step.with <= soup.loss;
      if (step.taken) {
        soup.model = std::move(more);
        soup.loss = step.with;
        ++count;
      }
    }
    soup.steps.push_back(step);
  }
  return soup;
}

}  // namespace nfscale
