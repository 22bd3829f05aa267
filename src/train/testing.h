// For tests only: a small model with a batch for its training.
#pragma once

#include "base/random.h"
#include "config/load.h"
#include "model/init.h"
#include "train/step.h"

namespace nfscale {

struct Toy {
  Model model;
  Filters filters;
  Optimizer optimizer;
  Batch batch;
};

// Every seventh picture has weight 0. `stochastic_depth` is the rate of dropout too.
inline Toy toy(int64_t rows, double stochastic_depth = 0, at::ScalarType compute = at::kFloat) {
  Config config;
  set_key(config, "model.name", "nfnet_n0", "test");
  config.model.stochastic_depth = config.model.drop_rate = stochastic_depth;
  resolve(config);
  Model model = make_model(make_arch(config.model, 10));
  init_weights(model, 3);
  for (size_t i = 0; i < model.params.size(); ++i)
    if (model.params[i].name.ends_with("skipinit_gain")) model.weights[i].detach().fill_(0.3);
  Batch batch;
  batch.rows = batch.count = rows;
  batch.size = 16;
  for (int64_t i = 0; i < rows * 16 * 16 * 3; ++i)
    batch.pixels.push_back(2 * uniform(words(5, Op::generator, static_cast<uint64_t>(i))[0]) - 1);
  for (int64_t i = 0; i < rows; ++i) {
    batch.labels.push_back(i % 10);
    batch.weights.push_back(i % 7 == 3 ? 0.0f : 1.0f);
  }
  Optimizer optimizer(model.params, model.weights, optimizer_settings(config.optim, model.arch));
  Filters filters = make_filters(model, compute, true);
  return {std::move(model), std::move(filters), std::move(optimizer), std::move(batch)};
}

}  // namespace nfscale
