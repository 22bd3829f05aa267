#include "study/page_tables.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"

namespace nfscale {
namespace {

bool is_number(const std::string& text) {
  return !text.empty() && parse_double(text).has_value();
}

std::string short_number(double v, int digits = 5) {
  return std::isfinite(v) ? fmt::format("{:.{}g}", v, digits) : "";
}

std::string yes_no(bool v) {
  return v ? "yes" : "no";
}

// Text of a table as it is, numbers with fewer digits.
std::string rounded(const std::string& text, double factor = 1, int digits = 6) {
  const auto v = parse_double(text);
  return v ? short_number(*v * factor, digits) : html_text(text);
}

// The trials of a cell, each by its rate; the best one stands out.
std::string trial_links(const Grid& grid, const StudyView& view, const std::string& cell,
                        const std::string& best) {
  std::vector<const TrialView*> trials;
  for (const TrialView& t : view.trials)
    if (t.result && grid.cells[t.trial.cell].name == cell) trials.push_back(&t);
  std::sort(trials.begin(), trials.end(), [](const TrialView* a, const TrialView* b) {
    return std::pair(a->trial.lr, a->trial.seed) < std::pair(b->trial.lr, b->trial.seed);
  });
  std::vector<std::string> links;
  for (const TrialView* t : trials) {
    const std::string& id = t->trial.run_id;
    const std::string link = link_to("run-" + id, fmt::format("{:g}", t->trial.lr));
    links.push_back(id == best ? "<b>" + link + "</b>" : link);
  }
  return join(links, " ");
}

std::string certificate_text(const std::string& ok) {
  return ok == "1" ? "holds" : ok == "0" ? "broken" : "";
}

struct Spent {
  int trials = 0, again = 0;  // again: starts after the first
  double hours = 0, wall_s = 0;
  void operator+=(const Spent& other) {
    trials += other.trials;
    again += other.again;
    hours += other.hours;
    wall_s += other.wall_s;
  }
};

// What came of a trial that was started; empty for the others.
std::string outcome_of(const StudyView& view, const TrialView& t) {
  if (t.state == "done") return use_of(view, t);
  if (t.state != "planned") return t.state;
  return t.record.starts > 0 ? "failed" : "";
}

std::map<std::string, Spent> spent_by_outcome(const StudyView& view, const Csv& trials) {
  std::map<std::string, Spent> spent;
  const auto known = [](double v) { return v > 0 ? v : 0; };  // NaN where it is not
  for (const TrialView* t : all_trials(view))
    if (const std::string outcome = outcome_of(view, *t); !outcome.empty())
      spent[outcome] +=
          {1, std::max(0, t->record.starts - 1), known(t->result ? t->result->device_hours : 0),
           known(t->result ? t->result->wall_s : 0)};
  for (size_t i = 0; i < trials.rows.size(); ++i)
    if (trials.rows[i][trials.column("reason")] == "not in plan")
      spent["lost"] += {1, 0, trials.number(i, trials.column("device_hours")).value_or(0),
                        trials.number(i, trials.column("wall_s")).value_or(0)};
  return spent;
}

}  // namespace

void PageTable::add(std::vector<std::string> fields, std::string id) {
  rows.push_back({std::move(fields), std::move(id)});
}

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

std::string link_to(const std::string& id, const std::string& text) {
  return fmt::format("<a href=\"#{}\">{}</a>", html_text(id), html_text(text));
}

std::string html_table(const PageTable& table) {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& h : table.header) out += "<th>" + h + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const PageTable::Row& row : table.rows) {
    out += row.id.empty() ? "<tr>" : "<tr id=\"" + html_text(row.id) + "\">";
    for (const std::string& field : row.fields)
      out += (is_number(field) ? "<td class=\"n\">" : "<td>") + field + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

PageTable figure_rows(const Figure& figure) {
  const Csv csv = figure_table(figure);
  PageTable table;
  for (const std::string& h : csv.header) table.header.push_back(html_text(h));
  for (const auto& row : csv.rows) {
    std::vector<std::string> fields;
    for (const std::string& field : row) fields.push_back(rounded(field));
    table.add(fields);
  }
  return table;
}

PageTable cell_table(const Grid& grid, const StudyView& view, const StudyResults& r) {
  PageTable table = {
      {"cell", "parameters", "multiply-adds", "images",
       view.by_hours ? "device hours" : "operations", "trials, by rate", "best rate", "loss",
       "loss at the vertex", "above the law, %", "near-optimal", "certified", "note"},
      {}};
  const auto best = best_runs(grid, view);
  for (const CellRow& c : r.cells) {
    const auto run = best.find(c.cell);
    table.add({html_text(c.cell), short_number(c.params, 9), short_number(c.macs, 9),
               short_number(c.examples, 9), short_number(c.compute(view.by_hours), 4),
               trial_links(grid, view, c.cell, run == best.end() ? "" : run->second),
               short_number(c.lr_best), short_number(c.loss), short_number(c.loss_vertex),
               std::isnan(c.excess) ? "" : fmt::format("{:.2f}", 100 * std::expm1(c.excess)),
               c.near ? yes_no(*c.near) : "", yes_no(c.certified), html_text(c.reason)},
              "cell-" + c.cell);
  }
  return table;
}

PageTable trial_table(const Csv& trials) {
  PageTable table = {{"trial", "cell", "learning rate", "seed", "status", "held-out loss",
                      "top-1, %", "steps", "device hours", "restarts", "certificate", "note"},
                     {}};
  for (const auto& row : trials.rows) {
    const auto at = [&](const char* column) { return row[trials.column(column)]; };
    const bool in_plan = at("reason") != "not in plan";
    table.add({html_text(at("run_id")),
               in_plan ? link_to("cell-" + at("cell"), at("cell")) : html_text(at("cell")),
               rounded(at("lr")), html_text(at("seed")), html_text(at("status")),
               rounded(at("heldout_loss")), rounded(at("heldout_top1"), 100, 4),
               html_text(at("steps")), rounded(at("device_hours"), 1, 4), html_text(at("restarts")),
               certificate_text(at("certificate_ok")), html_text(at("reason"))},
              "run-" + at("run_id"));
  }
  return table;
}

PageTable finetuned_rows(const Csv& finetuned) {
  PageTable table = {{"run", "recipe", "checkpoint of", "learning rate", "status", "top-1 error, %",
                      "loss", "steps", "device hours", "certificate", "why"},
                     {}};
  for (const auto& row : finetuned.rows) {
    const auto at = [&](const char* column) { return row[finetuned.column(column)]; };
    const auto top1 = parse_double(at("heldout_top1"));
    table.add(
        {html_text(at("run_id")), html_text(at("recipe")), link_to("run-" + at("init"), at("cell")),
         rounded(at("lr")), html_text(at("status")), top1 ? short_number(100 * (1 - *top1), 4) : "",
         rounded(at("heldout_loss")), html_text(at("steps")), rounded(at("device_hours"), 1, 4),
         certificate_text(at("certificate_ok")), html_text(at("reason"))},
        "run-" + at("run_id"));
  }
  return table;
}

PageTable optima_table(const Conclusions& conclusions) {
  PageTable table = {{html_text(conclusions.axis), "best model", "epochs", "loss",
                      "within 0.5 % (epochs)", "continuous optimum, parameters", "epochs", "note"},
                     {}};
  for (const OptimumRegion& o : conclusions.optima) {
    std::vector<std::string> near;
    for (const OptimumRegion::Near& n : o.near)
      near.push_back(fmt::format("{} ({:.3g})", n.model, n.epochs));
    table.add({short_number(o.compute, 4), html_text(o.model), short_number(o.epochs, 3),
               short_number(o.loss), html_text(join(near, ", ")), short_number(o.size, 3),
               short_number(o.size_epochs, 3), o.open_above ? "open above" : ""});
  }
  return table;
}

PageTable prediction_table(const StudyResults& r) {
  PageTable table = {{"cell", "number", "kind", "predicted, nats", "50 %", "95 %", "device hours",
                      "rate", "observed", "error, %", "naive error, %", "inside 50 %",
                      "inside 95 %", "sealed", "seal", "seal holds"},
                     {}};
  const auto range = [](const Bounds& b) { return fmt::format("{:.5g} to {:.5g}", b.low, b.high); };
  const auto percent = [](const std::optional<double>& v) {
    return v ? fmt::format("{:.2f}", 100 * std::expm1(*v)) : "";
  };
  const auto flag = [](const std::optional<bool>& v) { return v ? yes_no(*v) : ""; };
  for (const Prediction& p : r.predictions)
    table.add({html_text(p.target), std::to_string(p.number), html_text(p.kind),
               short_number(p.loss), range(p.interval50), range(p.interval95),
               short_number(p.device_hours, 4), short_number(p.lr_guess),
               p.observed ? short_number(*p.observed) : "", percent(p.error),
               percent(p.naive_error), flag(p.inside50), flag(p.inside95), html_text(p.sealed_at),
               html_text(p.seal), p.seal.empty() ? "" : yes_no(p.seal_holds)});
  return table;
}

PageTable cost_table(const StudyView& view, const Csv& trials) {
  static const std::vector<std::pair<std::string, std::string>> kOutcomes = {
      {"used", "used"},
      {"noise", "noise (other seeds)"},
      {"target", "targets of predictions"},
      {"fine-tuning", "fine-tuning"},
      {"diverged", "diverged"},
      {"running", "running"},
      {"failed", "failed, to be repeated"},
      {"lost", "lost (the study changed)"}};
  std::map<std::string, Spent> spent = spent_by_outcome(view, trials);
  PageTable table = {{"outcome", "trials", "device hours", "run time", "started again"}, {}};
  const auto row = [&](const std::string& name, const Spent& s) {
    table.add({html_text(name), std::to_string(s.trials), short_number(s.hours, 4),
               duration_text(s.wall_s), std::to_string(s.again)});
  };
  Spent all;
  for (const auto& [key, name] : kOutcomes) {
    row(name, spent[key]);
    all += spent[key];
  }
  row("all", all);
  return table;
}

PageTable identity_table(const Study& study, const Grid& grid, const StudyResults& r) {
  PageTable table = {{"what", "value"}, {}};
  const auto add = [&](const char* what, const std::string& value) {
    table.add({what, html_text(value)});
  };
  add("program", std::string("nfscale ") + NFSCALE_VERSION);
  add("training data", join(grid.base.data.train, ", "));
  add("training images", std::to_string(grid.data.examples));
  add("fingerprint", grid.data.train_fingerprint);
  add("held-out data", join(grid.base.data.heldout, ", "));
  add("held-out images", std::to_string(grid.data.heldout_examples));
  add("fingerprint", grid.data.heldout_fingerprint);
  add("classes", std::to_string(grid.data.classes));
  add("seed", std::to_string(study.seed));
  for (const Conclusions& c : r.conclusions.families)
    add(("draws of the intervals" +
         (r.conclusions.families.size() > 1 ? ", " + family_title(c.family) + "s" : ""))
            .c_str(),
        fmt::format("{} of {}", c.law.drawn, c.law.draws));
  add("hash of cells.csv", fmt::format("{:016x}", hash64(csv_text(cells_table(r.cells)))));
  return table;
}

}  // namespace nfscale
