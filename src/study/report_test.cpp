#include "study/report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "study/synthetic_law.h"
#include "study/test_study.h"
#include "study/vega.h"

namespace nfscale {
namespace {

TEST(Figure, TicksAreRoundNumbers) {
  EXPECT_EQ(log_ticks(0.4, 1.3, 7), (std::vector<double>{0.4, 0.6, 0.8, 1, 1.2}));
  EXPECT_EQ(log_ticks(2.3, 3.1, 7), (std::vector<double>{2.4, 2.6, 2.8, 3}));
  EXPECT_EQ(log_ticks(300, 120000, 8),
            (std::vector<double>{500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}));
}

// A whole study's results on the invented law, without a directory of runs.
struct Made {
  Study study;
  Grid grid;
  StudyView view;
  StudyResults results;
};

Made made(bool half) {
  Made m;
  m.study.name = "t";
  m.study.question = "Is <this> escaped & \"safe\" </script>?";
  m.study.bootstrap = 100;
  m.grid.data = {.examples = 1000,
                 .heldout_examples = 100,
                 .classes = 1000,
                 .train_fingerprint = "a",
                 .heldout_fingerprint = "b"};
  m.grid.lr_start = 1.6;
  SearchSettings settings;
  std::vector<SearchCell> cells;
  for (int wave = 0; wave < 11; ++wave)
    for (int i = 0; i < 6; ++i) {
      const int j = wave - i;
      if (j < 0 || j > 5) continue;
      const double epochs = law::kEpochs[static_cast<size_t>(j)];
      Cell c;
      c.model = law::model(i).name;
      c.name = fmt::format("{}@{:g}ep", c.model, epochs);
      c.epochs = epochs;
      c.size_rank = i;
      c.epoch_rank = j;
      c.params = static_cast<int64_t>(law::model(i).params);
      c.macs = static_cast<int64_t>(law::model(i).macs);
      c.flops = law::hours(i, epochs) * 1e18;
      m.grid.cells.push_back(c);
      cells.push_back({.i = i, .j = j, .cost = law::hours(i, epochs)});
      m.view.hours.push_back(cells.back().cost);
    }
  m.view.by_hours = true;
  for (int round = 0; round < (half ? 4 : 100); ++round) {
    m.view.search = search(settings, cells);
    for (const Wanted& w : m.view.search.next) {
      SearchCell& c = cells[w.cell];
      const double lr = 1.6 * std::exp2(w.k);
      c.losses[w.k] = law::loss(c.i, law::kEpochs[static_cast<size_t>(c.j)], lr);
      TrialView t;
      t.trial.cell = w.cell;
      t.trial.lr = lr;
      t.trial.lr_index = w.k;
      t.trial.run_id = run_id(m.grid.cells[w.cell], lr, 0, "0123456789");
      t.state = std::isinf(c.losses[w.k]) ? "diverged" : "done";
      t.result = TrialResult();
      t.result->loss = c.losses[w.k];
      m.view.trials.push_back(t);
    }
  }
  m.view.search = search(settings, cells);
  m.results = results_of(m.study, m.grid, m.view, StoreState());
  return m;
}

TEST(Report, HoldsTheVerdictEveryTrialAndTheDrawings) {
  const Made m = made(false);
  EXPECT_EQ(m.results.fit.method, "tangent");
  EXPECT_NEAR(m.results.fit.law->exponent, 0.04, 0.001);
  const std::string html = report_html(m.study, m.grid, m.view, m.results);
  if (const char* keep = std::getenv("NFSCALE_KEEP_REPORT")) write_file(keep, html);
  EXPECT_NE(html.find("Is &lt;this&gt; escaped &amp; &quot;safe&quot; &lt;/script&gt;?"),
            std::string::npos);
  EXPECT_NE(html.find("falls as a power of compute"), std::string::npos);
  for (const TrialView& t : m.view.trials)
    EXPECT_NE(html.find("<td>" + t.trial.run_id + "</td>"), std::string::npos);
  // As many scripts end as begin, and nothing is loaded from anywhere.
  const auto count = [&](const char* text) {
    size_t n = 0;
    for (size_t at = html.find(text); at != std::string::npos; at = html.find(text, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count("<script type="), count("</script>"));
  EXPECT_EQ(count("src=\"http"), 0u);
  EXPECT_EQ(count("<link"), 0u);
  EXPECT_FALSE(vega_license().empty());
}

TEST(Report, AHalfFinishedStudySaysWhatItWaitsFor) {
  const Made m = made(true);
  EXPECT_EQ(m.results.fit.method, "none");
  EXPECT_NE(m.results.verdicts[0].find("waits for"), std::string::npos);
  const std::string html = report_html(m.study, m.grid, m.view, m.results);
  if (const char* keep = std::getenv("NFSCALE_KEEP_REPORT"))
    write_file(std::string(keep) + ".half.html", html);
  EXPECT_NE(html.find("It is not complete"), std::string::npos);
}

TEST(Report, TheFiguresCarryTheNumbersOfTheTables) {
  const Made m = made(false);
  const Figure& figure = m.results.figures[0];
  EXPECT_EQ(figure.spec.at("datasets").at("cells").items().size(), 36u);
  EXPECT_EQ(figure.spec.at("datasets").at("touch").items().size(),
            m.results.fit.law->touches.size());
  const size_t kind = figure.data.column("kind");
  EXPECT_EQ(std::count_if(figure.data.rows.begin(), figure.data.rows.end(),
                          [&](const auto& row) { return row[kind] == "cell"; }),
            36);
  const Json status = status_json(m.study, m.grid, m.view);
  EXPECT_EQ(status.at("cells").items().size(), 36u);
  EXPECT_EQ(status.at("trials").at("planned").as_int(), 0);
  EXPECT_EQ(status.at("trials").at("running").as_int(), 0);
}

}  // namespace
}  // namespace nfscale
