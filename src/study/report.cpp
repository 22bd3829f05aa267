#include "study/report.h"

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "config/load.h"
#include "study/vega.h"

namespace nfscale {
namespace {

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

// JSON inside a <script> element: "</script" and "<!--" must not stand in it.
std::string script_json(const Json& json) {
  std::string text = json.dump(), out;
  for (const char c : text) {
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  }
  return out;
}

bool is_number(const std::string& text) {
  return !text.empty() && parse_double(text).has_value();
}

std::string html_table(const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& h : rows[0]) out += "<th>" + html_text(h) + "</th>";
  out += "</tr></thead><tbody>\n";
  for (size_t i = 1; i < rows.size(); ++i) {
    out += "<tr>";
    for (const std::string& field : rows[i])
      out += (is_number(field) ? "<td class=\"n\">" : "<td>") + html_text(field) + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string short_number(double v, int digits = 5) {
  return std::isnan(v) ? "" : fmt::format("{:.{}g}", v, digits);
}

std::vector<std::vector<std::string>> cell_table(const std::vector<CellRow>& cells, bool hours) {
  std::vector<std::vector<std::string>> rows = {{"cell", "parameters", "multiply-adds", "images",
                                                 hours ? "device hours" : "operations", "trials",
                                                 "best rate", "loss", "loss at the vertex",
                                                 "above the law, %", "certified", "note"}};
  for (const CellRow& c : cells)
    rows.push_back({c.cell, short_number(c.params, 9), short_number(c.macs, 9),
                    short_number(c.examples, 9), short_number(hours ? c.device_hours : c.flops, 4),
                    std::to_string(c.trials), short_number(c.lr_best), short_number(c.loss),
                    short_number(c.loss_vertex),
                    std::isnan(c.excess) ? "" : fmt::format("{:.2f}", 100 * std::expm1(c.excess)),
                    c.certified ? "yes" : "no", c.reason});
  return rows;
}

std::vector<std::vector<std::string>> trial_table(const Csv& trials) {
  std::vector<std::vector<std::string>> rows = {
      {"trial", "learning rate", "seed", "status", "held-out loss", "top-1, %", "steps",
       "device hours", "restarts", "certificate", "note"}};
  const auto at = [&](const std::vector<std::string>& row, const char* column) {
    return row[trials.column(column)];
  };
  const auto rounded = [](const std::string& text, double factor = 1, int digits = 6) {
    const auto v = parse_double(text);
    return v ? short_number(*v * factor, digits) : text;
  };
  for (const auto& row : trials.rows)
    rows.push_back({at(row, "run_id"), rounded(at(row, "lr")), at(row, "seed"), at(row, "status"),
                    rounded(at(row, "heldout_loss")), rounded(at(row, "heldout_top1"), 100, 4),
                    at(row, "steps"), rounded(at(row, "device_hours"), 1, 4), at(row, "restarts"),
                    at(row, "certificate_ok") == "1"   ? "holds"
                    : at(row, "certificate_ok") == "0" ? "broken"
                                                       : "",
                    at(row, "reason")});
  return rows;
}

std::vector<std::vector<std::string>> cost_table(const StudyView& view) {
  struct Sum {
    int trials = 0;
    double hours = 0, wall = 0;
  };
  std::map<std::string, Sum> sums;
  for (const TrialView& t : view.trials) {
    if (t.state == "planned") continue;
    Sum& s = sums[t.state == "done" ? (t.repeat ? "noise (other seeds)" : "used") : t.state];
    ++s.trials;
    if (!t.result) continue;
    if (t.result->device_hours > 0) s.hours += t.result->device_hours;
    if (t.result->wall_s > 0) s.wall += t.result->wall_s;
  }
  std::vector<std::vector<std::string>> rows = {{"outcome", "trials", "device hours", "run time"}};
  Sum all;
  for (const auto& [name, s] : sums) {
    rows.push_back(
        {name, std::to_string(s.trials), short_number(s.hours, 4), duration_text(s.wall)});
    all.trials += s.trials;
    all.hours += s.hours;
    all.wall += s.wall;
  }
  rows.push_back(
      {"all", std::to_string(all.trials), short_number(all.hours, 4), duration_text(all.wall)});
  return rows;
}

// The state of a cell in one word.
std::string cell_state(const StudyView& view, size_t c) {
  bool running = false, open = false, ended = false;
  for (const TrialView& t : view.trials) {
    if (t.trial.cell != c) continue;
    running |= t.state == "running";
    open |= t.state == "running" || t.state == "planned";
    ended |= t.result.has_value();
  }
  const CellSearch& s = view.search.cells[c];
  if (running) return "running";
  if (s.searched && !open) return s.best ? "done" : "failed";
  return ended ? "searching" : "planned";
}

std::vector<std::string> verdicts_of(const Grid& grid, const StudyView& view,
                                     const FrontierFit& fit, const std::vector<Figure>& figures) {
  std::vector<std::string> verdicts = {fit.verdict};
  for (const std::string& note : fit.notes) {
    std::string sentence = note;
    sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
    verdicts.push_back(sentence + ".");
  }
  if (fit.method == "tangent") {
    std::vector<std::string> best;
    for (const TouchPoint& t : fit.law->touches)
      best.push_back(fmt::format("{} at {} epochs ({} {})", t.model, plain_number(t.epochs),
                                 plain_number(t.compute), fit.axis));
    verdicts.push_back("Best epoch budget of each model: " + join(best, ", ") + ".");
  }
  size_t with = 0, certified = 0, frontier = 0, trials = 0;
  for (const CellSearch& c : view.search.cells) {
    with += c.best.has_value();
    frontier += c.frontier;
    certified += c.certified && c.frontier;
    trials += c.tried.size();
  }
  if (with == 0) return verdicts;
  std::string rates =
      fmt::format("Learning rates: {} trials in {} of {} cells", trials, with, grid.cells.size());
  if (frontier)
    rates += fmt::format(
        "; {} of the {} cells on the frontier are certified (both neighbouring "
        "rates tried and found worse)",
        certified, frontier);
  const int rose = view.search.rose, fell = view.search.fell;
  if (rose + fell > 0)
    rates += rose > fell   ? "; the optimum rises with epochs and size here"
             : rose < fell ? "; the optimum falls with epochs and size here"
                           : "; the optimum neither rises nor falls on the whole";
  verdicts.push_back(rates + ".");
  if (view.search.sigma) {
    const double sigma = *view.search.sigma, a = view.search.curvature;
    std::string noise = fmt::format(
        "Noise: runs that differ by their seed alone differ by {:.3g} nats (standard deviation)",
        sigma);
    if (sigma > a)
      noise += fmt::format(
          ", more than a step of the learning rate costs ({:.3g} nats): the search "
          "cannot see a single step",
          a);
    verdicts.push_back(noise + ".");
  }
  (void)figures;
  return verdicts;
}

std::vector<std::string> limits_of(const Study& study, const StudyView& view,
                                   const FrontierFit& fit) {
  std::vector<std::string> limits;
  if (!view.search.finished)
    limits.push_back("It is not complete: cells without a result may change every sentence above.");
  if (fit.method == "tangent")
    limits.push_back(fmt::format(
        "The law holds between {} and {} {}; the dashed parts are an extrapolation that "
        "nothing here has tested. A floor of the loss was not looked for.",
        plain_number(fit.measured_low), plain_number(fit.measured_high), fit.axis));
  if (fit.method == "pareto")
    limits.push_back(
        "Where the best epoch budget of a model lies: longer budgets (or larger models) would "
        "tell.");
  limits.push_back(
      "Rates were chosen by the same held-out loss that is reported, so the best of a few noisy "
      "runs looks slightly better than it is.");
  if (study.axis == "device_hours")
    limits.push_back(
        "Device hours are those of this machine and this program; another device, or "
        "a faster program, moves the models against each other.");
  if (study.repeats < 2 && !study.sigma)
    limits.push_back("The noise is known from one repeat at most.");
  return limits;
}

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--page:#fff;--box:#f6f8fa;--line:#d1d9e0;--accent:#0072B2}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa4ae;--page:#14171a;--box:#1d2125;--line:#3a4148;--accent:#56B4E9}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:1.2rem 1rem 3rem}
h1{font-size:1.5rem;line-height:1.25;margin:.4rem 0}h2{font-size:1.15rem;margin:2rem 0 .4rem}
.kind{color:var(--soft);font-size:.9rem}
.verdict{font-size:1.12rem;background:var(--box);border-left:4px solid var(--accent);padding:.7rem .9rem;margin:1rem 0}
ul{padding-left:1.2rem}li{margin:.25rem 0}
.figure{width:100%;min-height:120px;margin:.6rem 0}
.reading{color:var(--soft);margin:.2rem 0}
details.fold{border-top:1px solid var(--line);padding:.5rem 0}.fold>summary{cursor:pointer;font-weight:600}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.85rem;white-space:nowrap}
th,td{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:left}
th{cursor:pointer;position:sticky;top:0;background:var(--page)}
td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;font-size:.75rem;color:var(--soft)}
.vega-embed{width:100%}.vega-embed summary{z-index:1}
@media print{.fold>*{display:block}.vega-embed summary{display:none}main{max-width:none}.scroll{overflow:visible}table{white-space:normal;font-size:.7rem}}
)";

// Draws, again when the page turns dark or light; opens what is folded for printing; sorts tables.
constexpr const char* kScript = R"(
const dark = matchMedia('(prefers-color-scheme: dark)');
function draw() {
  const ink = dark.matches ? '#e6e8eb' : '#1f2328', soft = dark.matches ? '#3a4148' : '#dde3e8';
  const config = {background: 'transparent', font: 'system-ui, sans-serif',
    view: {stroke: soft},
    axis: {labelColor: ink, titleColor: ink, gridColor: soft, domainColor: ink, tickColor: ink, labelFontSize: 12, titleFontSize: 13},
    legend: {labelColor: ink, titleColor: ink, labelFontSize: 12}, title: {color: ink}};
  for (const name of Object.keys(figures)) {
    const spec = structuredClone(figures[name]);
    for (const p of spec.params) if (p.name === 'ink') p.value = ink;
    window.vegaEmbed('#' + name, spec, {renderer: 'svg', config, actions: {export: true, source: true, compiled: false, editor: false}, downloadFileName: name})
      .catch(e => { document.getElementById(name).textContent = 'This figure could not be drawn: ' + e.message; });
  }
}
if (window.vegaEmbed) { draw(); dark.addEventListener('change', draw); }
addEventListener('beforeprint', () => document.querySelectorAll('details.fold').forEach(d => d.open = true));
document.querySelectorAll('th').forEach(th => th.addEventListener('click', () => {
  const body = th.closest('table').tBodies[0], i = th.cellIndex, up = th.dataset.up !== '1';
  const value = tr => { const t = tr.cells[i].textContent; return t !== '' && !isNaN(t) ? Number(t) : t; };
  th.dataset.up = up ? '1' : '0';
  [...body.rows].sort((a, b) => { const x = value(a), y = value(b), d = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === 'number' ? -1 : 1; return up ? d : -d; })
    .forEach(r => body.append(r));
}));
)";

}  // namespace

StudyResults results_of(const Study& study, const Grid& grid, const StudyView& view,
                        const StoreState& store) {
  StudyResults r;
  r.cells = cell_rows(study, grid, view);
  r.trials = trials_table(study, grid, view, store);
  FitOptions options;
  options.by_hours = view.by_hours;
  options.draws = static_cast<int>(study.bootstrap);
  options.seed = hash64(study.name);
  options.sigma = study.sigma.value_or(view.search.sigma.value_or(0));
  if (grid.data.classes > 1 && grid.base.loss.kind == "softmax")
    options.chance = std::log(static_cast<double>(grid.data.classes));
  options.drop_flagged = study.drop_flagged;
  options.complete = view.search.finished;
  r.fit = fit_frontier(r.cells, options);
  set_excess(r.fit, view.by_hours, r.cells);
  r.fits = fit_json(r.fit, r.cells, hash64(csv_text(cells_table(r.cells))));
  r.figures = {loss_figure(r.cells, r.fit, grid.data.heldout_examples),
               rate_figure(r.cells, grid.lr_factor)};
  r.verdicts = verdicts_of(grid, view, r.fit, r.figures);
  r.limits = limits_of(study, view, r.fit);
  return r;
}

void write_tables(const Study& study, const StudyResults& r) {
  write_file(study.out / "trials.csv", csv_text(r.trials));
  write_file(study.out / "cells.csv", csv_text(cells_table(r.cells)));
  write_file(study.out / "fits.json", Json::array({r.fits}).dump(2) + "\n");
  files().make_folder(study.out / "figures");
  for (const Figure& figure : r.figures) {
    write_file(study.out / "figures" / (figure.name + ".vl.json"), figure.spec.dump(1) + "\n");
    write_file(study.out / "figures" / (figure.name + ".csv"), csv_text(figure.data));
  }
}

std::string report_html(const Study& study, const Grid& grid, const StudyView& view,
                        const StudyResults& r) {
  std::string figures = "{";
  for (const Figure& f : r.figures)
    figures +=
        fmt::format("{}\"{}\": {}", figures.size() > 1 ? ",\n" : "", f.name, script_json(f.spec));
  figures += "}";

  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"generator\" content=\"nfscale {}\">\n<title>{}</title>\n<style>{}</style>"
      "</head>\n<body><main>\n",
      NFSCALE_VERSION, html_text(study.name), kStyle);
  size_t done = 0;
  for (size_t c = 0; c < grid.cells.size(); ++c) done += cell_state(view, c) == "done";
  out += fmt::format("<div class=\"kind\">Study {}: {} of {} cells complete</div>\n",
                     html_text(study.name), done, grid.cells.size());
  out += "<h1>" +
         html_text(study.question.empty() ? "How far does this model scale?" : study.question) +
         "</h1>\n";
  out += "<p class=\"verdict\">" + html_text(r.verdicts[0]) + "</p>\n";
  if (r.verdicts.size() > 1) {
    out += "<ul>\n";
    for (size_t i = 1; i < r.verdicts.size(); ++i)
      out += "<li>" + html_text(r.verdicts[i]) + "</li>\n";
    out += "</ul>\n";
  }
  const bool scripts = !vega_script().empty();
  const std::vector<std::vector<std::string>> cells = cell_table(r.cells, view.by_hours);
  for (const Figure& f : r.figures) {
    out += fmt::format("<section><h2>{}</h2>\n<p class=\"reading\">{}</p>\n", html_text(f.title),
                       html_text(f.reading));
    if (scripts)
      out += fmt::format(
          "<div class=\"figure\" id=\"{}\"><noscript>With scripts this is a drawing; its numbers "
          "are in the table below.</noscript></div>\n",
          f.name);
    std::vector<std::vector<std::string>> table = {f.data.header};
    for (const auto& row : f.data.rows) {
      table.emplace_back();
      for (const std::string& field : row) {
        const auto v = parse_double(field);
        table.back().push_back(v ? short_number(*v, 6) : field);
      }
    }
    out += "<details class=\"fold\"><summary>The numbers of this figure</summary>\n" +
           html_table(table) + "</details></section>\n";
  }
  out += "<h2>Tables</h2>\n";
  out += "<details class=\"fold\" open><summary>Cells</summary>\n" + html_table(cells) +
         "</details>\n";
  out += "<details class=\"fold\"><summary>Trials</summary>\n" + html_table(trial_table(r.trials)) +
         "</details>\n";
  out += "<details class=\"fold\"><summary>Cost</summary>\n" + html_table(cost_table(view)) +
         "</details>\n";
  out += "<details class=\"fold\"><summary>Identity</summary>\n" +
         html_table({{"what", "value"},
                     {"program", std::string("nfscale ") + NFSCALE_VERSION},
                     {"training data", join(grid.base.data.train, ", ")},
                     {"training images", std::to_string(grid.data.examples)},
                     {"fingerprint", grid.data.train_fingerprint},
                     {"held-out data", join(grid.base.data.heldout, ", ")},
                     {"held-out images", std::to_string(grid.data.heldout_examples)},
                     {"fingerprint", grid.data.heldout_fingerprint},
                     {"classes", std::to_string(grid.data.classes)},
                     {"seed", std::to_string(study.seed)},
                     {"draws of the interval", fmt::format("{} of {}", r.fit.drawn, r.fit.draws)},
                     {"hash of cells.csv", r.fits.at("input_hash").as_string()}}) +
         "</details>\n";
  out += "<h2>What this study cannot say</h2>\n<ul>\n";
  for (const std::string& limit : r.limits) out += "<li>" + html_text(limit) + "</li>\n";
  out += "</ul>\n";
  if (scripts)
    out += "<details class=\"fold\"><summary>Licence of the drawing library</summary><pre>" +
           html_text(vega_license()) + "</pre></details>\n";
  out += "</main>\n";
  if (scripts) {
    out += "<script type=\"module\">\n";
    out += vega_script();
    out += "\n</script>\n";
  }
  out += "<script type=\"module\">\nconst figures = " + figures + ";\n" + kScript +
         "</script>\n</body></html>\n";
  return out;
}

Json report_json(const Study& study, const StudyResults& r) {
  Json figures = Json::array();
  for (const Figure& f : r.figures) {
    Json rows = Json::array();
    for (const auto& row : f.data.rows) {
      Json object = Json::object();
      for (size_t i = 0; i < row.size(); ++i) {
        const auto v = parse_double(row[i]);
        object.set(f.data.header[i], row[i].empty() ? Json() : v ? Json(*v) : Json(row[i]));
      }
      rows.push(object);
    }
    figures.push(Json::object({{"name", f.name}, {"title", f.title}, {"rows", rows}}));
  }
  return Json::object({{"study", study.name},
                       {"question", study.question},
                       {"verdicts", Json(r.verdicts)},
                       {"limits", Json(r.limits)},
                       {"fits", Json::array({r.fits})},
                       {"figures", figures},
                       {"report", (study.out / "report.html").string()}});
}

Json status_json(const Study& study, const Grid& grid, const StudyView& view) {
  const auto sources = join(grid.base.data.train, " ");
  Json cells = Json::array();
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const CellSearch& s = view.search.cells[c];
    Json best = Json::object({{"lr", nullptr}, {"loss", nullptr}});
    if (s.best) {
      best.set("lr", grid.lr_start * std::pow(grid.lr_factor, *s.best));
      best.set("loss", s.loss);
    }
    cells.push(Json::object({{"cell", grid.cells[c].name},
                             {"model", grid.cells[c].model},
                             {"epochs", grid.cells[c].epochs},
                             {"data", sources},
                             {"state", cell_state(view, c)},
                             {"best", best},
                             {"certified", s.certified},
                             {"edge", s.edge}}));
  }
  std::map<std::string, int64_t> count;
  for (const TrialView& t : view.trials) ++count[t.state];
  const double planned =
      remaining_trials(study, grid, view) - static_cast<double>(count["running"]);
  const auto eta = remaining_seconds(study, grid, view);
  return Json::object({{"cells", cells},
                       {"trials", Json::object({{"done", count["done"]},
                                                {"running", count["running"]},
                                                {"diverged", count["diverged"]},
                                                {"failed", count["failed"]},
                                                {"planned", static_cast<int64_t>(planned)},
                                                {"not_in_plan", view.other.size()}})},
                       {"finished", view.search.finished},
                       {"eta_s", eta ? Json(*eta) : Json()}});
}

std::vector<std::vector<std::string>> status_rows(const Grid& grid, const StudyView& view) {
  std::vector<std::pair<int, std::string>> models;
  std::vector<double> budgets;
  for (const Cell& c : grid.cells) {
    models.emplace_back(c.size_rank, c.model);
    budgets.push_back(c.epochs);
  }
  const auto unique = [](auto& list) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  };
  unique(models);
  unique(budgets);
  std::vector<std::vector<std::string>> rows = {{"model"}};
  for (const double e : budgets) rows[0].push_back(fmt::format("{:g} epochs", e));
  for (const auto& [rank, model] : models) {
    rows.push_back({model});
    for (const double e : budgets) {
      std::string text = "-";
      for (size_t c = 0; c < grid.cells.size(); ++c) {
        if (grid.cells[c].model != model || grid.cells[c].epochs != e) continue;
        const CellSearch& s = view.search.cells[c];
        text = cell_state(view, c);
        if (s.best)
          text = fmt::format("{:.4f} at {:g}{}{}", s.loss,
                             grid.lr_start * std::pow(grid.lr_factor, *s.best),
                             s.certified ? " *"
                             : s.edge    ? " !"
                                         : "",
                             text == "done" ? "" : ", " + text);
      }
      rows.back().push_back(text);
    }
  }
  return rows;
}

std::string status_text(const Study& study, const Grid& grid, const StudyView& view) {
  const Json status = status_json(study, grid, view);
  std::vector<std::string> parts;
  for (const auto& [name, n] : status.at("trials").members())
    if (n.as_int() > 0) parts.push_back(fmt::format("{} {}", n.as_int(), name));
  std::string text = "held-out loss at the best rate; * certified, ! the search met a limit\n";
  text += "trials: " + (parts.empty() ? "none yet" : join(parts, ", "));
  const Json& eta = status.at("eta_s");
  if (view.search.finished)
    text += "; the study is complete";
  else if (eta.is_number())
    text += "; about " + duration_text(eta.as_double()) + " of work left";
  std::replace(text.begin(), text.end(), '_', ' ');
  return text + "\n";
}

}  // namespace nfscale
