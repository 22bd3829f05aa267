#include "study/predict.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "base/text.h"

namespace nfscale {
namespace {

Json bounds_json(const Bounds& b) {
  return Json::array({b.low, b.high});
}

Bounds bounds_of(const Json& json) {
  const auto& ends = json.items();
  const auto end = [&](size_t i, double open) {
    return ends.size() == 2 && ends[i].is_number() ? ends[i].as_double() : open;
  };
  return {end(0, -INFINITY), end(1, INFINITY)};
}

std::string hash_text(uint64_t hash) {
  return fmt::format("{:016x}", hash);
}

// What is sealed: nothing that the run may tell later.
Json sealed_part(const Prediction& p) {
  return Json::object({{"target", p.target},
                       {"number", p.number},
                       {"kind", p.kind},
                       {"config_hash", p.config_hash},
                       {"run_id", p.run_id},
                       {"law", p.law},
                       {"input_hash", p.input_hash},
                       {"cells", Json(p.cells)},
                       {"loss", p.loss},
                       {"naive", finite_json(p.naive)},
                       {"interval50", bounds_json(p.interval50)},
                       {"interval95", bounds_json(p.interval95)},
                       {"device_hours", finite_json(p.device_hours)},
                       {"flops", p.flops},
                       {"lr_guess", p.lr_guess},
                       {"sealed_at", p.sealed_at},
                       {"version", p.version}});
}

Prediction read_sealed(const Json& json) {
  const auto text = [&](const char* key) { return json.at(key).as_string(); };
  const auto number = [&](const char* key) {
    const Json& v = json.at(key);
    return v.is_number() ? v.as_double() : std::nan("");
  };
  Prediction p;
  p.target = text("target");
  p.number = static_cast<int>(json.at("number").as_int());
  p.kind = text("kind");
  p.config_hash = text("config_hash");
  p.run_id = text("run_id");
  p.law = text("law");
  p.input_hash = text("input_hash");
  const Json& cells = json.at("cells");
  for (const Json& cell : cells.items()) p.cells.push_back(cell.as_string());
  p.loss = number("loss");
  p.naive = number("naive");
  p.interval50 = bounds_of(json.at("interval50"));
  p.interval95 = bounds_of(json.at("interval95"));
  p.device_hours = number("device_hours");
  p.flops = number("flops");
  p.lr_guess = number("lr_guess");
  p.sealed_at = text("sealed_at");
  p.version = text("version");
  return p;
}

void score(Prediction& p, double observed) {
  const auto inside = [&](const Bounds& b) { return b.low <= observed && observed <= b.high; };
  p.observed = observed;
  p.error = std::log(p.loss / observed);
  if (p.naive > 0) p.naive_error = std::log(p.naive / observed);
  p.inside50 = inside(p.interval50);
  p.inside95 = inside(p.interval95);
}

// The target has been trained, or begun, under this or another recipe: also where the store that
// told of it is gone.
bool has_records(const Study& study, const StoreState& store, const Cell& target) {
  for (const auto& [id, trial] : store.trials) {
    const Json* cell = trial.chosen.find("cell");
    if (cell && *cell == Json(target.name)) return true;
  }
  const std::string prefix = fmt::format("{}-{:g}ep-lr", target.model, target.epochs);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(study.out / "runs", error))
    if (entry.path().filename().string().starts_with(prefix)) return true;
  return false;
}

// The optimum of the cell nearest in ln parameters and ln epochs; NaN where no cell has one.
double nearest_rate(const std::vector<CellRow>& cells, const Cell& target) {
  double least = INFINITY, lr = std::nan("");
  for (const CellRow& c : cells) {
    const double distance = std::hypot(std::log(c.params / static_cast<double>(target.params)),
                                       std::log(c.epochs / target.epochs));
    if (!(c.lr_vertex > 0) || !(distance < least)) continue;
    least = distance;
    lr = c.lr_vertex;
  }
  return lr;
}

// Where the optimum of the target is expected, as a place on the grid of rates.
int guessed_step(const Study& study, const Grid& grid, const std::vector<CellRow>& cells,
                 const std::optional<RateConclusion>& rate, const Cell& target) {
  double ln_lr = std::log(nearest_rate(cells, target));
  if (rate && std::isfinite(rate->i + rate->p + rate->q))
    ln_lr = rate->i + rate->p * std::log(static_cast<double>(target.params)) +
            rate->q * std::log(target.epochs);
  const double step = (ln_lr - std::log(target.lr_start)) / std::log(grid.lr_factor);
  int k = std::isfinite(step) ? static_cast<int>(std::lround(std::clamp(step, -60.0, 60.0))) : 0;
  const RateLimits limits = rate_limits(study, grid, target);
  if (limits.low) k = std::max(k, *limits.low);
  if (limits.high) k = std::min(k, *limits.high);
  return k;
}

std::vector<size_t> held_out(const Study& study, bool by_hours, const std::vector<CellRow>& cells) {
  double most = 0;
  for (const CellRow& c : cells) most = std::max(most, c.compute(by_hours));
  std::vector<size_t> held;
  for (size_t i = 0; i < cells.size(); ++i)
    if (study.hold_out > 0 && cells[i].compute(by_hours) > (1 - study.hold_out) * most)
      held.push_back(i);
  return held;
}

FinetunedPoint finetuned_point(const Grid& grid, const StudyView& view, const TrialView& t) {
  const Recipe& recipe = grid.recipes[t.trial.recipe];
  const Cell& cell = grid.cells[t.trial.cell];
  FinetunedPoint p = {.cell = cell.name,
                      .model = cell.model,
                      .family = cell.family,
                      .run_id = t.trial.run_id,
                      .init = t.trial.init,
                      .recipe = recipe.name,
                      .lr = t.trial.lr,
                      .compute = view.by_hours ? view.hours[t.trial.cell] : cell.flops,
                      .device_hours = view.hours[t.trial.cell],
                      .flops = cell.flops};
  for (const TrialView& pretrained : view.trials)
    if (pretrained.trial.run_id == t.trial.init) p.loss = pretrained.result->loss;
  const double wrong = 1 - t.result->top1;
  const auto n = static_cast<double>(recipe.data.heldout_examples);
  p.error = 100 * wrong;
  p.standard_error = n > 0 ? 100 * std::sqrt(wrong * (1 - wrong) / n) : 0;
  p.repeated_augmentation = recipe.loaded.config.data.augment.repeat > 1;
  return p;
}

ConcludeOptions conclude_options(const Study& study, const Grid& grid, const StudyView& view,
                                 int draws) {
  ConcludeOptions o;
  o.by_hours = view.by_hours;
  o.draws = draws;
  o.seed = hash64(study.name);
  o.sigma = study.sigma.value_or(0);
  if (grid.data.classes > 1 && grid.base.loss.kind == "softmax")
    o.chance = std::log(static_cast<double>(grid.data.classes));
  o.tolerance = study.tolerance;
  o.huber = study.huber;
  o.drop_flagged = study.drop_flagged;
  o.complete = view.search.finished;
  o.laws = study.laws;
  o.candidates = static_cast<size_t>(study.candidates);
  if (view.by_hours) o.candidate_budget = study.finetune_budget.value_or(0);
  for (const TrialView& t : view.trials)
    if (t.state == "done" && !t.repeat)
      o.trials.push_back({t.trial.cell, t.trial.lr, t.result->loss, t.trial.run_id});
  for (const TrialView& t : view.finetunings)
    if (t.state == "done") o.finetuned.push_back(finetuned_point(grid, view, t));
  for (const Cell& target : grid.targets) {
    CellRow row = empty_row(target);
    row.device_hours = hours_of(grid, view, target);
    o.targets.push_back(row);
  }
  return o;
}

// Without its losses and rates, as before its first trial.
CellRow without_results(const CellRow& row) {
  CellRow bare;
  bare.cell = row.cell;
  bare.model = row.model;
  bare.family = row.family;
  bare.params = row.params;
  bare.macs = row.macs;
  bare.epochs = row.epochs;
  bare.examples = row.examples;
  bare.flops = row.flops;
  bare.device_hours = row.device_hours;
  bare.sigma = row.sigma;
  return bare;
}

// "1.20 % too low", of ln(predicted / observed).
std::string off_text(double error) {
  return fmt::format("{:.2f} % too {}", std::abs(100 * std::expm1(error)),
                     error < 0 ? "low" : "high");
}

constexpr const char* kHeldOut = "held out for scoring";

// A forecast as a prediction that is not sealed.
Prediction from_forecast(const CellForecast& f, const Conclusions& conclusions) {
  Prediction p;
  p.target = f.cell;
  p.law = f.law;
  for (const size_t i : conclusions.used) p.cells.push_back(conclusions.cells[i].cell);
  p.loss = f.loss;
  p.naive = f.naive;
  p.interval50 = f.interval50;
  p.interval95 = f.interval95;
  p.device_hours = conclusions.axis == "device hours" ? f.compute : std::nan("");
  p.version = NFSCALE_VERSION;
  return p;
}

// Of a cell; nothing where its family has no law.
struct FoundForecast {
  const CellForecast* forecast = nullptr;
  const Conclusions* family = nullptr;
};
FoundForecast forecast_of(const StudyConclusions& conclusions, const std::string& cell) {
  for (const Conclusions& c : conclusions.families)
    for (const CellForecast& f : c.forecasts)
      if (f.cell == cell && std::isfinite(f.loss)) return {&f, &c};
  return {};
}

Prediction target_prediction(const Study& study, const Grid& grid, const StudyView& view,
                             size_t target, const FoundForecast& found) {
  const Cell& cell = grid.targets[target];
  Prediction p = from_forecast(*found.forecast, *found.family);
  const int k = guessed_step(study, grid, found.family->cells, found.family->rate, cell);
  const Trial trial = make_trial(grid, grid.cells.size() + target, k, study.seed);
  p.config_hash = trial.config_hash;
  p.run_id = trial.run_id;
  p.lr_guess = trial.lr;
  p.device_hours = hours_of(grid, view, cell);
  p.flops = cell.flops;
  return p;
}

}  // namespace

std::string canonical_text(const Json& json) {
  if (json.is_number())
    return std::isfinite(json.as_double()) ? fmt::format("{:.17g}", json.as_double()) : "null";
  std::vector<std::string> parts;
  if (json.is_array()) {
    for (const Json& item : json.items()) parts.push_back(canonical_text(item));
    return "[" + join(parts, ",") + "]";
  }
  if (!json.is_object()) return json.dump();
  Json::Object members = json.members();
  std::sort(members.begin(), members.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [key, value] : members)
    parts.push_back(Json(key).dump() + ":" + canonical_text(value));
  return "{" + join(parts, ",") + "}";
}

StudyConclusions conclude_study(const Study& study, const Grid& grid, const StudyView& view,
                                std::vector<CellRow>& cells, int draws) {
  ConcludeOptions options = conclude_options(study, grid, view, draws);
  std::vector<std::pair<size_t, CellRow>> held;
  for (const size_t i : held_out(study, view.by_hours, cells)) {
    held.emplace_back(i, cells[i]);
    cells[i] = without_results(cells[i]);
    cells[i].reason = kHeldOut;
    options.targets.push_back(cells[i]);
  }
  StudyConclusions conclusions = conclude_families(cells, options);
  for (auto& [i, row] : held) {
    row.reason = row.reason.empty() ? kHeldOut : std::string(kHeldOut) + "; " + row.reason;
    for (Conclusions& c : conclusions.families)
      for (CellRow& own : c.cells)
        if (own.cell == row.cell) own = row;
    cells[i] = std::move(row);
  }
  return conclusions;
}

uint64_t input_hash_of(const Study& study, const Grid& grid, const StudyView& view) {
  std::vector<CellRow> cells = cell_rows(study, grid, view);
  std::vector<size_t> held = held_out(study, view.by_hours, cells);
  for (auto i = held.rbegin(); i != held.rend(); ++i)
    cells.erase(cells.begin() + static_cast<ptrdiff_t>(*i));
  return hash64(csv_text(cells_table(cells)));
}

std::vector<size_t> due_targets(const Study& study, const Grid& grid, const StoreState& store,
                                uint64_t input_hash) {
  std::vector<size_t> due;
  for (size_t i = 0; i < grid.targets.size(); ++i)
    if (std::none_of(store.sealed.begin(), store.sealed.end(), [&](const SealedRecord& record) {
          const Json* input = record.prediction.find("input_hash");
          return input && *input == Json(hash_text(input_hash)) &&
                 sealed_trial(study, grid, i, record);
        }))
      due.push_back(i);
  return due;
}

std::vector<Prediction> new_predictions(const Study& study, const Grid& grid, const StudyView& view,
                                        const StoreState& store,
                                        const StudyConclusions& conclusions,
                                        const std::vector<size_t>& targets,
                                        const std::string& now) {
  std::vector<Prediction> list;
  const std::string input_hash = hash_text(input_hash_of(study, grid, view));
  for (const size_t i : targets) {
    const Cell& target = grid.targets[i];
    const FoundForecast found = forecast_of(conclusions, target.name);
    if (!found.forecast) continue;
    Prediction p = target_prediction(study, grid, view, i, found);
    p.kind = has_records(study, store, target) ? "hindsight" : "prediction";
    p.input_hash = input_hash;
    for (const SealedRecord& s : store.sealed) {
      const Json* name = s.prediction.find("target");
      p.number += name && *name == Json(target.name);
    }
    p.sealed_at = now;
    p.canonical = canonical_text(sealed_part(p));
    p.seal = sha256(p.canonical);
    list.push_back(p);
  }
  return list;
}

Json sealed_record(const Prediction& p) {
  return Json::object({{"prediction", sealed_part(p)}, {"seal", p.seal}});
}

std::vector<Prediction> sealed_predictions(const Study& study, const StoreState& store) {
  std::vector<Prediction> list;
  for (const SealedRecord& s : store.sealed) {
    Prediction p = read_sealed(s.prediction);
    p.seal = s.seal;
    p.canonical = canonical_text(s.prediction);
    p.seal_holds = sha256(p.canonical) == s.seal;
    if (s.late) p.kind = "hindsight";
    const auto result = read_result(study.out / "runs" / p.run_id);
    if (result && result->status == "done") score(p, result->loss);
    list.push_back(p);
  }
  return list;
}

std::vector<Prediction> predictions_of(const Study& study, const Grid& grid, const StudyView& view,
                                       const StoreState& store, const std::vector<CellRow>& cells,
                                       const StudyConclusions& conclusions) {
  std::vector<Prediction> list = sealed_predictions(study, store);
  const std::string input_hash = hash_text(input_hash_of(study, grid, view));
  for (size_t i = 0; i < grid.targets.size(); ++i) {
    const FoundForecast found = forecast_of(conclusions, grid.targets[i].name);
    const bool sealed = std::any_of(
        store.sealed.begin(), store.sealed.end(),
        [&](const SealedRecord& s) { return sealed_trial(study, grid, i, s).has_value(); });
    if (!found.forecast || sealed) continue;
    list.push_back(target_prediction(study, grid, view, i, found));
    list.back().kind = "projection";
    list.back().input_hash = input_hash;
  }
  for (const size_t i : held_out(study, view.by_hours, cells)) {
    const FoundForecast found = forecast_of(conclusions, cells[i].cell);
    if (!found.forecast) continue;
    Prediction p = from_forecast(*found.forecast, *found.family);
    p.kind = "hindsight";
    p.input_hash = input_hash;
    p.lr_guess = cells[i].lr_best;
    p.flops = cells[i].flops;
    if (cells[i].loss > 0) score(p, cells[i].loss);
    list.push_back(p);
  }
  return list;
}

Json predictions_json(const std::vector<Prediction>& predictions) {
  const auto maybe = [](const auto& v) { return v ? Json(*v) : Json(); };
  Json list = Json::array();
  for (const Prediction& p : predictions) {
    Json entry = sealed_part(p);
    entry.set("seal", p.seal.empty() ? Json() : Json(p.seal));
    entry.set("canonical", p.seal.empty() ? Json() : Json(p.canonical));
    entry.set("seal_holds", p.seal.empty() ? Json() : Json(p.seal_holds));
    entry.set("outcome", p.observed ? Json::object({{"loss", maybe(p.observed)},
                                                    {"error", maybe(p.error)},
                                                    {"naive_error", maybe(p.naive_error)},
                                                    {"inside50", maybe(p.inside50)},
                                                    {"inside95", maybe(p.inside95)}})
                                    : Json());
    list.push(entry);
  }
  return list;
}

std::string prediction_line(const Prediction& p) {
  std::string line = fmt::format("{}: {}, held-out loss {:.4f} [{:.4f}, {:.4f}] (95 %)", p.target,
                                 p.number > 1 ? fmt::format("{} {}", p.kind, p.number) : p.kind,
                                 p.loss, p.interval95.low, p.interval95.high);
  if (p.observed)
    line += fmt::format("; observed {:.4f}, {} it: predicted {}", *p.observed,
                        *p.inside95 ? "inside" : "outside", off_text(*p.error));
  if (p.naive_error) line += fmt::format(" (naive forecast: {})", off_text(*p.naive_error));
  if (p.seal.empty()) return line;
  return line + fmt::format("; {} {}", p.seal_holds ? "sealed" : "THE SEAL IS BROKEN:", p.seal);
}

}  // namespace nfscale
