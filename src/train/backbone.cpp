#include "train/backbone.h"

#include <algorithm>

#include "base/log.h"
#include "base/text.h"
#include "model/vit.h"

namespace nfscale {
void take_backbone(LoadedConfig& loaded, const TrainedModel& backbone) {
  Config config = loaded.config;
  config.model = with_backbone(loaded.config.model, backbone.config);
  const auto given = [&](const std::string& key) { return loaded.origins.of.contains(key); };
  const auto asked = config_values(loaded.config), taken = config_values(config);
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto& [key, value] = asked[i];
    if (!is_of_backbone(key)) continue;
    if (given(key) && !(value == taken[i].second))
      fail(Exit::usage,
           "{}: {} = {}, but the model is that of --init, {} with {} = {}; leave it out",
           loaded.origins[key], key, toml_text(value), backbone.file.string(), key,
           taken[i].second.is_null() ? "-" : toml_text(taken[i].second));
    loaded.origins.of[key] = "--init";
  }
  const auto take = [&](const std::string& key, auto& field, const auto& value) {
    if (given(key)) return;
    field = value;
    loaded.origins.of[key] = "--init";
  };
  take("data.mean", config.data.mean, backbone.data.mean);
  take("data.std", config.data.std, backbone.data.std);
  take("data.exif", config.data.exif, backbone.data.exif);
  take("data.eval_crop", config.data.eval_crop, backbone.data.eval_crop);
  take("train.image_size", config.train.image_size, backbone.image_size);
  loaded.config = config;
}

void load_backbone(Model& model, const TrainedModel& backbone) {
  const Model& from = backbone.model;
  for (size_t i = 0; i < model.params.size(); ++i) {
    const Param& p = model.params[i];
    if (p.head) continue;
    const auto found = std::find_if(from.params.begin(), from.params.end(),
                                    [&](const Param& q) { return q.name == p.name; });
    NFSCALE_CHECK(found != from.params.end());
    at::Tensor weight = from.weights[static_cast<size_t>(found - from.params.begin())].detach();
    if (p.name == "pos_embed")
      weight = resize_position_embedding(weight, model.arch.vit.prefix(), from.arch.vit.grid,
                                         model.arch.vit.grid, numerics_of(model.arch));
    NFSCALE_CHECK(weight.sizes() == model.weights[i].sizes());
    model.weights[i].detach().copy_(weight);
  }
  const auto side = [](const Sides& grid) { return fmt::format("{} x {}", grid[0], grid[1]); };
  say("{}: all weights but the classifier, which is new ({} classes){}", backbone.file.string(),
      model.arch.classes,
      from.arch.vit.grid == model.arch.vit.grid
          ? ""
          : fmt::format("; position embedding resized from {} to {} patches",
                        side(from.arch.vit.grid), side(model.arch.vit.grid)));
}

}  // namespace nfscale
