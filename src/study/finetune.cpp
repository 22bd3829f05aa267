#include "study/finetune.h"

#include <algorithm>

#include "arch/cost.h"
#include "base/hash.h"
#include "base/text.h"
#include "config/sam.h"

namespace nfscale {
namespace {

// As a run takes it: the architecture of its checkpoint, the size of its pictures unless the recipe
// has one.
Config config_of(const Grid& grid, const std::string& model, const Recipe& recipe) {
  Config config = recipe.loaded.config;
  const Config& pretrained = grid.configs.at(model);
  config.model = with_backbone(config.model, pretrained.model);
  if (!recipe.loaded.origins.of.contains("train.image_size"))
    config.train.image_size = pretrained.train.image_size;
  resolve(config);
  return config;
}

Horizon horizon_of(const Config& config, const StudyData& data) {
  return {.examples = data.examples * static_cast<uint64_t>(config.data.augment.repeat),
          .batch = static_cast<uint64_t>(config.train.batch)};
}

Arch arch_of(const Config& config, const StudyData& data) {
  return make_arch(config.model, std::max<int64_t>(2, data.classes),
                   sides_of(config.train.image_size));
}

// What a run would refuse, before the search that leads to it.
void check_model(const Config& config, const StudyData& data) {
  std::vector<Param> params = arch_of(config, data).params();
  freeze(config.optim.freeze, params);
  Horizon horizon = horizon_of(config, data);
  if (horizon.examples == 0) return;
  horizon.total_slots = total_slots(config.train.duration, horizon);
  const uint64_t steps = steps_of(horizon);
  const double warmup = in_steps(config.schedule.warmup, horizon);
  if (warmup > 0 && warmup >= static_cast<double>(steps))
    fail(Exit::usage, "schedule.warmup: {} steps are not shorter than the {} steps of the run",
         number_text(warmup), steps);
}

std::string hash_of(const Grid& grid, const std::string& model, const Recipe& recipe) {
  return config_hash(config_of(grid, model, recipe), recipe.data.train_fingerprint,
                     recipe.data.heldout_fingerprint);
}

void check_recipe(const Grid& grid, const Recipe& recipe) {
  const Config& config = recipe.loaded.config;
  for (const auto& [key, origin] : recipe.loaded.origins.of)
    if (is_of_backbone(key))
      fail(Exit::usage, "{}: {} is that of the checkpoint; leave it out", origin, key);
  if (config.data.train.empty()) fail(Exit::usage, "data.train is missing");
  if (config.data.heldout.empty())
    fail(Exit::usage, "data.heldout is missing: the error is that of pictures not trained on");
  for (const auto& [model, pretrained] : grid.configs) {
    try {
      check_model(config_of(grid, model, recipe), recipe.data);
    } catch (const Error& e) {
      fail(e.code, "{}: {}", model, e.what());
    }
  }
}

}  // namespace

std::vector<Recipe> read_recipes(const Study& study, const Grid& grid) {
  std::vector<Recipe> recipes;
  for (size_t i = 0; i < study.recipes.size(); ++i) {
    const Path file = study.recipes[i];
    Recipe recipe = {.name = file.stem().string(), .loaded = load_config(file, {})};
    if (i < grid.data.finetune.size()) recipe.data = grid.data.finetune[i];
    const std::string where = study.file.string() + ": finetune.config";
    if (std::any_of(recipes.begin(), recipes.end(),
                    [&](const Recipe& r) { return r.name == recipe.name; }))
      fail(Exit::usage, "{}: two recipes are called {}", where, printable(recipe.name));
    try {
      check_recipe(grid, recipe);
    } catch (const Error& e) {
      if (e.code != Exit::usage) throw;
      fail(Exit::usage, "{}: {}: {}", where, file.string(), e.what());
    }
    const std::string& model = grid.cells[0].model;
    for (const Recipe& other : recipes)
      if (hash_of(grid, model, other) == hash_of(grid, model, recipe))
        fail(Exit::usage, "{}: {} and {} are one recipe", where, printable(other.name),
             printable(recipe.name));
    recipes.push_back(std::move(recipe));
  }
  return recipes;
}

Trial finetuning_of(const Grid& grid, const Trial& pretrained, size_t recipe) {
  const Recipe& r = grid.recipes[recipe];
  Trial trial = pretrained;
  trial.init = pretrained.run_id;
  trial.recipe = recipe;
  trial.seed = r.loaded.config.train.seed;
  trial.config_hash =
      hash128(pretrained.config_hash + hash_of(grid, cell_at(grid, pretrained.cell).model, r));
  trial.run_id = fmt::format("{}-ft{}", pretrained.run_id, trial.config_hash.substr(0, 8));
  return trial;
}

double finetuning_flops(const Grid& grid, const Cell& cell, const Recipe& recipe) {
  const Config config = config_of(grid, cell.model, recipe);
  const int64_t side = config.train.image_size;
  const Horizon horizon = horizon_of(config, recipe.data);
  if (horizon.examples == 0) return 0;
  return training_flops(arch_of(config, recipe.data).macs(side, side),
                        static_cast<double>(total_slots(config.train.duration, horizon)),
                        ascent_share(config.optim, config.train.batch));
}

std::vector<Finetunings> most_finetunings(const Study& study, const Grid& grid) {
  std::vector<Finetunings> all;
  if (grid.recipes.empty()) return all;
  const auto candidates = static_cast<double>(study.candidates);
  for (const std::vector<size_t>& family : families_of(grid)) {
    const size_t largest = *std::max_element(family.begin(), family.end(), [&](size_t a, size_t b) {
      return grid.cells[a].macs < grid.cells[b].macs;
    });
    all.push_back({.cell = largest});
    for (const Recipe& recipe : grid.recipes) {
      all.back().trials += candidates;
      all.back().flops += candidates * finetuning_flops(grid, grid.cells[largest], recipe);
      const Config config = config_of(grid, grid.cells[largest].model, recipe);
      all.back().memory_bytes = std::max(
          all.back().memory_bytes,
          arch_of(config, recipe.data).training_bytes(config.train.batch, config.train.image_size));
    }
  }
  return all;
}

}  // namespace nfscale
