#include "study/figure.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "study/figure_labels.h"
#include "study/test_results.h"

namespace nfscale {
namespace {

TEST(Figure, TicksAreRoundNumbers) {
  EXPECT_EQ(log_ticks(0.4, 1.3, 7), (std::vector<double>{0.4, 0.6, 0.8, 1, 1.2}));
  EXPECT_EQ(log_ticks(2.3, 3.1, 7), (std::vector<double>{2.4, 2.6, 2.8, 3}));
  EXPECT_EQ(log_ticks(300, 120000, 8),
            (std::vector<double>{500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}));
}

const Figure& find(const std::vector<Figure>& figures, const std::string& name) {
  return *std::find_if(figures.begin(), figures.end(),
                       [&](const Figure& f) { return f.name == name; });
}

size_t rows_of(const Figure& figure, const std::string& kind) {
  return static_cast<size_t>(std::count_if(figure.rows.begin(), figure.rows.end(),
                                           [&](const FigureRow& row) { return row.kind == kind; }));
}

TEST(Figure, DrawsEveryRowOfItsTable) {
  for (const Figure& f : made(false, {sealed(2.34)}).results.figures) {
    if (!f.waits.empty()) continue;
    size_t drawn = 0;
    for (const auto& [kind, rows] : f.spec.at("datasets").members()) {
      EXPECT_EQ(rows.items().size(), rows_of(f, kind)) << f.name << " " << kind;
      drawn += rows.items().size();
    }
    EXPECT_EQ(drawn, f.rows.size()) << f.name;
    EXPECT_EQ(figure_table(f).rows.size(), f.rows.size()) << f.name;
    EXPECT_FALSE(f.reading.empty()) << f.name;
    EXPECT_FALSE(f.caption.empty()) << f.name;
  }
}

TEST(Figure, OfAWholeStudyAllButTheFineTuningAreDrawn) {
  for (const Figure& f : made(false).results.figures)
    EXPECT_EQ(f.waits.empty(), f.name != "figure1-finetuned") << f.name;
}

TEST(Figure, OfNothingAllWait) {
  for (const Figure& f : all_figures({FigureInput()})) {
    EXPECT_FALSE(f.waits.empty()) << f.name;
    EXPECT_TRUE(f.rows.empty()) << f.name;
  }
}

TEST(Figure, TheLawIsThatOfTheConclusions) {
  const Made m = made(false, {sealed({})});
  const LawConclusion& law = m.results.conclusions.families[0].law;
  const Figure& loss = find(m.results.figures, "figure2-loss");
  EXPECT_EQ(rows_of(loss, "cell"), 36u);
  EXPECT_EQ(rows_of(loss, "touch"), law.law->touches.size());
  EXPECT_EQ(rows_of(loss, "prediction"), 1u);
  for (const FigureRow& row : loss.rows)
    if (row.kind == "law") {
      EXPECT_NEAR(row.values.at("law").as_double(),
                  law.law->at(row.values.at("compute").as_double()), 1e-9);
    }
  const Figure& growth = find(m.results.figures, "figure5-growth");
  EXPECT_EQ(rows_of(growth, "touch"), law.law->touches.size());
  EXPECT_EQ(rows_of(growth, "optimum"), law.slices ? law.slices->optima.size() : 0);
}

TEST(Figure, ItsNumbersAreThoseOfTheFits) {
  const Made m = made(false);
  const Json& fit = m.results.fits.items().at(0);
  ASSERT_EQ(fit.at("law").as_string(), "frontier");
  const Figure& influence = find(m.results.figures, "figure6-influence");
  for (const FigureRow& row : influence.rows) {
    if (row.kind == "all") {
      EXPECT_EQ(row.values.at("exponent"), fit.at("params").at("exponent"));
      EXPECT_EQ(row.values.at("ratio"), fit.at("params").at("ratio"));
    } else if (row.kind == "interval") {
      EXPECT_EQ(row.values.at("exponent_low"), fit.at("interval").at("exponent").items()[0]);
      EXPECT_EQ(row.values.at("ratio_high"), fit.at("interval").at("ratio").items()[1]);
    }
  }
  EXPECT_EQ(rows_of(influence, "interval"), 1u);
}

TEST(Figure, LabelsThatHaveNoPlaceAreLeftOut) {
  std::vector<LabelledMark> crowd(40, {"id", "label", {0.5, 0.5}});
  EXPECT_NE(label_places("id", crowd, {}).find("-1"), std::string::npos);
  const std::string one = label_places("id", {{"id", "label", {0.5, 0.5}}}, {});
  EXPECT_EQ(one, "(page_width < 800 ? [0] : [0])[indexof([\"id\"], datum.id)]");
}

TEST(Figure, EveryCellAndTrialLeadsToItsRun) {
  const Made m = made(false);
  const auto best = best_runs(m.grid, m.view);
  EXPECT_EQ(best.size(), 36u);
  for (const FigureRow& row : find(m.results.figures, "figure2-loss").rows)
    if (row.kind == "cell") {
      EXPECT_EQ(row.values.at("run").as_string(), best.at(row.values.at("cell").as_string()));
    }
  size_t trials = 0;
  for (const FigureRow& row : find(m.results.figures, "figure4-curves").rows) {
    const std::string& part = row.values.at("part").as_string();
    if (part != "trial" && part != "diverged") continue;
    ++trials;
    EXPECT_FALSE(row.values.at("run").as_string().empty());
  }
  EXPECT_EQ(trials, m.view.trials.size());
}

TEST(Figure, AnArrowPointsToTheSideThatWasNotTried) {
  Made m = made(false);
  m.results.conclusions.families[0].cells[0].edge = true;
  m.results.conclusions.families[0].cells[0].bracket = "low";
  m.results.conclusions.families[0].cells[1].edge = true;
  m.results.conclusions.families[0].cells[1].bracket = "high";
  const Figure rates = rate_figure(input_of(m));
  EXPECT_EQ(rates.rows[0].values.at("edge").as_string(), "up");
  EXPECT_EQ(rates.rows[1].values.at("edge").as_string(), "down");
  EXPECT_EQ(rates.rows[2].values.at("edge").as_string(), "");
}

TEST(Figure, FineTunedModelsStandBesideThePaperInEveryUnitOfCompute) {
  FigureInput in = input_of(made(false));
  in.finetuned = invented_finetuned();
  const Figure figure = finetuned_figure({in});
  EXPECT_EQ(rows_of(figure, "finetuned"), in.finetuned.size());
  EXPECT_EQ(rows_of(figure, "paper"), 5u);
  EXPECT_NE(figure.caption.find("reported by the paper, not measured here"), std::string::npos);
  const auto param = [](const Figure& f, const char* name) {
    for (const Json& p : f.spec.at("params").items())
      if (p.at("name").as_string() == name) return p;
    return Json();
  };
  const Json unit = param(figure, "unit"), units = param(figure, "units").at("value");
  ASSERT_EQ(unit.at("bind").at("options").items().size(), 3u);
  for (const Json& option : unit.at("bind").at("options").items()) {
    const std::string column = option.as_string();
    const auto& domain = units.at(column).at("domain").items();
    for (const FigureRow& row : figure.rows) {
      EXPECT_GT(row.values.at(column).as_double(), domain[0].as_double()) << column;
      EXPECT_LT(row.values.at(column).as_double(), domain[1].as_double()) << column;
    }
  }
  EXPECT_EQ(unit.at("value").as_string(), "device_hours");
  // 137.5 TFLOP/s a core, of which 40 % are assumed.
  const FigureRow& run = figure.rows[0];
  EXPECT_NEAR(run.values.at("tpu_v4_core_hours").as_double(),
              run.values.at("flops").as_double() / (3600 * 0.4 * 137.5e12), 1e-12);
  in.conclusions.axis = "operations";
  EXPECT_EQ(param(finetuned_figure({in}), "unit").at("value").as_string(), "flops");
}

TEST(Figure, AFineTunedModelWithoutHoursStandsWhereItsOperationsAre) {
  FigureInput in = input_of(made(false));
  in.finetuned = invented_finetuned();
  in.finetuned[0].device_hours = 0;
  const Figure figure = finetuned_figure({in});
  EXPECT_TRUE(figure.rows[0].values.at("device_hours").is_null());
  EXPECT_GT(figure.rows[0].values.at("flops").as_double(), 0);
}

TEST(Figure, ASealedPredictionIsScoredOnceItsRunIsThrough) {
  const auto scored = [](std::optional<double> observed) {
    const Made m = made(false, {sealed(observed)});
    const Figure& record = find(m.results.figures, "figure7-record");
    return std::count_if(record.rows.begin(), record.rows.end(), [](const FigureRow& row) {
      return row.values.at("series").as_string() == "sealed prediction";
    });
  };
  EXPECT_EQ(scored({}), 0);
  EXPECT_EQ(scored(2.34), 1);
}

}  // namespace
}  // namespace nfscale
