#include "study/predict.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "study/fake_executor.h"

namespace nfscale {
namespace {

// Four models whose curves touch 1.2 (C / 1e12)^-0.04 inside of their range.
double invented_loss(const Cell& cell, const Trial& trial) {
  constexpr double kMacs = 2.5e6;  // about those of the smallest
  const double touch = 0.6 * std::sqrt(static_cast<double>(cell.macs) / kMacs);
  const double d = std::log(cell.epochs / touch);
  const double octaves = std::log2(trial.lr / (0.1 * std::pow(cell.epochs, -0.3)));
  return 1.2 * std::pow(cell.flops / 1e12, -0.04) * std::exp(0.006 * d * d) +
         0.012 * octaves * octaves + 0.0005 * static_cast<double>(trial.seed % 3);
}

const std::string kMore = "fit.bootstrap = 50\ncompute.axis = \"flops\"\nnoise.repeats = 2\n";
const std::string kTarget = "predict.targets = [\"nfnet_n7@8\"]\n";
const std::string kBudgets = "grid.epochs = [0.25, 0.5, 1, 2, 4]\n";

// A study on the invented law; everything of it lies in one folder.
struct Invented {
  FastFiles door;
  ScopedFiles scope{door};
  TestFolder folder;
  Study study;
  Grid grid;
  std::vector<std::string> started;

  explicit Invented(const std::string& more, const std::string& budgets = kBudgets) {
    set_log_level(LogLevel::quiet);
    folder.write("base.toml", kTestBase);
    change(more, budgets);
    files().make_folder(study.out);
  }
  void change(const std::string& more, const std::string& budgets = kBudgets) {
    folder.write("s.toml",
                 "study.name = \"t\"\nstudy.base = \"base.toml\"\nstudy.seed = 1\n"
                 "grid.models = [\"nfnet_n0\", \"nfnet_n1\", \"nfnet_n3\", \"nfnet_n7\"]\n" +
                     budgets + kMore + more);
    study = load_study(folder.path / "s.toml", folder.path / "out");
    grid = make_grid(study, test_data());
  }
  RunOutcome run(bool at_once = true) {
    FakeExecutor executor(grid, 2);
    executor.law = invented_loss;
    executor.at_once = at_once;
    const RunOutcome outcome = run_study(study, grid, executor, quick());
    started = executor.started;
    return outcome;
  }
  StoreState store() const { return read_store(study.out / "store").state; }
  StudyView view() const {
    ResultCache cache;
    return look(study, grid, store(), {}, cache);
  }
  std::vector<Prediction> predictions() const { return sealed_predictions(study, store()); }
  // Lines of all records, in order.
  std::vector<std::string> records() const {
    std::vector<Path> logs;
    for (const auto& entry : std::filesystem::directory_iterator(study.out / "store"))
      if (entry.path().extension() == ".log") logs.push_back(entry.path());
    std::sort(logs.begin(), logs.end());
    std::vector<std::string> lines;
    for (const Path& log : logs)
      for (const std::string& line : split(read_file(log), '\n'))
        if (!line.empty()) lines.push_back(line);
    return lines;
  }
  // Of the first record with both texts; the number of records without one.
  size_t place(const std::string& a, const std::string& b) const {
    const std::vector<std::string> all = records();
    return static_cast<size_t>(std::find_if(all.begin(), all.end(),
                                            [&](const std::string& line) {
                                              return line.find(a) != std::string::npos &&
                                                     line.find(b) != std::string::npos;
                                            }) -
                               all.begin());
  }
};

// Text and hash made by Python's "%.17g" and hashlib.
TEST(Predict, CanonicalTextIsSortedTightAndExact) {
  const Json json = parse_json(
      R"({"b": [1, 2.5, 0.1, null, true], "a": {"z": "q\"\n", "y": 1e-7}, "c": 123456.0})", "test");
  const std::string text = canonical_text(json);
  EXPECT_EQ(text,
            R"({"a":{"y":9.9999999999999995e-08,"z":"q\"\n"},"b":[1,2.5,0.10000000000000001,null,)"
            R"(true],"c":123456})");
  EXPECT_EQ(sha256(text), "e9636b616e89be0e152c4dc60cb3b49108e0f4e6043957b841d5fa88f8ca752b");
}

TEST(Predict, ASealStandsBeforeTheFirstRecordOfItsTarget) {
  Invented s(kTarget);
  ASSERT_EQ(s.run(), RunOutcome::finished);
  const std::string target = "nfnet_n7@8ep";
  const size_t seal = s.place("\"kind\": \"sealed\"", target),
               first = s.place("\"kind\": \"chosen\"", "\"cell\": \"" + target);
  ASSERT_LT(first, s.records().size());
  EXPECT_LT(seal, first);
  const std::vector<Prediction> predictions = s.predictions();
  ASSERT_EQ(predictions.size(), 1u);
  const Prediction& p = predictions[0];
  EXPECT_EQ(p.kind, "prediction");
  EXPECT_EQ(p.number, 1);
  EXPECT_TRUE(p.seal_holds);
  EXPECT_EQ(sha256(p.canonical), p.seal);
  EXPECT_EQ(std::count(p.cells.begin(), p.cells.end(), target), 0);
  // The law is known, so the outcome is too.
  ASSERT_TRUE(p.observed);
  EXPECT_NEAR(*p.error, 0, 0.01);
  EXPECT_NEAR(*p.error, std::log(p.loss) - std::log(*p.observed), 1e-12);
  EXPECT_EQ(*p.inside95, p.interval95.low <= *p.observed && *p.observed <= p.interval95.high);
  // On the grid of rates, and near the optimum 0.1 * 8^-0.3 = 0.0536.
  EXPECT_EQ(p.lr_guess, 0.05);
  const std::string trials = csv_text(trials_table(s.study, s.grid, s.view(), s.store()));
  EXPECT_NE(trials.find("," + target + ","), std::string::npos);
  for (const CellRow& row : cell_rows(s.study, s.grid, s.view())) EXPECT_NE(row.cell, target);
  EXPECT_EQ(s.view().other.size(), 0u);
  // Nothing is left to do.
  s.run();
  EXPECT_TRUE(s.started.empty());
  EXPECT_EQ(s.predictions().size(), 1u);
}

TEST(Predict, APredictionIsNeverRewritten) {
  Invented s(kTarget);
  s.run();
  const std::string sealed = s.records()[s.place("\"kind\": \"sealed\"", "")];
  const std::string outcome =
      read_file(s.study.out / "runs" / s.predictions()[0].run_id / "result.json");
  s.change(kTarget + "lr.start = 0.15\n");  // other rates: other cells, another trial
  s.run();
  EXPECT_EQ(s.records()[s.place("\"kind\": \"sealed\"", "")], sealed);
  const std::vector<Prediction> both = s.predictions();
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].kind, "prediction");
  EXPECT_TRUE(both[0].observed);
  EXPECT_EQ(read_file(s.study.out / "runs" / both[0].run_id / "result.json"), outcome);
  EXPECT_EQ(both[1].number, 2);
  EXPECT_EQ(both[1].kind, "hindsight");  // the target has been seen
  EXPECT_NE(both[1].run_id, both[0].run_id);
  EXPECT_TRUE(both[1].observed);
  s.change(kTarget);  // back: what was sealed for it still stands
  s.run();
  EXPECT_TRUE(s.started.empty());
  EXPECT_EQ(s.predictions().size(), 2u);
}

TEST(Predict, ASealThatWasTamperedWithIsSeen) {
  Invented s(kTarget);
  s.run();
  StoreState store = s.store();
  EXPECT_TRUE(sealed_predictions(s.study, store)[0].seal_holds);
  store.sealed[0].prediction.set("loss", store.sealed[0].prediction.at("loss").as_double() + 1e-9);
  const Prediction p = sealed_predictions(s.study, store)[0];
  EXPECT_FALSE(p.seal_holds);
  EXPECT_NE(prediction_line(p).find("BROKEN"), std::string::npos);
}

TEST(Predict, ATargetThatWasTrainedBeforeIsHindsight) {
  // As a cell of the grid first, in a study of its own shape.
  Invented s("", "grid.epochs = [0.25, 0.5, 1, 2, 4, 8]\n");
  s.run();
  s.change(kTarget, "grid.epochs = [0.25, 0.5, 1, 2, 4, 8]\n");  // a target leaves the grid
  s.run();
  ASSERT_EQ(s.predictions().size(), 1u);
  EXPECT_EQ(s.predictions()[0].kind, "hindsight");
  // The store is gone, its run directories are not.
  std::filesystem::remove_all(s.study.out / "store");
  s.run();
  ASSERT_EQ(s.predictions().size(), 1u);
  EXPECT_EQ(s.predictions()[0].kind, "hindsight");
}

TEST(Predict, KilledAtAnyWriteThereIsOneSealBeforeTheTarget) {
  Invented whole("");
  whole.run();
  for (const bool after : {false, true})
    for (int kill = 0;; ++kill) {
      Invented s(kTarget);
      std::filesystem::copy(whole.study.out, s.study.out, std::filesystem::copy_options::recursive);
      DyingFiles door;
      door.left = kill;
      door.after = after;
      bool killed = false;
      try {
        const ScopedFiles scope(door);
        s.run();
      } catch (const Killed&) {
        killed = true;
      }
      if (!killed) break;
      ASSERT_EQ(s.run(), RunOutcome::finished);
      const std::vector<Prediction> predictions = s.predictions();
      ASSERT_EQ(predictions.size(), 1u) << kill;
      ASSERT_EQ(predictions[0].kind, "prediction") << kill;
      ASSERT_TRUE(predictions[0].observed) << kill;
      ASSERT_LT(s.place("\"kind\": \"sealed\"", ""), s.place("chosen", "\"nfnet_n7@8ep\""));
    }
}

TEST(Predict, WithoutALawNothingIsSealedAndTheTargetDoesNotRun) {
  Invented s("grid.skip = [\"nfnet_n0@1\", \"nfnet_n1@1\"]\npredict.targets = [\"nfnet_n2@1\"]\n",
             "grid.epochs = [1]\n");
  EXPECT_EQ(s.run(), RunOutcome::finished);
  EXPECT_TRUE(s.predictions().empty());
  for (const std::string& id : s.started) EXPECT_FALSE(id.starts_with("nfnet_n2"));
}

TEST(Predict, CellsHeldOutAreForecastAndEnterNoFit) {
  Invented s("predict.hold_out = 0.6\n");
  s.run();
  std::vector<CellRow> cells = cell_rows(s.study, s.grid, s.view());
  const std::vector<CellRow> before = cells;
  const StudyConclusions conclusions = conclude_study(s.study, s.grid, s.view(), cells, 50);
  const std::vector<Prediction> list =
      predictions_of(s.study, s.grid, s.view(), s.store(), cells, conclusions);
  // More than 0.4 of the largest compute: the dearest cell, and the two with half of its compute.
  std::set<std::string> held;
  for (const Prediction& p : list) {
    held.insert(p.target);
    EXPECT_EQ(p.kind, "hindsight");
    EXPECT_TRUE(p.seal.empty());
    EXPECT_NEAR(*p.error, 0, 0.01);
    EXPECT_EQ(std::count(p.cells.begin(), p.cells.end(), p.target), 0);
  }
  EXPECT_EQ(held, (std::set<std::string>{"nfnet_n7@4ep", "nfnet_n7@2ep", "nfnet_n3@4ep"}));
  for (size_t i = 0; i < cells.size(); ++i) {
    EXPECT_EQ(cells[i].reason.starts_with("held out for scoring"), held.contains(cells[i].cell));
    EXPECT_EQ(cells[i].loss, before[i].loss);
  }
}

TEST(Predict, ATargetMayHaveAModelOfItsOwn) {
  Invented s("predict.targets = [\"wide@1\"]\n[grid.set.wide]\nmodel.name = \"nfnet_n3+\"\n");
  ASSERT_EQ(s.grid.targets.size(), 1u);
  EXPECT_EQ(s.grid.targets[0].name, "wide@1ep");
  EXPECT_EQ(s.grid.cells.size(), 20u);
  s.run();
  ASSERT_EQ(s.predictions().size(), 1u);
  EXPECT_TRUE(s.predictions()[0].run_id.starts_with("wide-1ep-lr"));
}

}  // namespace
}  // namespace nfscale
