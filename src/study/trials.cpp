#include "study/trials.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "study/plan.h"

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

SearchSettings search_settings(const Study& study, const Grid& grid) {
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
  const auto steps = [&](double lr) {
    return std::log(lr / grid.lr_start) / std::log(study.lr_factor);
  };
  if (study.lr_min) s.low = static_cast<int>(std::ceil(steps(*study.lr_min) - 1e-9));
  if (study.lr_max) s.high = static_cast<int>(std::floor(steps(*study.lr_max) + 1e-9));
  s.repeats = study.sigma ? 0 : static_cast<int>(study.repeats);
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    if (grid.cells[c].name == study.noise_cell) {
      s.noise_cell = c;
      return s;
    }
    if (grid.cells[c].flops < grid.cells[s.noise_cell].flops) s.noise_cell = c;
  }
  return s;
}

StudyView look(const Study& study, const Grid& grid, const StoreState& store,
               const std::vector<std::string>& running, ResultCache& cache) {
  const SearchSettings settings = search_settings(study, grid);
  std::vector<SearchCell> cells;
  for (const Cell& c : grid.cells)
    cells.push_back({.i = c.size_rank, .j = c.epoch_rank, .cost = c.flops});

  StudyView view;
  std::set<std::string> asked;
  std::vector<TrialView> open;
  const auto is_running = [&](const std::string& id) {
    return std::find(running.begin(), running.end(), id) != running.end();
  };
  bool hours_known = study.axis == "flops";
  for (;;) {
    view.search = search(settings, cells);
    if (!hours_known && std::all_of(view.search.cells.begin(), view.search.cells.end(),
                                    [](const CellSearch& c) { return c.searched; })) {
      // The search is through: from here on the frontier is that of the axis.
      hours_known = true;
      const std::vector<double> hours = cell_hours(grid, store, view.trials);
      if (std::none_of(hours.begin(), hours.end(), [](double h) { return std::isnan(h); })) {
        for (size_t c = 0; c < cells.size(); ++c) cells[c].cost = hours[c];
        continue;
      }
    }
    bool news = false;
    open.clear();
    for (const Wanted& w : view.search.next) {
      TrialView t;
      t.trial = make_trial(grid, w.cell, w.k, study.seed + w.repeat);
      t.why = w.why;
      t.repeat = w.repeat;
      const std::string& id = t.trial.run_id;
      if (const auto found = store.trials.find(id); found != store.trials.end())
        t.record = found->second;
      const Path folder = study.out / "runs" / id;
      if (const auto kept = cache.find(id); kept != cache.end())
        t.result = kept->second;
      else if ((t.result = read_result(folder)))
        cache[id] = *t.result;
      const bool gone = !std::filesystem::exists(folder);
      const bool failed = !t.result && t.record.final && !gone;
      t.state = t.result         ? t.result->status
                : failed         ? "failed"
                : is_running(id) ? "running"
                                 : "planned";
      if (!t.result && !failed) {
        open.push_back(t);
        continue;
      }
      news = true;
      asked.insert(id);
      SearchCell& cell = cells[w.cell];
      const double loss = failed                  ? std::nan("")
                          : t.state == "diverged" ? kDiverged
                                                  : t.result->loss;
      if (w.repeat)
        cell.repeats[{w.k, w.repeat}] = loss;
      else if (failed)
        cell.missing.insert(w.k);
      else
        cell.losses[w.k] = loss;
      view.trials.push_back(t);
    }
    if (!news) break;
  }
  for (const TrialView& t : open) asked.insert(t.trial.run_id);
  view.trials.insert(view.trials.end(), open.begin(), open.end());
  view.hours = cell_hours(grid, store, view.trials);
  view.by_hours = study.axis != "flops" && std::none_of(view.hours.begin(), view.hours.end(),
                                                        [](double h) { return std::isnan(h); });
  for (const auto& [id, record] : store.trials)
    if (!asked.contains(id)) view.other.push_back(id);
  return view;
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

double remaining_trials(const Study& study, const Grid& grid, const StudyView& view) {
  double open = 0;
  for (const TrialView& t : view.trials) open += t.state == "planned" || t.state == "running";
  for (size_t c = 0; c < grid.cells.size(); ++c)
    if (!view.search.cells[c].searched && view.search.cells[c].tried.empty()) {
      const bool wanted = std::any_of(view.search.next.begin(), view.search.next.end(),
                                      [&](const Wanted& w) { return w.cell == c && !w.repeat; });
      if (!wanted) open += std::max(1.0, std::round(expected_trials(study, grid, c) - 0.6));
    }
  return open;
}

std::optional<double> remaining_seconds(const Study& study, const Grid& grid,
                                        const StudyView& view) {
  // Wall time of a model's operation, from its own trials where there are some.
  std::map<std::string, std::pair<double, double>> spent;  // seconds, operations
  std::pair<double, double> all;
  for (const TrialView& t : view.trials) {
    if (t.state != "done" || !(t.result->wall_s > 0)) continue;
    const Cell& cell = grid.cells[t.trial.cell];
    for (auto* sum : {&spent[cell.model], &all}) {
      sum->first += t.result->wall_s;
      sum->second += cell.flops;
    }
  }
  if (all.second <= 0) return view.search.finished ? std::optional(0.0) : std::nullopt;
  const auto seconds = [&](const Cell& cell) {
    const auto& own = spent[cell.model];
    const auto& s = own.second > 0 ? own : all;
    return cell.flops * s.first / s.second;
  };
  double open = 0;
  for (const TrialView& t : view.trials)
    if (t.state == "planned" || t.state == "running") open += seconds(grid.cells[t.trial.cell]);
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const CellSearch& cell = view.search.cells[c];
    const bool wanted = std::any_of(view.search.next.begin(), view.search.next.end(),
                                    [&](const Wanted& w) { return w.cell == c && !w.repeat; });
    if (!cell.searched && !wanted)
      open += seconds(grid.cells[c]) * std::min(2.7, static_cast<double>(study.max_trials));
    else if (!cell.certified && study.certify != "none" && !view.search.finished)
      open += seconds(grid.cells[c]) * 0.5;
  }
  return open / static_cast<double>(study.slots);
}

}  // namespace nfscale
