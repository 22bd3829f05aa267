#include "study/table.h"

#include <algorithm>
#include <map>

#include "base/text.h"

namespace nfscale {
namespace {

const std::vector<std::string> kTrialColumns = {
    "run_id",      "cell",         "model",          "params",       "macs",
    "epochs",      "lr",           "lr_index",       "batch",        "seed",
    "status",      "heldout_loss", "heldout_top1",   "train_loss",   "steps",
    "examples",    "flops",        "device",         "device_hours", "wall_s",
    "mfu",         "restarts",     "certificate_ok", "broken",       "data_fingerprint",
    "config_hash", "attempt",      "reason",         "started",      "finished"};

std::string flag(bool v) {
  return v ? "1" : "0";
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::vector<std::string> trial_row(const Cell& cell, const TrialView& t) {
  const TrialResult none;
  const TrialResult& r = t.result ? *t.result : none;
  const auto given = [&](double v) { return t.result ? csv_number(v) : std::string(); };
  const TrialRecord& record = t.record;
  return {t.trial.run_id,
          cell.name,
          cell.model,
          std::to_string(cell.params),
          std::to_string(cell.macs),
          csv_number(cell.epochs),
          csv_number(t.trial.lr),
          std::to_string(t.trial.lr_index),
          std::to_string(cell.batch),
          std::to_string(t.trial.seed),
          t.state,
          given(r.loss),
          given(r.top1),
          given(r.train_loss),
          given(r.steps),
          given(r.examples),
          csv_number(cell.flops),
          r.device,
          given(r.device_hours),
          given(r.wall_s),
          given(r.mfu),
          record.starts > 0 ? std::to_string(record.starts - 1) : "",
          r.certificate_ok ? flag(*r.certificate_ok) : "",
          given(r.broken),
          r.fingerprint,
          t.result && !r.config_hash.empty() ? r.config_hash : t.trial.config_hash,
          record.starts > 0 ? std::to_string(record.failures + 1) : "",
          one_line(record.reason),
          record.started,
          record.finished};
}

// Of an earlier state of the study: kept, and told apart by its reason.
std::vector<std::string> old_row(const Study& study, const std::string& id,
                                 const TrialRecord& record) {
  const auto r = read_result(study.out / "runs" / id);
  const auto text = [&](const char* key) -> std::string {
    const Json* v = record.chosen.find(key);
    if (!v) return "";
    return v->is_string() ? v->as_string() : v->is_int() ? v->dump() : csv_number(v->as_double());
  };
  const auto given = [&](double v) { return r ? csv_number(v) : std::string(); };
  const TrialResult none;
  const TrialResult& v = r ? *r : none;
  return {id,
          text("cell"),
          text("model"),
          text("params"),
          text("macs"),
          text("epochs"),
          text("lr"),
          text("lr_index"),
          text("batch"),
          text("seed"),
          r ? r->status : "planned",
          given(v.loss),
          given(v.top1),
          given(v.train_loss),
          given(v.steps),
          given(v.examples),
          "",
          v.device,
          given(v.device_hours),
          given(v.wall_s),
          given(v.mfu),
          "",
          v.certificate_ok ? flag(*v.certificate_ok) : "",
          given(v.broken),
          v.fingerprint,
          text("config_hash"),
          "",
          "not in plan",
          record.started,
          record.finished};
}

// What the trials of a cell say beside the search.
struct Tally {
  int ended = 0, diverged = 0, failed = 0;
  bool broken = false;  // the certificate of the best one
};

std::vector<Tally> tallies(const Grid& grid, const StudyView& view) {
  std::vector<Tally> tallies(grid.cells.size());
  for (const TrialView& t : view.trials) {
    Tally& tally = tallies[t.trial.cell];
    tally.ended += t.result.has_value();
    tally.diverged += t.state == "diverged";
    tally.failed += t.state == "failed";
    const auto& best = view.search.cells[t.trial.cell].best;
    const bool is_best = best && !t.repeat && t.trial.lr_index == *best;
    tally.broken |= is_best && t.result && t.result->certificate_ok == false;
  }
  return tallies;
}

}  // namespace

Csv trials_table(const Study& study, const Grid& grid, const StudyView& view,
                 const StoreState& store) {
  Csv table{"trials.csv", kTrialColumns, {}};
  std::vector<const TrialView*> order;
  for (const TrialView& t : view.trials) order.push_back(&t);
  // By cell, rate and seed: an order that does not tell when what ran.
  std::stable_sort(order.begin(), order.end(), [](const TrialView* a, const TrialView* b) {
    return std::tuple(a->trial.cell, a->repeat, a->trial.lr_index) <
           std::tuple(b->trial.cell, b->repeat, b->trial.lr_index);
  });
  for (const TrialView& t : view.targets) order.push_back(&t);
  for (const TrialView* t : order)
    table.rows.push_back(trial_row(cell_at(grid, t->trial.cell), *t));
  for (const std::string& id : view.other)
    if (const TrialRecord& record = store.trials.at(id);
        record.chosen.is_object() && !record.chosen.find("init"))
      table.rows.push_back(old_row(study, id, record));
  return table;
}

Csv finetuned_table(const Grid& grid, const StudyView& view) {
  Csv table{"finetuned.csv",
            {"run_id", "init", "recipe", "cell", "model", "lr", "status", "heldout_top1",
             "heldout_loss", "train_loss", "steps", "examples", "device", "device_hours", "wall_s",
             "certificate_ok", "reason"},
            {}};
  for (const TrialView& t : view.finetunings) {
    const Cell& cell = cell_at(grid, t.trial.cell);
    const TrialResult none, &r = t.result ? *t.result : none;
    const auto given = [&](double v) { return t.result ? csv_number(v) : std::string(); };
    table.rows.push_back({t.trial.run_id, t.trial.init, grid.recipes[t.trial.recipe].name,
                          cell.name, cell.model, csv_number(t.trial.lr), t.state, given(r.top1),
                          given(r.loss), given(r.train_loss), given(r.steps), given(r.examples),
                          r.device, given(r.device_hours), given(r.wall_s),
                          r.certificate_ok ? *r.certificate_ok ? "1" : "0" : "", t.why});
  }
  return table;
}

CellRow empty_row(const Cell& cell) {
  CellRow row;
  row.cell = cell.name;
  row.model = cell.model;
  row.family = cell.family;
  row.params = static_cast<double>(cell.params);
  row.macs = static_cast<double>(cell.macs);
  row.epochs = cell.epochs;
  row.examples = static_cast<double>(cell.images);
  row.flops = cell.flops;
  return row;
}

std::vector<CellRow> cell_rows(const Study& study, const Grid& grid, const StudyView& view) {
  std::vector<CellRow> rows;
  const std::vector<Tally> all = tallies(grid, view);
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const CellSearch& s = view.search.cells[c];
    CellRow row = empty_row(grid.cells[c]);
    row.device_hours = view.hours[c];
    row.trials = all[c].ended;
    row.edge = s.edge;
    row.certified = s.certified;
    row.frontier = s.frontier;
    if (study.sigma)
      row.sigma = *study.sigma;
    else if (s.sigma)
      row.sigma = *s.sigma;
    std::vector<std::string> reasons;
    row.flagged = all[c].broken;
    if (row.flagged) reasons.push_back("the certificate of the data does not hold");
    if (s.best) {
      const auto lr = [&](double k) { return rate_at(grid, grid.cells[c], k); };
      row.lr_best = lr(*s.best);
      row.lr_index = *s.best;
      row.loss = s.loss;
      row.loss_vertex = s.loss_vertex;
      row.lr_vertex = lr(s.vertex);
      row.curvature = s.curvature;
      row.bracket = s.low && s.high ? "both" : s.low ? "low" : s.high ? "high" : "none";
      if (s.tie) reasons.push_back(fmt::format("tie with lr {:g}", lr(*s.tie)));
    } else if (s.searched) {
      reasons.push_back("no trial gave a loss");
    } else {
      reasons.push_back("waits for trials");
    }
    if (all[c].diverged) reasons.push_back(fmt::format("{} diverged", all[c].diverged));
    if (all[c].failed) reasons.push_back(fmt::format("{} failed", all[c].failed));
    row.reason = join(reasons, "; ");
    rows.push_back(row);
  }
  return rows;
}

Csv cells_table(const std::vector<CellRow>& rows) {
  Csv table{"cells.csv",
            {"cell",        "model",        "params",    "macs",    "epochs",    "examples",
             "flops",       "device_hours", "trials",    "lr_best", "lr_index",  "loss",
             "loss_vertex", "lr_vertex",    "curvature", "bracket", "certified", "edge",
             "sigma",       "frontier",     "excess",    "near",    "flagged",   "reason"},
            {}};
  for (const CellRow& r : rows)
    table.rows.push_back({r.cell,
                          r.model,
                          csv_number(r.params),
                          csv_number(r.macs),
                          csv_number(r.epochs),
                          csv_number(r.examples),
                          csv_number(r.flops),
                          csv_number(r.device_hours),
                          std::to_string(r.trials),
                          csv_number(r.lr_best),
                          csv_number(r.lr_index),
                          csv_number(r.loss),
                          csv_number(r.loss_vertex),
                          csv_number(r.lr_vertex),
                          csv_number(r.curvature),
                          r.bracket,
                          flag(r.certified),
                          flag(r.edge),
                          csv_number(r.sigma),
                          flag(r.frontier),
                          csv_number(r.excess),
                          r.near ? flag(*r.near) : "",
                          flag(r.flagged),
                          r.reason});
  return table;
}

std::vector<CellRow> cells_of_trials(const Csv& csv) {
  const size_t model = csv.column("model"), params = csv.column("params"),
               epochs = csv.column("epochs"), lr = csv.column("lr"), status = csv.column("status"),
               loss = csv.column("heldout_loss");
  const auto hours = csv.find_column("device_hours"), flops = csv.find_column("flops"),
             certificate = csv.find_column("certificate_ok"),
             examples = csv.find_column("examples"), macs = csv.find_column("macs"),
             seed = csv.find_column("seed");
  if (!hours && !flops) csv.column("device_hours");
  const auto positive = [&](size_t row, size_t column) {
    const auto v = csv.number(row, column);
    if (!v || !(*v > 0) || !std::isfinite(*v))
      fail(Exit::usage, "{}:{}: {}: expected a positive number, found \"{}\"", csv.name, row + 2,
           csv.header[column], printable(csv.rows[row][column]));
    return *v;
  };
  std::vector<CellRow> rows;
  std::map<std::string, size_t> place;
  std::vector<std::map<double, double>> losses;  // by ln lr
  std::string main_seed;
  for (size_t i = 0; i < csv.rows.size(); ++i) {
    const std::string& name = csv.rows[i][model];
    const double e = positive(i, epochs);
    const std::string key = fmt::format("{}@{:g}ep", name, e);
    const auto [at, fresh] = place.try_emplace(key, rows.size());
    if (fresh) {
      CellRow row;
      row.cell = key;
      row.model = name;
      row.params = positive(i, params);
      row.epochs = e;
      row.macs = macs ? csv.number(i, *macs).value_or(std::nan("")) : std::nan("");
      row.examples = examples ? csv.number(i, *examples).value_or(std::nan("")) : std::nan("");
      row.flops = flops ? csv.number(i, *flops).value_or(std::nan("")) : std::nan("");
      row.device_hours = hours ? csv.number(i, *hours).value_or(std::nan("")) : std::nan("");
      rows.push_back(row);
      losses.emplace_back();
    }
    CellRow& row = rows[at->second];
    if (csv.rows[i][status] != "done") continue;
    ++row.trials;
    if (certificate && csv.rows[i][*certificate] == "0") {
      row.flagged = true;
      row.reason = "the certificate of the data does not hold";
    }
    // Repeats with other seeds tell of the noise, not of the rate.
    if (seed && main_seed.empty()) main_seed = csv.rows[i][*seed];
    if (seed && csv.rows[i][*seed] != main_seed) continue;
    losses[at->second][std::log2(positive(i, lr))] = positive(i, loss);
  }
  for (size_t c = 0; c < rows.size(); ++c) {
    const auto& curve = losses[c];
    if (curve.empty()) continue;
    const auto best =
        std::min_element(curve.begin(), curve.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    CellRow& row = rows[c];
    row.lr_best = row.lr_vertex = std::exp2(best->first);
    row.loss = row.loss_vertex = best->second;
    const bool low = best != curve.begin(), high = std::next(best) != curve.end();
    row.bracket = low && high ? "both" : low ? "low" : high ? "high" : "none";
    if (!low || !high) continue;
    // Newton's form of the parabola through three points.
    const double xl = std::prev(best)->first - best->first,
                 xh = std::next(best)->first - best->first;
    const double dl = (std::prev(best)->second - best->second) / xl,
                 dh = (std::next(best)->second - best->second) / xh;
    const double a = (dh - dl) / (xh - xl), b = dl - a * xl;
    row.curvature = a;
    if (!(a > 0)) continue;
    row.lr_vertex = std::exp2(best->first - b / (2 * a));
    row.loss_vertex = best->second - b * b / (4 * a);
  }
  return rows;
}

std::vector<CellRow> cells_of_table(const Csv& csv) {
  const size_t model = csv.column("model"), params = csv.column("params"),
               epochs = csv.column("epochs"), loss = csv.column("loss");
  if (!csv.find_column("device_hours") && !csv.find_column("flops")) csv.column("device_hours");
  const auto maybe = [&](size_t row, const char* name) {
    const auto at = csv.find_column(name);
    return at ? csv.number(row, *at).value_or(std::nan("")) : std::nan("");
  };
  const auto text = [&](size_t row, const char* name) {
    const auto at = csv.find_column(name);
    return at ? csv.rows[row][*at] : std::string();
  };
  std::vector<CellRow> rows;
  for (size_t i = 0; i < csv.rows.size(); ++i) {
    CellRow row;
    row.model = csv.rows[i][model];
    for (const size_t column : {params, epochs, loss}) {
      const auto v = csv.number(i, column);
      if (column == loss && !v) continue;  // a cell without a result
      if (!v || !(*v > 0) || !std::isfinite(*v))
        fail(Exit::usage, "{}:{}: {}: expected a positive number, found \"{}\"", csv.name, i + 2,
             csv.header[column], printable(csv.rows[i][column]));
    }
    row.params = *csv.number(i, params);
    row.epochs = *csv.number(i, epochs);
    row.cell = fmt::format("{}@{:g}ep", row.model, row.epochs);
    row.loss = csv.number(i, loss).value_or(std::nan(""));
    row.loss_vertex = maybe(i, "loss_vertex");
    if (std::isnan(row.loss_vertex)) row.loss_vertex = row.loss;
    row.macs = maybe(i, "macs");
    row.examples = maybe(i, "examples");
    row.flops = maybe(i, "flops");
    row.device_hours = maybe(i, "device_hours");
    row.lr_best = maybe(i, "lr_best");
    row.lr_vertex = maybe(i, "lr_vertex");
    if (const std::string bracket = text(i, "bracket"); !bracket.empty()) row.bracket = bracket;
    row.flagged = text(i, "flagged") == "1";
    row.certified = text(i, "certified") == "1";
    row.frontier = text(i, "frontier") == "1";
    row.reason = text(i, "reason");
    rows.push_back(row);
  }
  return rows;
}

}  // namespace nfscale
