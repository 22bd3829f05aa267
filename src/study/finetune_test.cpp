#include "study/finetune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "study/fake_executor.h"
#include "study/plan.h"
#include "study/status.h"

namespace nfscale {
namespace {

const std::string kRecipe =
    "compute.axis = \"flops\"\nnoise.repeats = 0\nfinetune.config = \"finetune.toml\"\n";

// Losses below chance, so that there is something to fine-tune.
struct LearningExecutor : FakeExecutor {
  LearningExecutor(const Grid& grid, size_t slots) : FakeExecutor(grid, slots) {
    law = [](const Cell& c, const Trial& trial) {
      return 0.3 * law::loss(c.size_rank, 1 + c.epoch_rank, trial.lr * 16);
    };
  }
};

std::string refusal(const TestFolder& folder, const std::string& more) {
  try {
    test_grid(folder, more);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    return e.what();
  }
  return "";
}

// Places of the started commands that are fine-tunings.
std::vector<size_t> finetunings(const FakeExecutor& executor) {
  std::vector<size_t> places;
  for (size_t i = 0; i < executor.commands.size(); ++i)
    if (executor.commands[i].at(1) == "finetune") places.push_back(i);
  return places;
}

TEST(Finetune, CandidatesAreFinetunedOnceTheSearchIsThrough) {
  Bench bench(kRecipe);
  LearningExecutor executor(bench.grid, 2);
  EXPECT_EQ(bench.run(executor), RunOutcome::finished);
  const Json candidates = bench.store().candidates;
  ASSERT_TRUE(candidates.is_array());
  ASSERT_GE(candidates.items().size(), 1u);
  const std::vector<size_t> places = finetunings(executor);
  ASSERT_EQ(places.size(), candidates.items().size());
  // Behind all pretraining, each with the checkpoint of its candidate.
  EXPECT_EQ(places.front(), executor.commands.size() - places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    const std::vector<std::string>& command = executor.commands[places[i]];
    const std::string init = candidates.items()[i].at("run_id").as_string();
    const Path out = bench.study.out;
    const std::string copy = command.at(3);
    EXPECT_TRUE(copy.starts_with((out / "recipes/finetune-").string())) << copy;
    EXPECT_EQ(command,
              (std::vector<std::string>{"nfscale", "finetune", "--config", copy, "--init",
                                        (out / "runs" / init).string(), "--out",
                                        (out / "runs" / executor.started[places[i]]).string(),
                                        "--threads", "1", "--quiet"}));
    EXPECT_TRUE(executor.started[places[i]].starts_with(init + "-ft"));
  }
  // What the recipe leaves open is for the checkpoint to say, so the copy holds given keys only.
  const std::string copy = read_file(executor.commands[places[0]].at(3));
  EXPECT_EQ(copy.find("image_size"), std::string::npos) << copy;
  EXPECT_NE(copy.find("sam_rho = 0.05"), std::string::npos) << copy;

  const StudyView view = bench.view();
  EXPECT_TRUE(complete(view));
  EXPECT_TRUE(view.other.empty());
  EXPECT_EQ(view.finetunings.size(), places.size());
  EXPECT_EQ(finetuned_table(bench.grid, view).rows.size(), places.size());
  // Rows of trials.csv are fitted to, so no fine-tuning is among them.
  EXPECT_EQ(bench.trials().rows.size(), executor.commands.size() - places.size());
  double finetuning = 0;
  for (const Spent& s : time_spent(view, 0))
    if (s.outcome == "fine-tuning") finetuning = s.device_hours;
  EXPECT_DOUBLE_EQ(finetuning, 0.25 * static_cast<double>(places.size()));

  LearningExecutor again(bench.grid, 2);
  EXPECT_EQ(bench.run(again), RunOutcome::finished);
  EXPECT_TRUE(again.started.empty());
}

TEST(Finetune, WhatIsLostComesBackAndNothingElse) {
  Bench bench(kRecipe);
  LearningExecutor executor(bench.grid, 1);
  bench.run(executor);
  const std::string table = csv_text(finetuned_table(bench.grid, bench.view()));
  const std::string lost = bench.view().finetunings.front().trial.run_id;
  std::filesystem::remove_all(bench.study.out / "runs" / lost);
  EXPECT_FALSE(complete(bench.view()));
  LearningExecutor one(bench.grid, 1);
  bench.run(one);
  EXPECT_EQ(one.started, std::vector<std::string>{lost});
  EXPECT_EQ(csv_text(finetuned_table(bench.grid, bench.view())), table);
  // The store is the truth about decisions; without it the same ones are taken again.
  std::filesystem::remove_all(bench.study.out / "store");
  EXPECT_FALSE(complete(bench.view()));
  LearningExecutor none(bench.grid, 1);
  EXPECT_EQ(bench.run(none), RunOutcome::finished);
  EXPECT_TRUE(none.started.empty());
  EXPECT_EQ(csv_text(finetuned_table(bench.grid, bench.view())), table);
}

TEST(Finetune, KilledAtAnyWriteItGoesOnToTheSameTable) {
  std::string whole;
  {
    Bench bench(kRecipe);
    LearningExecutor executor(bench.grid, 2);
    bench.run(executor);
    whole = csv_text(finetuned_table(bench.grid, bench.view()));
  }
  for (int kill = 0;; ++kill) {
    Bench bench(kRecipe);
    DyingFiles door;
    door.left = kill;
    std::vector<std::string> started;
    bool killed = false;
    {
      const ScopedFiles scope(door);
      LearningExecutor executor(bench.grid, 2);
      try {
        bench.run(executor);
      } catch (const Killed&) {
        killed = true;
      }
      started = executor.started;
    }
    if (!killed) break;
    LearningExecutor executor(bench.grid, 2);
    ASSERT_EQ(bench.run(executor), RunOutcome::finished);
    ASSERT_EQ(csv_text(finetuned_table(bench.grid, bench.view())), whole) << kill;
    // What had ended is not started again.
    for (const std::string& id : executor.started)
      ASSERT_EQ(std::count(started.begin(), started.end(), id), 0) << id << " at " << kill;
  }
}

TEST(Finetune, AnotherRecipeIsAnotherRunAndTheOldOnesAreKept) {
  Bench bench(kRecipe);
  LearningExecutor executor(bench.grid, 1);
  bench.run(executor);
  const size_t candidates = bench.view().finetunings.size();
  bench.folder.write("finetune.toml", std::string(kTestRecipe) + "[model]\ndrop_rate = 0.5\n");
  bench.change(kRecipe);
  LearningExecutor changed(bench.grid, 1);
  bench.run(changed);
  EXPECT_EQ(changed.started.size(), candidates);
  EXPECT_EQ(finetunings(changed).size(), candidates);
  EXPECT_EQ(bench.view().other.size(), candidates);
  for (const auto& row : bench.trials().rows) EXPECT_EQ(row[0].find("-ft"), std::string::npos);
}

TEST(Finetune, ARefusedRecipeEndsItsRunsAndNotTheStudy) {
  Bench bench(kRecipe);
  {
    LearningExecutor executor(bench.grid, 1);
    bench.run(executor);
  }
  const std::vector<TrialView> all = bench.view().finetunings;
  for (const TrialView& t : all)
    std::filesystem::remove_all(bench.study.out / "runs" / t.trial.run_id);
  LearningExecutor executor(bench.grid, 1);
  executor.codes[bench.grid.cells[all[0].trial.cell].name] = {2};
  EXPECT_EQ(bench.run(executor), RunOutcome::finished);
  EXPECT_EQ(bench.view().finetunings[0].state, "failed");
  EXPECT_EQ(executor.started.size(), all.size());
}

TEST(Finetune, RecipesThatCannotBeAreRefusedByName) {
  const TestFolder folder;
  const auto with = [&](const std::string& recipe) {
    folder.write("finetune.toml", recipe);
    return refusal(folder, kRecipe);
  };
  EXPECT_NE(with("data.train = \"fractal:\"\n").find("finetune.config: "), std::string::npos);
  EXPECT_NE(with("data.train = \"fractal:\"\n").find("data.heldout is missing"), std::string::npos);
  EXPECT_NE(with(std::string("model.name = \"nfnet_n0\"\n") + kTestRecipe)
                .find("finetune.toml:1: model.name is that of the checkpoint; leave it out"),
            std::string::npos);
  EXPECT_NE(with(std::string(kTestRecipe) + "[data.augment]\nrepeat = 3\n")
                .find("3 copies do not divide train.batch = 16"),
            std::string::npos);
  // What a run would refuse only once the search is through.
  EXPECT_NE(with(std::string(kTestRecipe) + "freeze = [\"steam.*\"]\n")
                .find("nfnet_n0: optim.freeze: no parameter matches \"steam.*\""),
            std::string::npos);
  EXPECT_NE(with(std::string(kTestRecipe) + "[schedule]\nwarmup = \"20st\"\n")
                .find("schedule.warmup: 20 steps are not shorter than the 16 steps"),
            std::string::npos);
  folder.write("finetune.toml", kTestRecipe);
  EXPECT_EQ(refusal(folder, kRecipe), "");
  folder.write("quiet.toml", "base = \"finetune.toml\"\nlog.every = \"7st\"\n");
  StudyData twice = test_data();
  twice.finetune.push_back(twice.finetune[0]);
  try {
    make_grid(test_study(folder, "finetune.config = [\"finetune.toml\", \"quiet.toml\"]\n"), twice);
    ADD_FAILURE() << "accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("finetune and quiet are one recipe"), std::string::npos)
        << e.what();
  }
  EXPECT_NE(refusal(folder, "finetune.config = [\"finetune.toml\", \"../" +
                                folder.path.filename().string() + "/finetune.toml\"]\n")
                .find("two recipes are called finetune"),
            std::string::npos);
  EXPECT_NE(
      refusal(folder, "finetune.config = \"absent.toml\"\n").find("absent.toml: no such file"),
      std::string::npos);
}

// 3 candidates of the larger model, 2 epochs of 128 pictures, and half of the rows climb: 6
// operations a multiply-add and image, 9 with the ascent.
TEST(Finetune, ThePlanHoldsTheMostThatItCanCost) {
  const TestFolder folder;
  const Study study = test_study(folder, kRecipe);
  const Grid grid = make_grid(study, test_data());
  const std::vector<Finetunings> most = most_finetunings(study, grid);
  ASSERT_EQ(most.size(), 1u);
  const Cell& cell = grid.cells[most[0].cell];
  EXPECT_EQ(cell.model, "nfnet_n1");
  EXPECT_EQ(most[0].trials, 3);
  // Five classes in place of ten.
  EXPECT_NEAR(most[0].flops, 3.0 * 9 * 256 * static_cast<double>(cell.macs), 0.01 * most[0].flops);
  EXPECT_LT(most[0].flops, 3.0 * 9 * 256 * static_cast<double>(cell.macs));
  const Plan plan = make_plan(study, grid, Bench(kRecipe).view(), 1);
  EXPECT_EQ(plan.finetuning.trials, 3);
  double pretraining = 0;
  for (size_t c = 0; c < grid.cells.size(); ++c)
    pretraining += plan.cells[c].trials * grid.cells[c].flops;
  EXPECT_NEAR(plan.flops, pretraining + most[0].flops, 1e-9 * plan.flops);
}

TEST(Finetune, LookingAtAPlannedStudyNeedsNoPictures) {
  Bench bench(kRecipe);
  const Plan plan = make_plan(bench.study, bench.grid, bench.view(), 1);
  write_file(bench.study.out / "plan.json", plan_json(bench.study, bench.grid, plan).dump());
  const auto data = planned_data(bench.study);
  ASSERT_TRUE(data);
  ASSERT_EQ(data->finetune.size(), 1u);
  EXPECT_EQ(data->finetune[0].heldout_examples, 100u);
  EXPECT_EQ(data->finetune[0].train_fingerprint, "fine");
  bench.folder.write("finetune.toml", "data.train = \"fractal:\"\ndata.heldout = \"fractal:\"\n");
  EXPECT_FALSE(planned_data(bench.study));
}

// Step times are those of the first trials; what was concluded from others would not come again.
TEST(Finetune, ALostStoreLeadsToTheSameCandidatesInHours) {
  const std::string hours = "noise.repeats = 0\nfinetune.config = \"finetune.toml\"\n";
  Bench bench(hours);
  LearningExecutor executor(bench.grid, 1);
  bench.run(executor);
  // Every trial but the first of its model took longer a step.
  for (const TrialView& t : bench.view().trials) {
    const Path file = bench.study.out / "runs" / t.trial.run_id / "result.json";
    Json result = parse_json(read_file(file), "result");
    Json compute = result.at("compute");
    compute.set("device_hours", 0.25 + 0.2 * std::abs(t.trial.lr_index));
    std::ofstream(file) << result.set("compute", compute).dump();
  }
  std::filesystem::remove_all(bench.study.out / "store");
  for (const TrialView& t : bench.view().finetunings)
    std::filesystem::remove_all(bench.study.out / "runs" / t.trial.run_id);
  LearningExecutor again(bench.grid, 1);
  bench.run(again);
  size_t decisions = 0;
  for (const auto& entry : std::filesystem::directory_iterator(bench.study.out / "store")) {
    if (entry.path().extension() != ".log") continue;
    const std::string text = read_file(entry.path());
    for (size_t at = text.find("\"kind\": \"candidates\""); at != std::string::npos;
         at = text.find("\"kind\": \"candidates\"", at + 1))
      ++decisions;
  }
  EXPECT_EQ(decisions, 1u);
  EXPECT_TRUE(complete(bench.view()));
}

FinetunedPoint point(const std::string& cell, double loss, double error, double se) {
  return {.cell = cell,
          .model = "nfnet_n0",
          .family = "nfnet",
          .run_id = cell,
          .init = cell,
          .recipe = "r",
          .lr = 0.4,
          .loss = loss,
          .error = error,
          .standard_error = se};
}

// Ranks of the losses 0 1 2 3, of the errors 1 0 2 3: 1 - 6 * 2 / (4 * 15) = 0.8.
TEST(Finetune, TheVerdictNamesTheBestAndWhetherTheHeldOutLossTold) {
  EXPECT_FALSE(finetuned_verdict({}));
  const auto v = finetuned_verdict({point("a", 1.0, 12, 0.5), point("b", 1.1, 10, 0.5),
                                    point("c", 1.2, 13, 0.5), point("d", 1.3, 14, 0.5)});
  ASSERT_TRUE(v);
  EXPECT_EQ(v->state, "decided");  // 2 > 1.96 * 0.707
  EXPECT_NE(v->sentence.find("the best is b at learning rate 0.4: 10 % +- 0.5"), std::string::npos)
      << v->sentence;
  EXPECT_NE(v->sentence.find("is 0.8 over 4 checkpoints"), std::string::npos) << v->sentence;
  const auto close = finetuned_verdict({point("a", 1.0, 10, 0.5), point("b", 1.1, 11, 0.5)});
  EXPECT_EQ(close->sentence.find("rank correlation"), std::string::npos) << close->sentence;
  EXPECT_EQ(close->state, "not decided");
  EXPECT_NE(close->sentence.find("too few to tell"), std::string::npos) << close->sentence;
  // One of each recipe tells nothing of checkpoints.
  FinetunedPoint other = point("a", 1.0, 20, 0.5);
  other.recipe = "s";
  EXPECT_EQ(finetuned_verdict({point("a", 1.0, 10, 0.5), other})->state, "not decided");
}

}  // namespace
}  // namespace nfscale
