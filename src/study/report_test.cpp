#include "study/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/files.h"
#include "study/test_results.h"
#include "study/test_study.h"
#include "study/vega.h"

namespace nfscale {
namespace {

size_t count(const std::string& html, const std::string& text) {
  size_t n = 0;
  for (size_t at = html.find(text); at != std::string::npos; at = html.find(text, at + 1)) ++n;
  return n;
}

// What stands between `before` and the next quote, everywhere.
std::vector<std::string> quoted(const std::string& html, const std::string& before) {
  std::vector<std::string> found;
  for (size_t at = html.find(before); at != std::string::npos; at = html.find(before, at)) {
    at += before.size();
    found.push_back(html.substr(at, html.find('"', at) - at));
  }
  return found;
}

// The page without its scripts.
std::string page_of(const Made& m) {
  const std::string html = report_html(m.study, m.grid, m.view, m.results);
  return html.substr(0, html.find("<script"));
}

void expect_anchors(const std::string& page) {
  std::set<std::string> ids;
  for (const std::string& id : quoted(page, " id=\""))
    EXPECT_TRUE(ids.insert(id).second) << id << " comes twice";
  const auto links = quoted(page, " href=\"#");
  EXPECT_FALSE(links.empty());
  for (const std::string& link : links) EXPECT_TRUE(ids.contains(link)) << link;
}

TEST(Report, HoldsTheVerdictEveryTrialAndTheDrawings) {
  const Made m = made(false);
  EXPECT_EQ(m.results.conclusions.families[0].law.method, "tangent");
  EXPECT_NEAR(m.results.conclusions.families[0].law.law->exponent, 0.04, 0.001);
  const std::string html = report_html(m.study, m.grid, m.view, m.results);
  if (const char* keep = std::getenv("NFSCALE_KEEP_REPORT")) write_file(keep, html);
  EXPECT_NE(html.find("Is &lt;this&gt; escaped &amp; &quot;safe&quot; &lt;/script&gt;?"),
            std::string::npos);
  for (const Verdict& v : m.results.conclusions.verdicts)
    EXPECT_NE(html.find("id=\"verdict-" + v.name + "\""), std::string::npos) << v.name;
  for (const TrialView& t : m.view.trials)
    EXPECT_NE(html.find("<tr id=\"run-" + t.trial.run_id + "\">"), std::string::npos);
  // As many scripts end as begin, and nothing is loaded from anywhere.
  EXPECT_EQ(count(html, "<script type="), count(html, "</script>"));
  EXPECT_EQ(count(html, "src=\"http"), 0u);
  EXPECT_EQ(count(html, "href=\"http"), 0u);
  EXPECT_EQ(count(html, "url(http"), 0u);
  EXPECT_EQ(count(html, "<link"), 0u);
  EXPECT_FALSE(vega_license().empty());
}

TEST(Report, EveryLinkOfThePageLeadsSomewhere) {
  expect_anchors(page_of(made(false)));
  expect_anchors(page_of(made(true)));
}

TEST(Report, AHalfFinishedStudySaysWhatItWaitsFor) {
  const Made m = made(true);
  EXPECT_NE(m.results.conclusions.families[0].law.method, "tangent");
  const Verdict& law = m.results.conclusions.verdicts.at(0);
  EXPECT_EQ(law.name, "law");
  EXPECT_EQ(law.state, "waits");
  EXPECT_FALSE(law.cells.empty());
  const std::string html = report_html(m.study, m.grid, m.view, m.results);
  if (const char* keep = std::getenv("NFSCALE_KEEP_REPORT"))
    write_file(std::string(keep) + ".half.html", html);
  EXPECT_NE(html.find("the study is not complete"), std::string::npos);
  for (const Figure& f : m.results.figures)
    if (!f.waits.empty()) {
      EXPECT_NE(html.find(f.waits), std::string::npos) << f.name;
      EXPECT_EQ(html.find("id=\"" + f.name + "\""), std::string::npos) << f.name;
    }
}

TEST(Report, TwoFamiliesAreOnOnePage) {
  const Made m = made(false, {}, 2);
  const std::string html = report_html(m.study, m.grid, m.view, m.results);
  if (const char* keep = std::getenv("NFSCALE_KEEP_REPORT"))
    write_file(std::string(keep) + ".families.html", html);
  expect_anchors(page_of(m));
  EXPECT_EQ(m.results.conclusions.verdicts.at(0).name, "families");
  for (const char* id : {"verdict-families", "verdict-law-nfnet", "verdict-law-vit", "figure2-loss",
                         "figure3-rate-nfnet", "figure3-rate-vit"})
    EXPECT_NE(html.find(fmt::format("id=\"{}\"", id)), std::string::npos) << id;
  // Figure 2 holds both laws and every cell.
  const Figure& loss = m.results.figures.at(1);
  std::map<std::string, size_t> kinds;
  for (const FigureRow& row : loss.rows)
    ++kinds[row.kind == "law" ? "law " + row.values.at("family").as_string() : row.kind];
  EXPECT_EQ(kinds["cell"], 72u);
  EXPECT_EQ(kinds["law nfnet"], kinds["law vit"]);
  EXPECT_GT(kinds["law vit"], 0u);
}

TEST(Report, FigureTwoComesFirst) {
  Prediction second = sealed({});
  second.number = 2;
  Made m = made(false, {sealed(2.34), second});
  FigureInput in = input_of(m);
  in.finetuned = invented_finetuned();
  m.results.figures[0] = finetuned_figure({in});
  const std::string html = report_html(m.study, m.grid, m.view, m.results);
  if (const char* keep = std::getenv("NFSCALE_KEEP_REPORT"))
    write_file(std::string(keep) + ".all.html", html);
  const size_t two = html.find("id=\"figure2-loss\""), one = html.find("id=\"figure1-finetuned\""),
               three = html.find("id=\"figure3-rate\"");
  EXPECT_LT(two, one);
  EXPECT_LT(one, three);
  EXPECT_LT(three, html.find("id=\"figure4-curves\""));
}

TEST(Report, TheDocumentHasTheVerdictsAndTheNumbersOfEveryFigure) {
  const Made m = made(false);
  const Json document = report_json(m.study, m.results);
  EXPECT_EQ(document.at("verdicts").items().size(), m.results.conclusions.verdicts.size());
  EXPECT_EQ(document.at("fits"), m.results.fits);
  for (const Json& f : document.at("figures").items())
    EXPECT_NE(f.at("waits").is_null(), f.at("rows").items().empty()) << f.at("name").as_string();
}

TEST(Report, TablesAreWrittenBesideThePage) {
  const TestFolder folder;
  Made m = made(false);
  m.study.out = folder.path;
  write_tables(m.study, m.results);
  for (const Figure& f : m.results.figures) {
    const Path csv = folder.path / "figures" / (f.name + ".csv");
    ASSERT_EQ(std::filesystem::exists(csv), f.waits.empty()) << f.name;
    if (f.waits.empty()) {
      EXPECT_EQ(read_csv(csv).rows.size(), f.rows.size()) << f.name;
    }
  }
  EXPECT_EQ(parse_json(read_file(folder.path / "fits.json"), "fits.json").dump(),
            m.results.fits.dump());
}

}  // namespace
}  // namespace nfscale
