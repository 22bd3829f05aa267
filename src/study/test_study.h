// A small study in a folder of its own, for tests.
#pragma once

#include <string>

#include "base/testing.h"
#include "study/study.h"

namespace nfscale {

inline const char* const kTestBase = R"(
[data]
train = "shapes:?count=256"
heldout = "shapes:?count=64&split=heldout"
[train]
batch = 16
image_size = 16
[optim]
lr = 0.1
[schedule]
warmup = "1st"
)";

inline const char* const kTestRecipe = R"(
[data]
train = "fractal:?count=128"
heldout = "fractal:?count=100&split=heldout"
[train]
batch = 16
duration = "2ep"
[optim]
sam_rho = 0.05
sam_fraction = 0.5
)";

inline StudyData test_data() {
  return {.examples = 256,
          .heldout_examples = 64,
          .classes = 10,
          .train_fingerprint = "train",
          .heldout_fingerprint = "heldout",
          .finetune = {{.examples = 128,
                        .heldout_examples = 100,
                        .classes = 5,
                        .train_fingerprint = "fine",
                        .heldout_fingerprint = "tuned"}}};
}

// 2 models x 2 budgets; `more` is added to the file. Beside it lies a recipe, finetune.toml.
inline Study test_study(const TestFolder& folder, const std::string& more) {
  folder.write("base.toml", kTestBase);
  if (!std::filesystem::exists(folder.path / "finetune.toml"))
    folder.write("finetune.toml", kTestRecipe);
  folder.write("s.toml",
               "study.name = \"t\"\nstudy.base = \"base.toml\"\nstudy.seed = 1\n"
               "grid.models = [\"nfnet_n0\", \"nfnet_n1\"]\ngrid.epochs = [0.25, 0.5]\n" +
                   more);
  return load_study(folder.path / "s.toml", folder.path / "out");
}

inline Grid test_grid(const TestFolder& folder, const std::string& more) {
  return make_grid(test_study(folder, more), test_data());
}

}  // namespace nfscale
