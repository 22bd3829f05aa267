#include "study/trials.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "study/finetune.h"

namespace nfscale {
namespace {

double number_at(const Json& json, std::initializer_list<const char*> keys) {
  const Json* at = &json;
  for (const char* key : keys) {
    if (!at->is_object() || !(at = at->find(key))) return std::nan("");
  }
  return at->is_number() ? at->as_double() : std::nan("");
}

std::string text_at(const Json& json, std::initializer_list<const char*> keys) {
  const Json* at = &json;
  for (const char* key : keys) {
    if (!at->is_object() || !(at = at->find(key))) return "";
  }
  return at->is_string() ? at->as_string() : "";
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n == 0 ? std::nan("") : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

// Steps of each cell times one typical step time: that of the store, else the median of what the
// run directories say.
std::vector<double> cell_hours(const Grid& grid, const StoreState& store,
                               const std::vector<TrialView>& trials) {
  std::map<std::string, std::vector<double>> times;    // by key
  std::map<std::string, std::set<std::string>> kinds;  // keys of a model
  for (const TrialView& t : trials) {
    if (!t.result) continue;
    const Cell& cell = grid.cells[t.trial.cell];
    const auto seconds = step_seconds(*t.result);
    if (!seconds) continue;
    const std::string key = step_key(cell, t.result->device);
    times[key].push_back(*seconds);
    kinds[cell.model].insert(key);
  }
  std::vector<double> hours;
  for (const Cell& cell : grid.cells) {
    double seconds = std::nan("");
    if (const auto& keys = kinds[cell.model]; !keys.empty()) {
      const std::string& key = *keys.begin();
      const auto stored = store.step_times.find(key);
      seconds = stored != store.step_times.end() ? stored->second : median(times[key]);
    }
    hours.push_back(seconds * static_cast<double>(cell.steps) / 3600);
  }
  return hours;
}

}  // namespace

bool is_open(const TrialView& t) {
  return t.state == "planned" || t.state == "running";
}

std::optional<TrialResult> read_result(const Path& run_folder) {
  const Path file = run_folder / "result.json";
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return std::nullopt;
  Json json;
  try {
    json = parse_json(read_file(file, size_t{1} << 24), file.string());
  } catch (const Error&) {
    return std::nullopt;
  }
  TrialResult r;
  r.status = text_at(json, {"status"});
  r.loss = number_at(json, {"heldout", "loss"});
  if (r.status == "diverged")
    r.loss = std::nan("");
  else if (r.status != "done" || !std::isfinite(r.loss))
    return std::nullopt;
  r.top1 = number_at(json, {"heldout", "top1"});
  r.train_loss = number_at(json, {"train", "loss"});
  r.steps = number_at(json, {"steps"});
  r.examples = number_at(json, {"examples"});
  r.device_hours = number_at(json, {"compute", "device_hours"});
  r.wall_s = number_at(json, {"compute", "wall_s"});
  r.mfu = number_at(json, {"compute", "mfu"});
  if (const double save = number_at(json, {"compute", "save_s"}); save > 0) r.save_s = save;
  r.broken = number_at(json, {"data", "broken"});
  r.device = text_at(json, {"compute", "device"});
  r.fingerprint = text_at(json, {"data", "fingerprint"});
  r.config_hash = text_at(json, {"config_hash"});
  const Json* certificate = json.is_object() ? json.find("certificate") : nullptr;
  const Json* ok = certificate && certificate->is_object() ? certificate->find("ok") : nullptr;
  if (ok && ok->is_bool()) r.certificate_ok = ok->as_bool();
  return r;
}

std::string step_key(const Cell& cell, const std::string& device) {
  return fmt::format("{} {} {}", cell.model, cell.batch, device);
}

std::optional<double> step_seconds(const TrialResult& r) {
  if (!(r.steps > 0) || !(r.device_hours > 0)) return std::nullopt;
  return r.device_hours * 3600 / r.steps;
}

SearchSettings search_settings(const Study& study) {
  SearchSettings s;
  s.prior = study.prior == "down"   ? SearchSettings::Prior::down
            : study.prior == "none" ? SearchSettings::Prior::none
                                    : SearchSettings::Prior::soft;
  s.certify = study.certify == "all"    ? SearchSettings::Certify::all
              : study.certify == "none" ? SearchSettings::Certify::none
                                        : SearchSettings::Certify::frontier;
  const double octaves = std::log2(study.lr_factor);  // of a step
  s.tolerance = study.tolerance;
  s.curvature = study.curvature * octaves * octaves;
  s.margin = study.margin / octaves;
  s.max_trials = static_cast<int>(study.max_trials);
  s.repeats = study.sigma ? 0 : static_cast<int>(study.repeats);
  return s;
}

RateLimits rate_limits(const Study& study, const Grid& grid, const Cell& cell) {
  const auto steps = [&](double lr) {
    return std::log(lr / cell.lr_start) / std::log(grid.lr_factor);
  };
  RateLimits limits;
  if (study.lr_min) limits.low = static_cast<int>(std::ceil(steps(*study.lr_min) - 1e-9));
  if (study.lr_max) limits.high = static_cast<int>(std::floor(steps(*study.lr_max) + 1e-9));
  return limits;
}

std::vector<size_t> noise_cells(const Study& study, const Grid& grid) {
  std::vector<size_t> all;
  for (const std::vector<size_t>& family : families_of(grid)) {
    size_t noise = family[0];
    for (const size_t c : family) {
      if (grid.cells[c].name == study.noise_cell) {
        noise = c;
        break;
      }
      if (grid.cells[c].flops < grid.cells[noise].flops) noise = c;
    }
    all.push_back(noise);
  }
  return all;
}

std::optional<Trial> sealed_trial(const Study& study, const Grid& grid, size_t target,
                                  const SealedRecord& record) {
  const double lr = number_at(record.prediction, {"lr_guess"});
  if (text_at(record.prediction, {"target"}) != grid.targets[target].name || !(lr > 0))
    return std::nullopt;
  const double k = std::log(lr / grid.targets[target].lr_start) / std::log(grid.lr_factor);
  if (!(std::abs(k) < 1000)) return std::nullopt;
  Trial trial =
      make_trial(grid, grid.cells.size() + target, static_cast<int>(std::lround(k)), study.seed);
  if (trial.config_hash != text_at(record.prediction, {"config_hash"})) return std::nullopt;
  return trial;
}

std::vector<const TrialView*> all_trials(const StudyView& view) {
  std::vector<const TrialView*> all;
  for (const auto* list : {&view.trials, &view.targets, &view.finetunings})
    for (const TrialView& t : *list) all.push_back(&t);
  return all;
}

std::string use_of(const StudyView& view, const TrialView& t) {
  if (!t.trial.init.empty()) return "fine-tuning";
  if (t.trial.cell >= view.search.cells.size()) return "target";
  return t.repeat ? "noise" : "used";
}

bool complete(const StudyView& view) {
  return view.search.finished && !view.candidates_due &&
         std::none_of(view.targets.begin(), view.targets.end(), is_open) &&
         std::none_of(view.finetunings.begin(), view.finetunings.end(), is_open);
}

namespace {

// Looks at one trial after the other.
struct Looker {
  const Study& study;
  const StoreState& store;
  const std::set<std::string> running;
  ResultCache& cache;

  TrialView see(Trial trial, std::string why, int repeat) const {
    TrialView t;
    t.trial = std::move(trial);
    t.why = std::move(why);
    t.repeat = repeat;
    const std::string& id = t.trial.run_id;
    if (const auto found = store.trials.find(id); found != store.trials.end())
      t.record = found->second;
    const Path folder = study.out / "runs" / id;
    if (const auto kept = cache.results.find(id); kept != cache.results.end())
      t.result = kept->second;
    else if ((t.result = read_result(folder)))
      cache.results[id] = own(t.trial, folder, *t.result);
    std::error_code error;
    const bool failed = !t.result && t.record.final && std::filesystem::exists(folder, error);
    t.state = t.result               ? t.result->status
              : failed               ? "failed"
              : running.contains(id) ? "running"
                                     : "planned";
    return t;
  }

  // The id of a run names one configuration; a result of another one must not count.
  static const TrialResult& own(const Trial& trial, const Path& folder, const TrialResult& result) {
    if (trial.init.empty() && !result.config_hash.empty() &&
        result.config_hash != trial.config_hash)
      fail(Exit::damaged,
           "{}: it is of the configuration {}, the trial has {}; move the folder away, and the "
           "study trains it again",
           (folder / "result.json").string(), printable(result.config_hash), trial.config_hash);
    return result;
  }

  TrialView see(const Grid& grid, const Wanted& w) const {
    Trial& trial = cache.trials[{w.cell, w.k, w.repeat}];
    if (trial.run_id.empty()) trial = make_trial(grid, w.cell, w.k, study.seed + w.repeat);
    return see(trial, w.why, w.repeat);
  }

  // Of each target the trial of its last prediction for today's recipe.
  std::vector<TrialView> targets(const Grid& grid) const {
    std::vector<TrialView> views;
    for (size_t i = 0; i < grid.targets.size(); ++i)
      for (auto record = store.sealed.rbegin(); record != store.sealed.rend(); ++record)
        if (auto trial = sealed_trial(study, grid, i, *record)) {
          views.push_back(see(std::move(*trial), "the target of a sealed prediction", 0));
          break;
        }
    return views;
  }

  // Of the candidates that the records name, as far as this study has trained them.
  std::vector<TrialView> finetunings(const Grid& grid, const std::vector<TrialView>& trials) const {
    std::vector<TrialView> views;
    if (!store.candidates.is_array()) return views;
    for (size_t r = 0; r < grid.recipes.size(); ++r)
      for (const Json& candidate : store.candidates.items())
        for (const TrialView& t : trials)
          if (t.state == "done" && t.trial.run_id == text_at(candidate, {"run_id"}))
            views.push_back(see(finetuning_of(grid, t.trial, r), text_at(candidate, {"why"}), 0));
    return views;
  }
};

// What the search gets to know of a trial that has ended.
void tell(const Wanted& wanted, const TrialView& t, SearchCell& cell) {
  const bool failed = t.state == "failed";
  const double loss = failed ? std::nan("") : t.state == "diverged" ? kDiverged : t.result->loss;
  if (wanted.repeat)
    cell.repeats[{wanted.k, wanted.repeat}] = loss;
  else if (failed) {
    cell.missing.insert(wanted.k);
    ++cell.failed;
  } else
    cell.losses[wanted.k] = loss;
}

std::vector<SearchCell> search_cells(const Study& study, const Grid& grid) {
  std::vector<SearchCell> cells;
  for (const Cell& c : grid.cells) {
    const RateLimits limits = rate_limits(study, grid, c);
    cells.push_back({.i = c.size_rank,
                     .j = c.epoch_rank,
                     .cost = c.flops,
                     .low = limits.low,
                     .high = limits.high});
  }
  const auto families = families_of(grid);
  for (size_t f = 0; f < families.size(); ++f)
    for (const size_t c : families[f]) cells[c].family = f;
  for (const size_t c : noise_cells(study, grid)) cells[c].noise = true;
  return cells;
}

bool all_known(const std::vector<double>& hours) {
  return std::none_of(hours.begin(), hours.end(), [](double h) { return std::isnan(h); });
}

bool all_searched(const SearchResult& search) {
  return std::all_of(search.cells.begin(), search.cells.end(),
                     [](const CellSearch& c) { return c.searched; });
}

}  // namespace

StudyView look(const Study& study, const Grid& grid, const StoreState& store,
               const std::vector<std::string>& running, ResultCache& cache) {
  const SearchSettings settings = search_settings(study);
  std::vector<SearchCell> cells = search_cells(study, grid);
  const Looker looker = {study, store, {running.begin(), running.end()}, cache};

  StudyView view;
  const Learn learn = [&](const Wanted& w) {
    TrialView t = looker.see(grid, w);
    if (!t.result && t.state != "failed") return false;
    tell(w, t, cells[w.cell]);
    view.trials.push_back(std::move(t));
    return true;
  };
  SearchSettings now = settings;
  if (study.axis != "flops") {
    // The frontier is that of the axis, which is known once the search of all cells is through.
    SearchSettings uncertified = settings;
    uncertified.certify = SearchSettings::Certify::none;
    if (all_searched(search(uncertified, cells, learn))) {
      const std::vector<double> hours = cell_hours(grid, store, view.trials);
      for (size_t c = 0; c < cells.size() && all_known(hours); ++c) cells[c].cost = hours[c];
    } else {
      now = uncertified;
    }
  }
  view.search = search(now, cells, learn);
  for (const Wanted& w : view.search.next) view.trials.push_back(looker.see(grid, w));
  view.hours = cell_hours(grid, store, view.trials);
  view.by_hours = study.axis != "flops" && all_known(view.hours);
  view.targets = looker.targets(grid);
  view.finetunings = looker.finetunings(grid, view.trials);
  view.candidates_due = !grid.recipes.empty() && store.candidates.is_null();
  std::set<std::string> asked;
  for (const TrialView* t : all_trials(view)) asked.insert(t->trial.run_id);
  for (const auto& [id, record] : store.trials)
    if (!asked.contains(id)) view.other.push_back(id);
  return view;
}

double hours_of(const Grid& grid, const StudyView& view, const Cell& cell) {
  const auto measured = [&](const Cell& c) {
    const auto found = view.measured_steps.find(c.model);
    return found == view.measured_steps.end() ? std::nan("")
                                              : found->second * static_cast<double>(c.steps) / 3600;
  };
  double least = INFINITY, hours = std::nan("");
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const Cell& known = grid.cells[c];
    const double own = std::isnan(view.hours[c]) ? measured(known) : view.hours[c];
    if (known.family != cell.family || std::isnan(own)) continue;
    const double distance =
        std::abs(std::log(static_cast<double>(known.macs) / static_cast<double>(cell.macs)));
    if (!(distance < least)) continue;
    least = distance;
    hours = own * cell.flops / known.flops;
  }
  const double own = measured(cell);
  return least > 0 && !std::isnan(own) ? own : hours;
}

double evaluation_flops(const Grid& grid, const Cell& cell) {
  return 2 * static_cast<double>(cell.macs) * static_cast<double>(grid.data.heldout_examples);
}

std::optional<double> device_speed(const Grid& grid, const StudyView& view) {
  double flops = 0, seconds = 0;
  for (const TrialView& t : view.trials) {
    if (t.state != "done") continue;
    const auto step = step_seconds(*t.result);
    if (!step) continue;
    flops += grid.cells[t.trial.cell].flops;
    seconds += *step * static_cast<double>(grid.cells[t.trial.cell].steps);
  }
  if (seconds <= 0) return std::nullopt;
  return flops / seconds;
}

}  // namespace nfscale
