// The page of a study: verdicts first, then figures with the tables behind them. Every number leads
// to the cells and trials that it comes from.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/log.h"
#include "base/text.h"
#include "study/page_tables.h"
#include "study/page_text.h"
#include "study/report.h"
#include "study/vega.h"

namespace nfscale {
namespace {

// JSON inside a <script> element: "</script" and "<!--" must not stand in it.
std::string script_json(const Json& json) {
  std::string out;
  for (const char c : json.dump()) {
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  }
  return out;
}

std::string fold(const std::string& title, const std::string& inside, bool open = false) {
  return fmt::format("<details class=\"fold\"{}><summary>{}</summary>\n{}</details>\n",
                     open ? " open" : "", html_text(title), inside);
}

std::string head(const Study& study) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"generator\" content=\"nfscale {}\">\n"
      "<title>{}</title>\n<style>{}</style></head>\n<body><main>\n<div class=\"measure\"></div>\n",
      NFSCALE_VERSION, html_text(study.name), kPageStyle);
}

std::string question(const Study& study, const StudyView& view, const StudyResults& r) {
  const auto known = std::count_if(r.cells.begin(), r.cells.end(),
                                   [](const CellRow& c) { return !std::isnan(c.loss); });
  const std::string state =
      fmt::format("Study {}: {} of {} cells have a result{}", study.name, known, r.cells.size(),
                  view.search.finished ? "; the study is complete" : "; the study is not complete");
  return fmt::format(
      "<div class=\"kind\">{}</div>\n<h1>{}</h1>\n", html_text(state),
      html_text(study.question.empty() ? "How far does this model scale?" : study.question));
}

std::string title_of(const std::string& verdict) {
  static const std::map<std::string, std::string> kTitles = {
      {"law", "The law"},
      {"budgets", "Best epoch budget of each model"},
      {"record", "How well this method predicts here"},
      {"noise", "Noise"},
      {"optimum", "Best model and epochs"},
      {"same-rate", "Do size and epochs grow at the same rate?"},
      {"learning-rate", "Learning rate"},
      {"fine-tuning", "Candidates for fine-tuning"},
      {"fine-tuned", "After fine-tuning"},
      {"families", "Families of models"},
      {"next", "What to run next"},
      {"faults", "Cells that do not fit"}};
  const auto found = kTitles.find(verdict);
  return found == kTitles.end() ? verdict : found->second;
}

std::string verdict_html(const Verdict& v, const std::set<std::string>& cells) {
  std::string out = fmt::format(
      "<p id=\"verdict-{}\"><span class=\"name\">{}</span><span class=\"state {}\">{}</span> "
      "{}</p>\n",
      html_text(v.family.empty() ? v.name : v.name + "-" + v.family),
      html_text(v.family.empty() ? title_of(v.name)
                                 : family_title(v.family) + "s: " + title_of(v.name)),
      v.state == "decided" ? "decided" : "pending", html_text(v.state), html_text(v.sentence));
  if (v.cells.empty()) return out;
  std::vector<std::string> links;
  for (const std::string& c : v.cells)
    links.push_back(cells.contains(c) ? link_to("cell-" + c, c) : html_text(c));
  return out + fmt::format("<details class=\"cells\"><summary>{} {} cell{}</summary>{}</details>\n",
                           v.state == "waits" ? "waits for" : "rests on", links.size(),
                           links.size() == 1 ? "" : "s", join(links, " "));
}

std::string verdicts(const StudyResults& r) {
  std::set<std::string> cells;
  for (const CellRow& c : r.cells) cells.insert(c.cell);
  const auto& all = r.conclusions.verdicts;
  std::string out;
  if (!all.empty()) out += "<div class=\"law\">" + verdict_html(all[0], cells) + "</div>\n";
  if (all.size() < 2) return out;
  out += "<ul class=\"verdicts\">\n";
  for (size_t i = 1; i < all.size(); ++i) out += "<li>" + verdict_html(all[i], cells) + "</li>\n";
  return out + "</ul>\n";
}

// What stands below a title: one sentence, the drawing, what its marks mean, its numbers.
std::string figure_body(const Figure& f) {
  std::string out = "<p class=\"reading\">" + html_text(f.reading) + "</p>\n";
  if (!vega_script().empty())
    out += fmt::format(
        "<div class=\"figure\" id=\"draw-{}\"><noscript>With scripts this is a drawing; its "
        "numbers are in the table below.</noscript></div>\n",
        f.name);
  out += "<p class=\"caption\">" + html_text(f.caption) + "</p>\n";
  return out + "<details class=\"numbers\"><summary>The numbers of this figure</summary>\n" +
         html_table(figure_rows(f)) + "</details>\n";
}

std::string figures(const StudyResults& r) {
  std::string out, folded;
  std::vector<std::string> waits;
  // The question of a study is answered by figure 2, so it comes before 1.
  std::vector<const Figure*> order;
  for (const Figure& f : r.figures) order.push_back(&f);
  if (order.size() > 1) std::swap(order[0], order[1]);
  for (size_t i = 0; i < order.size(); ++i) {
    const Figure& f = *order[i];
    if (!f.waits.empty())
      waits.push_back(f.waits);
    else if (i < 3)
      out += fmt::format("<section id=\"{}\"><h2>{}</h2>\n{}</section>\n", f.name,
                         html_text(f.title), figure_body(f));
    else
      folded +=
          fmt::format("<section id=\"{}\">{}</section>\n", f.name, fold(f.title, figure_body(f)));
  }
  if (!folded.empty()) out += "<h2>More figures</h2>\n" + folded;
  if (!waits.empty()) {
    out += "<h2>Figures that wait</h2>\n";
    for (const std::string& w : waits) out += "<p class=\"waits\">" + html_text(w) + "</p>\n";
  }
  return out;
}

std::string tables(const Study& study, const Grid& grid, const StudyView& view,
                   const StudyResults& r) {
  std::string out = "<h2>Tables</h2>\n";
  out += fold("Cells", html_table(cell_table(grid, view, r)), true);
  out += fold("Trials", html_table(trial_table(r.trials)));
  for (const Conclusions& c : r.conclusions.families)
    if (!c.optima.empty())
      out += fold(
          "Best model and epochs at every budget" +
              (r.conclusions.families.size() > 1 ? fmt::format(" ({}s)", family_title(c.family))
                                                 : ""),
          html_table(optima_table(c)));
  if (!r.finetuned.rows.empty()) out += fold("Fine-tuned", html_table(finetuned_rows(r.finetuned)));
  if (!r.predictions.empty()) out += fold("Predictions", html_table(prediction_table(r)));
  out += fold("Cost", html_table(cost_table(view, r.trials)));
  out += fold("Identity", html_table(identity_table(study, grid, r)));
  return out;
}

std::string limits(const StudyResults& r) {
  std::string out = "<h2>What this study cannot say</h2>\n<ul class=\"limits\">\n";
  for (const std::string& limit : r.limits) out += "<li>" + html_text(limit) + "</li>\n";
  return out + "</ul>\n";
}

std::string scripts(const StudyResults& r) {
  std::string specs;
  for (const Figure& f : r.figures)
    if (f.waits.empty())
      specs += fmt::format("{}\"{}\": {}", specs.empty() ? "" : ",\n", f.name, script_json(f.spec));
  std::string out;
  if (vega_script().empty())
    specs.clear();  // there is no place to draw
  else
    out += fmt::format("<script type=\"module\">\n{}\n</script>\n", vega_script());
  return out + "<script type=\"module\">\nconst figures = {" + specs + "};\n" + kPageScript +
         "</script>\n";
}

}  // namespace

std::string report_html(const Study& study, const Grid& grid, const StudyView& view,
                        const StudyResults& r) {
  std::string out = head(study) + question(study, view, r) + verdicts(r) + figures(r) +
                    tables(study, grid, view, r) + limits(r);
  if (!vega_script().empty())
    out += "<details class=\"numbers\"><summary>Licence of the drawing library</summary>\n<pre>" +
           html_text(vega_license()) + "</pre></details>\n";
  return out + "</main>\n" + scripts(r) + "</body></html>\n";
}

}  // namespace nfscale
