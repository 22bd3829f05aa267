#include "fit/laws.h"

#include <gtest/gtest.h>

#include "fit/testing.h"

namespace nfscale {
namespace {

using namespace testing_fit;

const std::vector<std::string> kJoint = {"params", "tokens", "loss"};

FitOptions quick(double huber = 1e-3) {
  FitOptions options;
  options.draws = 0;
  options.huber = huber;
  return options;
}

bool used(const Csv& csv, size_t i) {
  return is(csv, i, "used", "1");
}

// ---- published tables; expected values by numpy and scipy

TEST(Laws, JointOnChinchilla) {
  const LawFit fit =
      fit_law("joint", read_table("fit/chinchilla_epoch.csv", kJoint, used), quick());
  EXPECT_LE(fit.objective, 0.0010182740177821828 * (1 + 1e-9));
  EXPECT_NEAR(fit.param("E"), 1.817218, 2e-4);
  EXPECT_NEAR(fit.param("A"), 477.826, 1);
  EXPECT_NEAR(fit.param("B"), 2143.42, 10);
  EXPECT_NEAR(fit.param("alpha"), 0.3473105, 2e-5);
  EXPECT_NEAR(fit.param("beta"), 0.3671724, 2e-5);
  EXPECT_NEAR(fit.param("a_opt"), 0.5138995, 2e-5);
  EXPECT_GE(fit.reached, 1);
  const LawFit all = fit_law("joint", read_table("fit/chinchilla_epoch.csv", kJoint), quick());
  EXPECT_LE(all.objective, 0.0018260105230526106 * (1 + 1e-9));
  EXPECT_NEAR(all.param("E"), 1.8913385, 1e-3);
}

TEST(Laws, RepeatedDataIsOpenAbove) {
  const auto t =
      read_table("fit/datablations_c4.csv", {"params", "tokens", "unique_tokens", "loss"},
                 [](const Csv& c, size_t i) { return is(c, i, "fit182", "1"); });
  ASSERT_EQ(t.rows.size(), 182u);
  FitOptions options = quick();
  options.fix = {{"a", 6.255414},
                 {"b", 7.3049974},
                 {"e", 0.6254804},
                 {"alpha", 0.3526596},
                 {"beta", 0.3526596}};
  options.draws = 60;
  const LawFit fit = fit_law("repeat", t, options);
  EXPECT_LE(fit.objective, 0.015804662474002036 * (1 + 1e-6));
  EXPECT_NEAR(fit.param("R_D"), 95.365, 9);
  EXPECT_NEAR(fit.param("R_N"), 1.7059, 0.08);
  EXPECT_TRUE(std::isinf(fit.interval.at("R_D").high));
  EXPECT_NEAR(fit.interval.at("R_D").low, 5.2, 3);
  EXPECT_EQ(fit.interval.count("alpha"), 0u);
  // The published pair is another minimum within 1 %, and said to be.
  bool published = false;
  for (const Json& m : fit.more.at("minima_within_1_percent").items())
    published |= std::abs(m.at("params").at("R_D").as_double() - 15.37) < 0.3;
  EXPECT_TRUE(published) << fit.more.at("minima_within_1_percent").dump();
}

TEST(Laws, IsoflopOnPorianAndLlama) {
  const std::vector<std::pair<const char*, double>> expected = {
      {"kaplan_repro_train_no_head", 0.8592473668325968},
      {"count_head", 0.6953611649022033},
      {"fix_warmup", 0.5985588622522198},
      {"cosine_decay", 0.5474016153510866},
      {"tuned_optimizer", 0.5081701657874939}};
  for (const auto& [config, exponent] : expected) {
    const LawFit fit = fit_law(
        "isoflop",
        read_table("fit/isoflop_porian.csv", {"flops", "params", "loss"},
                   [&, name = config](const Csv& c, size_t i) { return is(c, i, "config", name); }),
        quick());
    EXPECT_NEAR(fit.param("exponent"), exponent, 1e-6) << config;
  }
  FitOptions options = quick();
  options.draws = 400;
  const LawFit llama = fit_law(
      "isoflop", read_table("fit/isoflop_llama3.csv", {"flops", "tokens", "loss"}), options);
  EXPECT_NEAR(llama.param("exponent"), 0.5318539849032831, 1e-6);
  EXPECT_NEAR(llama.param("coef"), 0.37985503863, 1e-4);
  const Json& windows = llama.more.at("exponent_by_window");
  EXPECT_NEAR(windows.at("x2").as_double(), 0.5309992602923147, 1e-6);
  EXPECT_NEAR(windows.at("x8").as_double(), 0.5366856425991289, 1e-6);
  EXPECT_LT(llama.interval.at("exponent").low, 0.531);
  EXPECT_GT(llama.interval.at("exponent").high, 0.5367);
}

// Medians over the 18 curves: 0.0917, 0.0693, 0.0406, 0.0132; those of the authors' program are
// 0.0917, 0.0917, 0.0436, 0.0168.
TEST(Laws, CurvesOfVisionModelsAreExtrapolated) {
  std::map<std::string, std::vector<std::string>> keys;
  const Csv csv = read_csv(Path(NFSCALE_SOURCE_DIR) / "tests/fit/vision_curves.csv");
  for (size_t i = 0; i < csv.rows.size(); ++i)
    keys[csv.rows[i][csv.column("task")] + "|" + csv.rows[i][csv.column("model")]] = {
        csv.rows[i][csv.column("task")], csv.rows[i][csv.column("model")]};
  ASSERT_EQ(keys.size(), 18u);
  std::map<std::string, Vector> errors;
  for (const auto& [key, names] : keys) {
    const auto part = [&, names = names](const char* fit) {
      FitTable t =
          read_table("fit/vision_curves.csv", {"examples", "error"}, [&](const Csv& c, size_t i) {
            return is(c, i, "task", names[0]) && is(c, i, "model", names[1]) &&
                   is(c, i, "fit", fit);
          });
      return t;
    };
    const FitTable seen = part("1"), ahead = part("0");
    for (const char* law : {"power", "power+floor", "curve3", "curve4"})
      errors[law].push_back(score_law(fit_law(law, seen, quick(INFINITY)), ahead).rms);
  }
  EXPECT_NEAR(median_of(errors["power"]), 0.0916814613735798, 1e-7);
  EXPECT_NEAR(median_of(errors["power+floor"]), 0.06927595, 7e-4);
  EXPECT_NEAR(median_of(errors["curve3"]), 0.04063955, 4e-4);
  EXPECT_NEAR(median_of(errors["curve4"]), 0.01323540, 1.4e-3);
}

TEST(Laws, RatesOfStepLawRiseWithTheData) {
  // Vertices of the 17 cells at their best batch; law 1.79 N^-0.713 D^0.307 published.
  FitTable t;
  t.columns = {{"params", "params"}, {"tokens", "tokens"}, {"lr", "lr"}};
  for (double n : {6e7, 2e8, 4e8, 1e9})
    for (double d : {2e9, 8e9, 2e10}) {
      t.rows.push_back({n, d, 1.79 * std::pow(n, -0.713) * std::pow(d, 0.307)});
      t.names.push_back("row");
    }
  const LawFit fit = fit_law("lr", t, quick(INFINITY));
  EXPECT_NEAR(std::exp(fit.param("i")), 1.79, 1e-9);
  EXPECT_NEAR(fit.param("p"), -0.713, 1e-12);
  EXPECT_NEAR(fit.param("q"), 0.307, 1e-12);
}

// ---- properties

TEST(Laws, AnExactPowerIsFoundExactly) {
  const FitTable t = xy_table(places(12, 5), [](double x) { return 3 * std::pow(x, -0.25); });
  const LawFit fit = fit_law("power", t, quick());
  EXPECT_NEAR(fit.param("exponent"), 0.25, 1e-12);
  EXPECT_NEAR(fit.param("at_1e4"), 0.3, 1e-12);
}

FitTable noisy(size_t n, double decades, double floor, uint64_t key, double sigma = 5e-3) {
  uint32_t row = 0;
  return xy_table(places(n, decades), [&](double x) {
    return (floor + std::pow(x, -0.3)) * std::exp(sigma * noise(key, row++));
  });
}

TEST(Laws, ScalingAColumnShiftsInterceptsOnly) {
  const FitTable t = noisy(15, 3, 0.3, 1);
  for (const char* law : {"power", "power+floor"}) {
    const LawFit plain = fit_law(law, t, quick());
    FitTable scaled = t;
    for (Vector& row : scaled.rows) {
      row[0] *= 1000;
      row[1] *= 7;
    }
    const LawFit other = fit_law(law, scaled, quick());
    EXPECT_NEAR(other.param("exponent"), plain.param("exponent"), 1e-6) << law;
    EXPECT_NEAR(other.objective, plain.objective, 1e-6 * plain.objective) << law;
    if (std::string_view(law) == "power+floor") {
      EXPECT_NEAR(other.param("floor"), 7 * plain.param("floor"), 1e-5);
    }
  }
}

TEST(Laws, ATableTwiceGivesTheSamePointAndLessDoubt) {
  const FitTable t = noisy(12, 2, 0.2, 3);
  FitTable twice = t;
  for (size_t i = 0; i < t.rows.size(); ++i) {
    twice.rows.insert(twice.rows.begin() + static_cast<ptrdiff_t>(2 * i), t.rows[i]);
    twice.names.insert(twice.names.begin() + static_cast<ptrdiff_t>(2 * i), t.names[i]);
  }
  // Least squares: a sum of absolute values can have more than one place of its least.
  const LawFit once = fit_law("power", t, quick(INFINITY));
  const LawFit again = fit_law("power", twice, quick(INFINITY));
  EXPECT_NEAR(again.param("exponent"), once.param("exponent"), 1e-9);
  EXPECT_LT(again.interval.at("exponent").high - again.interval.at("exponent").low,
            once.interval.at("exponent").high - once.interval.at("exponent").low);
}

TEST(Laws, DrawsAreKeyed) {
  FitOptions options = quick();
  options.draws = 30;
  const FitTable t = read_table("fit/chinchilla_epoch.csv", kJoint,
                                [](const Csv& c, size_t i) { return used(c, i) && i % 5 == 0; });
  const LawFit a = fit_law("joint", t, options), b = fit_law("joint", t, options);
  EXPECT_EQ(a.interval.at("E").low, b.interval.at("E").low);
  options.seed = 1;
  EXPECT_NE(fit_law("joint", t, options).interval.at("E").low, a.interval.at("E").low);
}

TEST(Laws, WhatCannotBeFittedIsRefused) {
  FitOptions options = quick();
  options.fix["flor"] = 1;
  try {
    fit_law("power+floor", noisy(9, 1, 0, 1), options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("floor"), std::string::npos) << e.what();
  }
  EXPECT_THROW(fit_law("power+floor", noisy(2, 1, 0, 1), quick()), Error);
  EXPECT_THROW(fit_law("isoflop", noisy(9, 1, 0, 1), quick()), Error);
  FitOptions ahead = quick();
  ahead.at = {1e9};
  EXPECT_THROW(fit_law("joint", read_table("fit/chinchilla_epoch.csv", kJoint, used), ahead),
               Error);
}

// ---- reports from the field

// allenai/OLMo-core#554: fits from one start end in poor minima; a few rows pull the curve.
TEST(Laws, RowsThatWereRaisedAreNamed) {
  const std::vector<std::string> raised = {"row 7", "row 19", "row 28", "row 36"};
  FitTable clean, t;
  clean.columns = t.columns = {{"params", "params"}, {"tokens", "tokens"}, {"loss", "loss"}};
  uint32_t row = 0;
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 5; ++j) {
      const double n = 1e7 * std::exp2(i), d = 2e8 * std::pow(4, j);
      const double loss = (1.7 + 400 * std::pow(n, -0.34) + 400 * std::pow(d, -0.28)) *
                          std::exp(2e-3 * noise(554, row++));
      const std::string name = fmt::format("row {}", row);
      const bool up = std::find(raised.begin(), raised.end(), name) != raised.end();
      clean.rows.push_back({n, d, loss});
      t.rows.push_back({n, d, up ? 1.05 * loss : loss});
      clean.names.push_back(name);
      t.names.push_back(name);
    }
  FitOptions options = quick();
  options.draws = 100;
  const LawFit fit = fit_law("joint", t, options), before = fit_law("joint", clean, quick());
  ASSERT_EQ(fit.warnings.size(), 1u);
  for (const std::string& name : raised)
    EXPECT_NE(fit.warnings[0].find(name + " ("), std::string::npos) << fit.warnings[0];
  for (const char* name : {"alpha", "beta"}) {
    const Bounds b = fit.interval.at(name);
    EXPECT_GE(before.param(name), b.low) << name;
    EXPECT_LE(before.param(name), b.high) << name;
  }
  EXPECT_EQ(fit.starts, 65);
  EXPECT_GT(fit.reached, 10);
}

// marin-community/marin#4447: a free asymptote was too hopeful.
TEST(Laws, AFloorIsBelievedOnlyWhereItCanBeTold) {
  int identified = 0, covered = 0;
  constexpr int kTables = 60;
  for (int i = 0; i < kTables; ++i) {
    FitOptions options = quick(INFINITY);
    options.level = 0.9;
    options.at = {1e4};
    const LawFit none =
        fit_law("power+floor", noisy(12, 1, 0, 4447 + static_cast<uint64_t>(i)), options);
    identified += none.more.at("floor_identified").as_bool();
    const Bounds b = *none.forecasts[0].interval;
    covered += b.low <= std::pow(1e4, -0.3) && std::pow(1e4, -0.3) <= b.high;
  }
  EXPECT_LE(identified, kTables / 10);
  EXPECT_GE(covered, kTables * 85 / 100);
  FitOptions given = quick();
  given.fix["floor"] = 1.6;
  const LawFit fixed = fit_law("power+floor", noisy(12, 1, 1.6, 5), given);
  EXPECT_NEAR(fixed.param("exponent"), 0.3, 0.05);
  EXPECT_EQ(fixed.param("floor"), 1.6);
  EXPECT_EQ(fixed.interval.count("floor"), 0u);
}

}  // namespace
}  // namespace nfscale
