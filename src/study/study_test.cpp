#include "study/study.h"

#include <gtest/gtest.h>

#include "base/toml.h"
#include "config/load.h"
#include "study/test_study.h"

namespace nfscale {
namespace {

std::string refusal(const std::string& tables) {
  TestFolder folder;
  folder.write("base.toml", kTestBase);
  folder.write("s.toml", tables);
  try {
    make_grid(load_study(folder.path / "s.toml", std::nullopt), test_data());
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    const std::string text = e.what(), prefix = folder.path.string() + "/";
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  }
  return "accepted";
}

const std::string kHead = "study.name = \"t\"\nstudy.base = \"base.toml\"\n";
const std::string kGrid = "grid.models = [\"nfnet_n0\"]\ngrid.epochs = [1]\n";

TEST(Study, WhatSlurmIsToldByTheProgramItselfIsRefused) {
  const auto with = [](const std::string& arg) {
    return refusal(kHead + kGrid + "executor.kind = \"slurm\"\nexecutor.slurm.args = [\"" + arg +
                   "\"]\n");
  };
  for (const char* arg :
       {"--job-name=x", "-Jx", "-J", "--job=x", "--array=0-3", "-a0", "-M", "--clusters=b",
        "--signal=USR1@60", "--wrap=x", "-o", "--output=x", "-D/tmp", "--chdir=/", "--wait", "-W",
        "--no-requeue", "--open-mode=truncate", "--test-only"})
    EXPECT_NE(with(arg).find("s.toml:6: executor.slurm.args: --"), std::string::npos) << with(arg);
  for (const char* arg : {"--time=1:00:00", "--gres=gpu:1", "-p", "gpu", "--account=a", "--mem=8G",
                          "-c4", "--nodes=1", "--constraint=a", "--cpus-per-task=2", "-N1",
                          "--qos=low", "--comment=Job of mine"})
    EXPECT_EQ(with(arg), "accepted") << arg;
}

// configs/ holds runs and studies; a key that is renamed must not be forgotten there.
TEST(Study, EveryFileUnderConfigsIsRead) {
  size_t runs = 0, studies = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(Path(NFSCALE_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    const bool study = read_file(entry.path()).find("\n[study]\n") != std::string::npos;
    (study ? studies : runs) += 1;
    try {
      if (study) {
        load_study(entry.path(), std::nullopt);
      } else {
        Config config = load_config(entry.path(), {}).config;
        resolve(config);
      }
    } catch (const Error& e) {
      ADD_FAILURE() << entry.path() << ": " << e.what();
    }
  }
  EXPECT_GE(runs, 18u);
  EXPECT_GE(studies, 2u);
}

TEST(Study, FaultsNameLineAndKey) {
  EXPECT_EQ(refusal(kHead + "grid.model = [\"nfnet_n0\"]\n"),
            "s.toml:3: grid.model is not a key (nearest: grid.models)");
  EXPECT_EQ(refusal(kHead + "grid.models = [\"nfnet_n0\"]\n"), "s.toml: grid.epochs is missing");
  EXPECT_EQ(refusal(kHead + kGrid + "lr.prior = \"sof\"\n"),
            "s.toml:5: lr.prior: expected one of soft, down, none, found \"sof\" (nearest: soft)");
  EXPECT_EQ(refusal(kHead + kGrid + "lr.factor = \"2\"\n"),
            "s.toml:5: lr.factor: expected a number, found \"2\"");
  EXPECT_EQ(refusal(kHead + kGrid + "lr.factor = 1\n"),
            "s.toml:5: lr.factor: expected more than 1, at most 100, found 1");
  EXPECT_EQ(refusal(kHead + kGrid + "executor.kind = \"slurm\"\n"), "accepted");
  EXPECT_EQ(
      refusal(kHead + kGrid + "executor.kind = \"command\"\nexecutor.command.submit = \"q\"\n"),
      "s.toml:5: executor.command.status is missing: executor.kind = \"command\" needs it");
  EXPECT_EQ(refusal(kHead + kGrid + "executor.kind = \"local\"\n"), "accepted");
  EXPECT_EQ(refusal(kHead + "grid.models = [\"nfnet_q0\"]\ngrid.epochs = [1]\n"),
            "s.toml: grid.models: nfnet_q0: model.name: nfnet_q0 is not a model (nearest: "
            "nfnet_f0)");
  EXPECT_EQ(refusal(kHead + kGrid + "grid.skip = [\"nfnet_n0@3\"]\n"),
            "s.toml: grid.skip: nfnet_n0@3ep is not a cell of the grid");
  EXPECT_EQ(refusal(kHead + kGrid + "predict.targets = [\"nfnet_n1\"]\n"),
            "s.toml: predict.targets: expected \"MODEL@EPOCHS\", found \"nfnet_n1\"");
  EXPECT_EQ(refusal(kHead + kGrid + "predict.targets = [\"nfnet_q1@2\"]\n"),
            "s.toml: predict.targets: nfnet_q1: model.name: nfnet_q1 is not a model (nearest: "
            "nfnet_f1)");
  EXPECT_EQ(refusal(kHead + kGrid + "predict.targets = [\"nfnet_n1@2\", \"nfnet_n1@2ep\"]\n"),
            "s.toml: predict.targets: nfnet_n1@2ep comes twice");
  EXPECT_EQ(refusal(kHead + kGrid + "[grid.set.\"nfnet_n0\"]\ntrain.seed = 1\n"),
            "s.toml:6: grid.set.\"nfnet_n0\": train.seed is the study's, not a model's");
  EXPECT_EQ(refusal(kHead + kGrid + "[grid.set.\"nfnet_n0\"]\nmodel.widht = [1,2,3,4]\n"),
            "s.toml:6: model.widht is not a key (nearest: model.width)");
}

TEST(Study, ARunIsNamedByItsCellAndItsRecipe) {
  TestFolder folder;
  const Grid grid = test_grid(folder, "");
  const Trial trial = make_trial(grid, 0, -1, 1);
  EXPECT_EQ(trial.run_id.substr(0, trial.run_id.size() - 8), "nfnet_n0-0.25ep-lr0.05-s1-");
  EXPECT_EQ(make_trial(grid, 0, -1, 1).run_id, trial.run_id);
  EXPECT_NE(make_trial(grid, 0, -1, 2).run_id.substr(26), trial.run_id.substr(26));
  Grid other = grid;
  other.data.train_fingerprint = "moved";
  EXPECT_NE(make_trial(other, 0, -1, 1).run_id, trial.run_id);
}

// The run that is started has the name that the study looks for.
TEST(Study, ATrialIsNamedByTheSettingsOfItsCommand) {
  TestFolder folder;
  const Grid grid = test_grid(folder,
                              "lr.factor = 3\npredict.targets = [\"wide@0.1\"]\n"
                              "[grid.set.wide]\nmodel.name = \"nfnet_n0+\"\n"
                              "[grid.set.\"*\"]\noptim.lr = 0.3\nmodel.alpha = 0.3\n"
                              "[grid.set.nfnet_n1]\nmodel.se_ratio = 0.25\n");
  for (size_t cell = 0; cell <= grid.cells.size(); ++cell)
    for (const int k : {-3, 0, 1}) {
      const Trial trial = make_trial(grid, cell, k, 7);
      Config config = grid.base;
      for (const std::string& s : trial_settings(grid, cell_at(grid, cell), trial.lr, 7))
        set_key(config, s.substr(0, s.find('=')), parse_toml_value(s.substr(s.find('=') + 1)), "");
      resolve(config);
      EXPECT_EQ(trial.config_hash, config_hash(config, "train", "heldout"));
    }
}

TEST(Study, FreeSizesAreModelsUnderALabel) {
  TestFolder folder;
  folder.write("base.toml", kTestBase);
  folder.write("s.toml", kHead +
                             "grid.models = [\"w16\", \"w32\"]\ngrid.epochs = [0.5, \"128ex\"]\n"
                             "[grid.set.w16]\nmodel.name = \"nfnet\"\nmodel.width = [16, 32, 64, "
                             "64]\nmodel.depth = [1, 1, 2, 1]\nmodel.stem = [4, 4, 8, "
                             "8]\nmodel.group_width = 8\nmodel.stem_stride = [1, 1, 1, 2]\n"
                             "[grid.set.w32]\nmodel.name = \"nfnet_n0\"\n");
  EXPECT_EQ(refusal("study.name = 1"), "s.toml:1: study.name: expected text, found 1");
  const Study study = load_study(folder.path / "s.toml", std::nullopt);
  EXPECT_THROW(make_grid(study, test_data()), Error);  // 128 of 256 examples are 0.5 epochs again
  Study once = study;
  once.epochs.resize(1);
  const Grid grid = make_grid(once, test_data());
  EXPECT_EQ(grid.cells[0].name, "w16@0.5ep");
  EXPECT_EQ(grid.cells[0].params, 62675);
  EXPECT_EQ(grid.cells[0].images, 128u);
  EXPECT_EQ(grid.cells[0].steps, 8u);
}

constexpr const char* kMixed =
    "grid.models = [\"vit_n1\", \"nfnet_n1\", \"vit_n0\", \"nfnet_n0\"]\ngrid.epochs = [0.25, "
    "0.5]\n"
    "[grid.set.\"vit_*\"]\noptim.name = \"adamw\"\noptim.lr = 1e-3\n"
    "[grid.set.vit_n0]\nmodel.drop_rate = 0.1\n";

TEST(Study, AFamilyHasARecipeAndARateOfItsOwn) {
  TestFolder folder;
  folder.write("base.toml", kTestBase);
  folder.write("s.toml", kHead + kMixed);
  const Grid grid = make_grid(load_study(folder.path / "s.toml", std::nullopt), test_data());
  ASSERT_EQ(grid.cells.size(), 8u);
  EXPECT_EQ(families_of(grid).size(), 2u);
  std::map<std::string, double> starts;
  for (size_t i = 0; i < grid.cells.size(); ++i) {
    const Cell& c = grid.cells[i];
    starts[c.model] = make_trial(grid, i, 0, 0).lr;
    EXPECT_EQ(c.family, c.model.starts_with("vit") ? "vit" : "nfnet");
    EXPECT_EQ(c.size_rank, c.model.ends_with("n1")) << c.name;
    Config config = grid.configs.at(c.model);
    EXPECT_EQ(config.optim.name, c.family == "vit" ? "adamw" : "sgd");
  }
  EXPECT_EQ(starts, (std::map<std::string, double>{
                        {"nfnet_n0", 0.1}, {"nfnet_n1", 0.1}, {"vit_n0", 1e-3}, {"vit_n1", 1e-3}}));
  EXPECT_EQ(
      refusal(kHead + std::string("lr.max = 0.01\n") + kMixed),
      "s.toml: grid.models: nfnet_n1: the learning rate 0.1 to start with lies outside lr.min "
      "and lr.max");
  // Without a rate anywhere it is the default of the optimizer.
  folder.write("base.toml", std::string(kTestBase).replace(std::string(kTestBase).find("lr = 0.1"),
                                                           8, "beta1 = 0.9"));
  folder.write("s.toml", kHead +
                             "grid.models = [\"vit_n0\"]\ngrid.epochs = "
                             "[0.5]\n[grid.set.vit_n0]\noptim.name = \"adamw\"\n");
  EXPECT_EQ(
      make_grid(load_study(folder.path / "s.toml", std::nullopt), test_data()).cells[0].lr_start,
      1e-3);
  EXPECT_EQ(refusal(kHead + kMixed + "[grid.set.vit_n1]\noptim.lr = 5e-4\n"),
            "s.toml: grid.set: vit_n0 starts at optim.lr = 0.001, vit_n1 at 5e-04; models of one "
            "family start at the same rate");
  EXPECT_EQ(refusal(kHead + kGrid + "[grid.set.\"vit_*\"]\ntrain.batch = 8\n"),
            "s.toml: grid.set.\"vit_*\" matches nothing in grid.models (nearest: nfnet_n0)");
}

TEST(Study, ATargetLeavesTheGridAndComesAfterIt) {
  TestFolder folder;
  const Grid grid = test_grid(folder, "predict.targets = [\"nfnet_n1@0.5\", \"nfnet_n2@2ep\"]\n");
  EXPECT_EQ(grid.cells.size(), 3u);
  for (const Cell& cell : grid.cells) EXPECT_NE(cell.name, "nfnet_n1@0.5ep");
  EXPECT_EQ(cell_at(grid, 3).name, "nfnet_n1@0.5ep");
  EXPECT_EQ(cell_at(grid, 4).name, "nfnet_n2@2ep");
  EXPECT_TRUE(make_trial(grid, 4, 0, 1).run_id.starts_with("nfnet_n2-2ep-lr0.1-s1-"));
  // The same run whether it is a cell or a target.
  const Grid plain = test_grid(folder, "");
  EXPECT_EQ(make_trial(grid, 3, -1, 1).run_id, make_trial(plain, 3, -1, 1).run_id);
}

TEST(Study, TheResolvedFileReadsBackToTheSame) {
  TestFolder folder;
  test_grid(folder, "");
  const Study study = load_study(folder.path / "s.toml", std::nullopt);
  folder.write("again.toml", study_toml(study));
  EXPECT_EQ(study_toml(load_study(folder.path / "again.toml", std::nullopt)), study_toml(study));
  folder.write("mixed.toml", kHead + kMixed);
  const Study mixed = load_study(folder.path / "mixed.toml", std::nullopt);
  folder.write("again.toml", study_toml(mixed));
  EXPECT_EQ(load_study(folder.path / "again.toml", std::nullopt).set, mixed.set);
}

}  // namespace
}  // namespace nfscale
