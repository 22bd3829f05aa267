#include "study/fit.h"

#include <gtest/gtest.h>

#include "study/synthetic_law.h"

namespace nfscale {
namespace {

std::vector<CellRow> synthetic_table() {
  return cells_of_trials(
      read_csv(Path(NFSCALE_SOURCE_DIR) / "tests/study/synthetic_nfnet_study.csv"));
}

// Values of an independent program (numpy, scipy) on the same table.
TEST(Fit, TheCommonTangentIsThatOfTheReference) {
  FitOptions options;
  options.draws = 200;
  const FrontierFit fit = fit_frontier(synthetic_table(), options);
  ASSERT_EQ(fit.method, "tangent") << fit.verdict;
  EXPECT_NEAR(fit.law->exponent, 0.03985037563170431, 1e-6);
  EXPECT_NEAR(fit.law->at(1e4), 2.5995500328445442, 1e-5);
  EXPECT_NEAR(fit.law->sd_offset, 0.00024223766292725483, 1e-7);
  ASSERT_EQ(fit.law->touches.size(), 5u);
  EXPECT_NEAR(fit.law->touches[0].epochs, 0.6487664163431608, 1e-3);
  EXPECT_NEAR(fit.law->touches[4].epochs, 4.079916350876034, 1e-3);
  EXPECT_NEAR(fit.law->rate_params, 0.5374240145052114, 1e-4);
  EXPECT_NEAR(fit.law->rate_epochs, 0.5089243749653996, 1e-4);
  ASSERT_TRUE(fit.exponent && fit.ratio);
  EXPECT_LT(fit.exponent->low, 0.0400);
  EXPECT_GT(fit.exponent->high, 0.0398);
  EXPECT_LT(fit.exponent->high - fit.exponent->low, 0.0015);
  EXPECT_EQ(fit.low.size(), fit.compute.size());
}

TEST(Fit, FlaggedCellsChangeTheLawWhereTheyStay) {
  FitOptions options;
  options.draws = 0;
  options.drop_flagged = false;
  const FrontierFit fit = fit_frontier(synthetic_table(), options);
  EXPECT_NEAR(fit.law->exponent, 0.038922691009045114, 1e-6);
  EXPECT_EQ(fit.law->touches.size(), 6u);
  EXPECT_FALSE(fit.exponent);
}

TEST(Fit, TheVertexComesFromTheThreeRatesAroundTheBest) {
  const std::vector<CellRow> cells = synthetic_table();
  EXPECT_EQ(cells.size(), 36u);
  double square = 0;
  for (const CellRow& c : cells) {
    const auto model = std::find_if(law::kModels.begin(), law::kModels.end(),
                                    [&](const law::Model& m) { return m.name == c.model; });
    const int i = static_cast<int>(model - law::kModels.begin());
    square += std::pow(std::log2(c.lr_vertex / law::best_lr(i, c.epochs)), 2);
    EXPECT_EQ(c.bracket, "both");
    EXPECT_EQ(c.flagged, c.cell == "nfnet_f7+@4ep" || c.cell == "nfnet_f7+@8ep");
  }
  EXPECT_LT(std::sqrt(square / 36), 0.16);  // octaves
}

TEST(Fit, TwoDrawsOfTheSameSeedAreTheSame) {
  FitOptions options;
  options.draws = 50;
  const FrontierFit a = fit_frontier(synthetic_table(), options);
  const FrontierFit b = fit_frontier(synthetic_table(), options);
  EXPECT_EQ(a.exponent->low, b.exponent->low);
  options.seed = 1;
  EXPECT_NE(fit_frontier(synthetic_table(), options).exponent->low, a.exponent->low);
}

std::vector<CellRow> small(int models, int budgets, int first = 0) {
  std::vector<CellRow> cells;
  for (int i = first; i < first + models; ++i)
    for (int j = 0; j < budgets; ++j) {
      CellRow c;
      c.model = law::model(i).name;
      c.epochs = law::kEpochs[static_cast<size_t>(j)];
      c.cell = fmt::format("{}@{:g}ep", c.model, c.epochs);
      c.params = law::model(i).params;
      c.device_hours = law::hours(i, c.epochs);
      c.loss = c.loss_vertex = law::best_loss(i, c.epochs);
      cells.push_back(c);
    }
  return cells;
}

TEST(Fit, ThreeModelsWithFourBudgetsAreEnough) {
  const FrontierFit fit = fit_frontier(small(3, 5), FitOptions());
  EXPECT_EQ(fit.method, "tangent");
  EXPECT_NEAR(fit.law->exponent, 0.04, 1e-3);
  // The best budgets of the three largest models are beyond the longest here.
  const FrontierFit open = fit_frontier(small(3, 4, 3), FitOptions());
  EXPECT_EQ(open.method, "pareto");
  EXPECT_NE(open.verdict.find("No common tangent yet"), std::string::npos);
}

TEST(Fit, TooFewCellsAreSaidWithWhatIsMissing) {
  std::vector<CellRow> cells = small(3, 4);
  cells[5].loss = cells[5].loss_vertex = std::nan("");
  const FrontierFit fit = fit_frontier(cells, FitOptions());
  EXPECT_EQ(fit.method, "none");
  EXPECT_EQ(fit.verdict,
            "No law yet: it takes 3 models with 4 epoch budgets each; nfnet_f1 has 3; waits for "
            "nfnet_f1@0.5ep.");
  EXPECT_NE(fit_frontier(small(2, 2), FitOptions()).verdict.find("the grid has 2 models"),
            std::string::npos);
  EXPECT_EQ(fit_frontier({}, FitOptions()).verdict, "No cell has a result yet.");
}

TEST(Fit, ChanceIsNotALaw) {
  FitOptions options;
  options.chance = std::log(10.0);
  options.sigma = 0.01;
  std::vector<CellRow> cells = small(3, 4);
  for (CellRow& c : cells) c.loss = c.loss_vertex = 2.29;
  const FrontierFit fit = fit_frontier(cells, options);
  EXPECT_EQ(fit.method, "none");
  EXPECT_TRUE(fit.verdict.starts_with("Nothing was learned yet")) << fit.verdict;
}

}  // namespace
}  // namespace nfscale
