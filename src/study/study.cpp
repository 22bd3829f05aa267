#include "study/study.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "arch/cost.h"
#include "base/files.h"
#include "base/text.h"
#include "base/toml.h"
#include "config/load.h"
#include "config/sam.h"
#include "study/finetune.h"

namespace nfscale {
namespace {

// ---- keys: one list from which reading and the resolved file follow

Duration read_epochs(const Json& j) {
  Duration d = {0, Duration::Unit::epochs};
  if (j.is_number())
    d.value = j.as_double();
  else
    d = parse_duration(j.as_string());
  if (!(d.value > 0) || d.unit == Duration::Unit::seconds || d.unit == Duration::Unit::percent)
    fail(Exit::usage, "expected epochs such as 0.5, or a duration in ep, st or ex, found {}",
         j.dump());
  return d;
}

template <class T>
void read(const Json& j, T& field, const Allowed& allowed) {
  if constexpr (std::is_same_v<T, Path>) {
    field = j.as_string();
  } else if constexpr (std::is_same_v<T, std::vector<Duration>>) {
    field.clear();
    for (const Json& item : j.items()) field.push_back(read_epochs(item));
  } else {
    read_value(j, field, allowed);
  }
}

template <class T>
Json write(const T& field) {
  if constexpr (std::is_same_v<T, Path>) {
    return field.string();
  } else if constexpr (std::is_same_v<T, std::vector<Duration>>) {
    Json list = Json::array();
    for (const Duration& d : field)
      list.push(d.unit == Duration::Unit::epochs ? Json(d.value) : Json(duration_key_text(d)));
    return list;
  } else {
    return to_json(field);
  }
}

struct Key {
  std::string name;
  std::function<void(const Json&)> read;
  std::function<Json()> write;
  bool built = true;
};

// Spans of time: seconds in the study, "10min" in the file.
template <class T>
Key time_key(const char* name, T& seconds) {
  return {name,
          [&seconds](const Json& j) {
            const Duration d = parse_duration(j.as_string());
            if (d.unit != Duration::Unit::seconds || !(d.value > 0))
              fail(Exit::usage, "expected a time such as \"10min\", found {}", j.dump());
            seconds = d.value;
          },
          [&seconds]() -> Json {
            if constexpr (IsOptional<T>::value) {
              return seconds ? Json(number_text(*seconds) + "s") : Json();
            } else {
              return Json(number_text(seconds) + "s");
            }
          }};
}

std::vector<Key> keys_of(Study& s) {
  std::vector<Key> keys;
  const auto key = [&](const char* name, auto& field, Allowed allowed = {}, bool built = true) {
    keys.push_back({name, [&field, allowed](const Json& j) { read(j, field, allowed); },
                    [&field] { return write(field); }, built});
  };
  const Allowed any, positive = {.low = 0, .above_low = true};
  key("study.name", s.name);
  key("study.question", s.question);
  key("study.base", s.base);
  key("study.seed", s.seed, between(0, 9.0e18));
  key("study.out", s.out);
  key("grid.models", s.models);
  key("grid.epochs", s.epochs);
  key("grid.skip", s.skip);
  key("lr.start", s.lr_start, positive);
  key("lr.factor", s.lr_factor, {.low = 1, .high = 100, .above_low = true});
  key("lr.min", s.lr_min, positive);
  key("lr.max", s.lr_max, positive);
  key("lr.prior", s.prior, one_of({"soft", "down", "none"}));
  key("lr.certify", s.certify, one_of({"frontier", "all", "none"}));
  key("lr.tolerance", s.tolerance, between(0, 1));
  key("lr.curvature", s.curvature, positive);
  key("lr.margin", s.margin, between(0, 10));
  key("lr.max_trials", s.max_trials, between(1, 100));
  key("lr.refine", s.refine, any, false);
  key("noise.repeats", s.repeats, between(0, 1000));
  key("noise.cell", s.noise_cell);
  key("noise.sigma", s.sigma, positive);
  key("budget.device_hours", s.budget_hours, positive);
  keys.push_back(time_key("budget.wall", s.budget_wall));
  key("budget.trials", s.budget_trials, at_least(1));
  key("compute.axis", s.axis, one_of({"device_hours", "flops"}));
  key("predict.targets", s.targets);
  key("predict.hold_out", s.hold_out, between(0, 0.99));
  key("fit.laws", s.laws);
  key("fit.bootstrap", s.bootstrap, between(0, 100000));
  key("fit.huber", s.huber, positive);
  key("fit.drop_flagged", s.drop_flagged);
  key("finetune.config", s.recipes);
  key("finetune.candidates", s.candidates, between(1, 3));
  key("finetune.budget", s.finetune_budget, positive);
  key("executor.kind", s.executor, one_of({"local", "slurm", "command"}));
  key("executor.slots", s.slots, between(1, 10000));
  key("executor.retries", s.retries, between(0, 1000));
  keys.push_back(time_key("executor.lease", s.lease));
  key("executor.slurm.args", s.slurm_args);
  key("executor.slurm.setup", s.slurm_setup);
  key("executor.slurm.array", s.slurm_array);
  key("executor.command.submit", s.command_submit);
  key("executor.command.status", s.command_status);
  key("executor.command.cancel", s.command_cancel);
  return keys;
}

// What belongs to the cell or the study, not to a model.
const std::set<std::string> kNotInSet = {"train.duration", "train.seed", "data.train",
                                         "data.heldout", "data.augment.repeat"};

void read_set(const TomlEntry& entry, Study& study) {
  if (entry.value.is_null()) return;  // the table itself
  const std::vector<std::string> rest(entry.path.begin() + 3, entry.path.end());
  const std::string key = join(rest, "."), &models = entry.path[2];
  Config scratch;
  set_key(scratch, key, entry.value, entry.where());
  if (kNotInSet.contains(key))
    fail(Exit::usage, "{}: grid.set.\"{}\": {} is the study's, not a model's", entry.where(),
         printable(models), key);
  auto same = std::find_if(study.set.begin(), study.set.end(),
                           [&](const auto& set) { return set.first == models; });
  if (same == study.set.end()) same = study.set.insert(same, {models, {}});
  same->second.push_back(key + "=" + toml_text(entry.value));
}

bool safe_label(const std::string& label) {
  return !label.empty() && label[0] != '.' && label[0] != '-' &&
         label.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
             "_.+-") == std::string::npos;
}

// The option of sbatch by which jobs are found, ended and started again that `arg` would change;
// long ones may be shortened.
std::optional<std::string> own_option_of_slurm(const std::string& arg) {
  constexpr std::pair<char, std::string_view> own[] = {
      {'J', "--job-name"}, {'a', "--array"},    {'M', "--clusters"}, {'o', "--output"},
      {'D', "--chdir"},    {'W', "--wait"},     {0, "--signal"},     {0, "--wrap"},
      {0, "--requeue"},    {0, "--no-requeue"}, {0, "--open-mode"},  {0, "--parsable"},
      {0, "--test-only"}};
  const std::string name = arg.substr(0, arg.find('='));
  for (const auto& [letter, option] : own) {
    const bool is_short = arg.size() > 1 && arg[0] == '-' && arg[1] != '-' && arg[1] == letter;
    if (is_short || (name.size() > 3 && name.starts_with("--") && option.starts_with(name)))
      return std::string(option);
  }
  return std::nullopt;
}

void check_study(const Study& s, const std::map<std::string, std::string>& where) {
  const std::string file = s.file.string();
  const auto at = [&](const char* key) {
    const auto found = where.find(key);
    return found == where.end() ? file : found->second;
  };
  for (const char* key : {"study.name", "study.base", "grid.models", "grid.epochs"})
    if (!where.contains(key)) fail(Exit::usage, "{}: {} is missing", file, key);
  if (!safe_label(s.name))
    fail(Exit::usage, "{}: study.name: expected letters, digits and _ . + -, found \"{}\"",
         at("study.name"), printable(s.name));
  if (s.executor == "command")
    for (const char* key : {"executor.command.submit", "executor.command.status"})
      if (!where.contains(key))
        fail(Exit::usage, "{}: {} is missing: executor.kind = \"command\" needs it",
             at("executor.kind"), key);
  for (const std::string& arg : s.slurm_args)
    if (const auto option = own_option_of_slurm(arg))
      fail(Exit::usage, "{}: executor.slurm.args: {} is set by nfscale itself; leave out \"{}\"",
           at("executor.slurm.args"), *option, printable(arg));
  if (s.models.empty()) fail(Exit::usage, "{}: grid.models: no model", at("grid.models"));
  if (s.epochs.empty()) fail(Exit::usage, "{}: grid.epochs: no budget", at("grid.epochs"));
  for (const std::string& model : s.models) {
    if (!safe_label(model))
      fail(Exit::usage, "{}: grid.models: expected letters, digits and _ . + -, found \"{}\"",
           at("grid.models"), printable(model));
    if (std::count(s.models.begin(), s.models.end(), model) > 1)
      fail(Exit::usage, "{}: grid.models: {} comes twice", at("grid.models"), model);
  }
  std::vector<std::string> models = s.models;
  for (const std::string& target : s.targets) {
    models.push_back(target.substr(0, target.rfind('@')));
    if (!safe_label(models.back()))
      fail(Exit::usage, "{}: predict.targets: expected \"MODEL@EPOCHS\", found \"{}\"",
           at("predict.targets"), printable(target));
  }
  for (const std::string& law : s.laws)
    if (law != "power" && law != "power+floor")
      fail(Exit::usage, "{}: fit.laws: expected \"power\" or \"power+floor\", found \"{}\"",
           at("fit.laws"), printable(law));
  for (const auto& [pattern, settings] : s.set)
    if (std::none_of(models.begin(), models.end(),
                     [&, pattern = pattern](const auto& m) { return glob_matches(pattern, m); }))
      fail(Exit::usage, "{}: grid.set.\"{}\" matches nothing in grid.models (nearest: {})", file,
           printable(pattern), nearest(pattern, models));
  if (s.lr_min && s.lr_max && *s.lr_min > *s.lr_max)
    fail(Exit::usage, "{}: lr.min: {} is more than lr.max = {}", at("lr.min"),
         number_text(*s.lr_min), number_text(*s.lr_max));
}

std::string cell_name(const std::string& model, double epochs) {
  return fmt::format("{}@{:g}ep", model, epochs);
}

// "MODEL@EPOCHS", also with "ep" behind.
std::pair<std::string, double> named_cell(const Study& study, const char* key,
                                          const std::string& entry) {
  const size_t at = entry.rfind('@');
  if (at != std::string::npos && at > 0) {
    std::string number = entry.substr(at + 1);
    if (number.ends_with("ep")) number.resize(number.size() - 2);
    const auto epochs = parse_double(number);
    if (epochs && *epochs > 0 && std::isfinite(*epochs)) return {entry.substr(0, at), *epochs};
  }
  fail(Exit::usage, "{}: {}: expected \"MODEL@EPOCHS\", found \"{}\"", study.file.string(), key,
       printable(entry));
}

}  // namespace

Study load_study(const Path& file, const std::optional<Path>& out) {
  Study study, defaults;
  study.file = file;
  std::vector<Key> keys = keys_of(study);
  const std::vector<Key> default_keys = keys_of(defaults);
  std::vector<std::string> names;
  std::set<std::string> tables = {"grid.set"};
  for (const Key& key : keys) {
    names.push_back(key.name);
    for (size_t dot = key.name.find('.'); dot != std::string::npos;
         dot = key.name.find('.', dot + 1))
      tables.insert(key.name.substr(0, dot));
  }
  std::map<std::string, std::string> where;
  for (const TomlEntry& entry : read_toml(file)) {
    if (entry.path.size() > 2 && entry.path[0] == "grid" && entry.path[1] == "set") {
      if (entry.path.size() == 3 && !entry.value.is_null())
        fail(Exit::usage, "{}: expected a table [grid.set.\"MODEL\"] with keys of a configuration",
             entry.where());
      if (entry.path.size() > 3) read_set(entry, study);
      continue;
    }
    if (entry.value.is_null() && tables.contains(entry.key())) continue;
    const auto found = std::find(names.begin(), names.end(), entry.key());
    if (found == names.end())
      fail(Exit::usage, "{}: {} is not a key (nearest: {})", entry.where(), printable(entry.key()),
           nearest(entry.key(), names));
    const auto i = static_cast<size_t>(found - names.begin());
    try {
      keys[i].read(entry.value);
    } catch (const Error& e) {
      fail(Exit::usage, "{}: {}: {}", entry.where(), entry.key(), e.what());
    }
    if (!keys[i].built && !(keys[i].write() == default_keys[i].write()))
      fail(Exit::usage, "{}: {} = {} is not supported yet", entry.where(), entry.key(),
           toml_text(keys[i].write()));
    where[entry.key()] = entry.where();
  }
  check_study(study, where);
  if (study.base.is_relative()) study.base = file.parent_path() / study.base;
  for (std::string& recipe : study.recipes) {
    if (Path(recipe).is_relative()) recipe = file.parent_path() / recipe;
    if (!is_there(recipe))
      fail(Exit::usage, "{}: finetune.config: {}: no such file", where["finetune.config"],
           printable(recipe));
  }
  if (out) study.out = *out;
  if (study.out.empty()) study.out = Path("studies") / study.name;
  return study;
}

std::string study_toml(const Study& study) {
  Study copy = study;
  copy.base = std::filesystem::absolute(study.base).lexically_normal();
  for (std::string& recipe : copy.recipes)
    recipe = std::filesystem::absolute(recipe).lexically_normal();
  copy.out = std::filesystem::absolute(study.out).lexically_normal();
  std::string text, table;
  for (const Key& key : keys_of(copy)) {
    const Json value = key.write();
    if (value.is_null() || !key.built) continue;
    const size_t dot = key.name.rfind('.');
    if (key.name.substr(0, dot) != table) {
      table = key.name.substr(0, dot);
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", table);
    }
    text += fmt::format("{} = {}\n", key.name.substr(dot + 1), toml_text(value));
  }
  for (const auto& [models, settings] : study.set) {
    text += fmt::format("\n[grid.set.{}]\n", Json(models).dump());
    for (const std::string& setting : settings) {
      const size_t at = setting.find('=');
      text += fmt::format("{} = {}\n", setting.substr(0, at), setting.substr(at + 1));
    }
  }
  return text;
}

std::vector<std::string> trial_settings(const Grid& grid, const Cell& cell, double lr,
                                        int64_t seed) {
  std::vector<std::string> settings = {
      "model.name=" + cell.model, "train.duration=" + number_text(cell.epochs) + "ep",
      "optim.lr=" + number_text(lr), fmt::format("train.seed={}", seed)};
  if (const auto found = grid.set.find(cell.model); found != grid.set.end())
    settings.insert(settings.end(), found->second.begin(), found->second.end());
  return settings;
}

std::string run_id(const Cell& cell, double lr, int64_t seed, const std::string& hash) {
  return fmt::format("{}-{:g}ep-lr{:g}-s{}-{}", cell.model, cell.epochs, lr, seed,
                     hash.substr(0, 8));
}

const Cell& cell_at(const Grid& grid, size_t place) {
  return place < grid.cells.size() ? grid.cells[place] : grid.targets[place - grid.cells.size()];
}

double rate_at(const Grid& grid, const Cell& cell, double k) {
  return cell.lr_start * std::pow(grid.lr_factor, k);
}

std::vector<std::vector<size_t>> families_of(const Grid& grid) {
  std::vector<std::vector<size_t>> families;
  for (size_t c = 0; c < grid.cells.size(); ++c) {
    const auto same = std::find_if(families.begin(), families.end(), [&](const auto& cells) {
      return grid.cells[cells[0]].family == grid.cells[c].family;
    });
    if (same == families.end())
      families.push_back({c});
    else
      same->push_back(c);
  }
  return families;
}

Trial make_trial(const Grid& grid, size_t cell, int lr_index, int64_t seed) {
  Trial trial = {.cell = cell, .lr_index = lr_index, .seed = seed};
  const Cell& c = cell_at(grid, cell);
  trial.lr = rate_at(grid, c, lr_index);
  // As by trial_settings; text would be parsed once for every trial.
  Config config = grid.configs.at(c.model);
  config.train.duration = {c.epochs, Duration::Unit::epochs};
  config.optim.lr = trial.lr;
  config.train.seed = seed;
  resolve(config);
  trial.config_hash =
      config_hash(config, grid.data.train_fingerprint, grid.data.heldout_fingerprint);
  trial.run_id = run_id(c, trial.lr, seed, trial.config_hash);
  return trial;
}

namespace {

void check_base(const Study& study, const Grid& grid) {
  if (grid.base.data.heldout.empty() || grid.data.heldout_examples == 0)
    fail(Exit::usage,
         "{}: data.heldout: a study needs a held-out set (one folder can be divided by "
         "?split=train&share=0.05 and ?split=heldout&share=0.05)",
         study.base.string());
}

// What all cells of a model have in common.
struct Counts {
  Config config;  // resolved
  std::string family;
  double lr_start = 0;
  int64_t params = 0, macs = 0, memory_bytes = 0;
};

// The settings of a model into grid.set, and the rate that its search starts with: that of its own
// settings, of the study, of the base; nothing where none of them gives one.
std::optional<double> take_settings(const Study& study, const std::string& model, Grid& grid) {
  std::optional<double> start = study.lr_start ? study.lr_start : grid.base.optim.lr;
  std::vector<std::string> own;
  for (const auto& [pattern, settings] : study.set) {
    if (!glob_matches(pattern, model)) continue;
    for (const std::string& setting : settings) {
      if (setting.starts_with("optim.lr="))
        start = parse_double(setting.substr(setting.find('=') + 1));
      else
        own.push_back(setting);
    }
  }
  grid.set[model] = own;
  return start;
}

// `key` names the list that the model comes from.
Counts count_model(const Study& study, const char* key, const std::string& model, Grid& grid) {
  Counts counts;
  try {
    const std::optional<double> start = take_settings(study, model, grid);
    Config& config = grid.configs[model];
    config = grid.base;
    config.model.name = model;
    config.optim.lr = start;
    for (const std::string& setting : grid.set[model]) {
      const size_t at = setting.find('=');
      set_key(config, setting.substr(0, at), parse_toml_value(setting.substr(at + 1)), "grid.set");
    }
    counts.config = config;
    resolve(counts.config);
    counts.lr_start = *counts.config.optim.lr;
    if ((study.lr_min && counts.lr_start < *study.lr_min) ||
        (study.lr_max && counts.lr_start > *study.lr_max))
      fail(Exit::usage, "the learning rate {} to start with lies outside lr.min and lr.max",
           number_text(counts.lr_start));
    const int64_t side = counts.config.train.image_size;
    const Arch arch = make_arch(config.model, grid.data.classes, sides_of(side));
    counts.family = arch.family;
    counts.params = arch.param_count();
    counts.macs = arch.macs(side, side);
    counts.memory_bytes = arch.training_bytes(counts.config.train.batch, side);
  } catch (const Error& e) {
    if (e.code != Exit::usage) throw;
    fail(Exit::usage, "{}: {}: {}: {}", study.file.string(), key, model, e.what());
  }
  return counts;
}

Cell make_cell(const Study& study, const Grid& grid, const std::string& model, const Counts& counts,
               const Duration& duration) {
  const Config& config = counts.config;
  Horizon horizon = {
      .examples = grid.data.examples * static_cast<uint64_t>(config.data.augment.repeat),
      .batch = static_cast<uint64_t>(config.train.batch)};
  if (horizon.examples < 2 * horizon.batch)
    fail(Exit::usage, "{}: data.train: {} examples are fewer than two batches of {}",
         study.base.string(), horizon.examples, horizon.batch);
  Cell cell = {.model = model};
  cell.images = total_slots(duration, horizon);
  cell.epochs = duration.unit == Duration::Unit::epochs
                    ? duration.value
                    : static_cast<double>(cell.images) / static_cast<double>(horizon.examples);
  cell.name = cell_name(model, cell.epochs);
  cell.family = counts.family;
  cell.lr_start = counts.lr_start;
  cell.batch = config.train.batch;
  cell.params = counts.params;
  cell.macs = counts.macs;
  cell.memory_bytes = counts.memory_bytes;
  horizon.total_slots = cell.images;
  cell.steps = steps_of(horizon);
  cell.flops = training_flops(cell.macs, static_cast<double>(cell.images),
                              ascent_share(config.optim, config.train.batch));
  const double warmup = in_steps(config.schedule.warmup, horizon);
  if (warmup > 0 && warmup >= static_cast<double>(cell.steps))
    fail(Exit::usage, "{}: schedule.warmup: {} steps are not shorter than the {} steps of {}",
         study.base.string(), number_text(warmup), cell.steps, cell.name);
  return cell;
}

void add_targets(const Study& study, Grid& grid) {
  std::set<std::string> names;
  for (const std::string& entry : study.targets) {
    const auto [model, epochs] = named_cell(study, "predict.targets", entry);
    const Counts counts = count_model(study, "predict.targets", model, grid);
    grid.targets.push_back(make_cell(study, grid, model, counts, {epochs, Duration::Unit::epochs}));
    if (!names.insert(grid.targets.back().name).second)
      fail(Exit::usage, "{}: predict.targets: {} comes twice", study.file.string(), entry);
  }
}

// The search compares places on the grid of rates, so a family has one.
void check_starts(const Study& study, const Grid& grid) {
  std::map<std::string, const Cell*> first;  // by family
  for (const auto* cells : {&grid.cells, &grid.targets})
    for (const Cell& cell : *cells) {
      const Cell& other = *first.try_emplace(cell.family, &cell).first->second;
      if (cell.lr_start != other.lr_start)
        fail(Exit::usage,
             "{}: grid.set: {} starts at optim.lr = {}, {} at {}; models of one family "
             "start at the same rate",
             study.file.string(), cell.model, number_text(cell.lr_start), other.model,
             number_text(other.lr_start));
    }
}

// Models times budgets, without what is skipped and without the targets.
void add_cells(const Study& study, Grid& grid) {
  const std::string file = study.file.string();
  std::set<std::string> skipped, names, not_found;
  for (const std::string& entry : study.skip) {
    const auto [model, epochs] = named_cell(study, "grid.skip", entry);
    skipped.insert(cell_name(model, epochs));
  }
  not_found = skipped;
  for (const Cell& target : grid.targets) skipped.insert(target.name);
  for (const std::string& model : study.models) {
    const Counts counts = count_model(study, "grid.models", model, grid);
    for (const Duration& duration : study.epochs) {
      const Cell cell = make_cell(study, grid, model, counts, duration);
      not_found.erase(cell.name);
      if (skipped.contains(cell.name)) continue;
      if (!names.insert(cell.name).second)
        fail(Exit::usage, "{}: grid.epochs: {} comes twice", file, cell.name);
      grid.cells.push_back(cell);
    }
  }
  if (!not_found.empty())
    fail(Exit::usage, "{}: grid.skip: {} is not a cell of the grid", file, *not_found.begin());
  if (grid.cells.empty()) fail(Exit::usage, "{}: grid.skip: no cell is left", file);
  if (study.noise_cell != "cheapest" && !names.contains(study.noise_cell))
    fail(Exit::usage, "{}: noise.cell: {} is not a cell of the grid (nearest: {})", file,
         study.noise_cell,
         nearest(study.noise_cell, std::vector<std::string>(names.begin(), names.end())));
}

// Ranks within a family: sizes by multiply-adds, budgets by epochs; and the order of the search.
void rank_cells(Grid& grid) {
  const auto unique = [](auto& list) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  };
  for (const std::vector<size_t>& family : families_of(grid)) {
    std::vector<std::pair<int64_t, std::string>> sizes;
    std::vector<double> budgets;
    for (const size_t i : family) {
      sizes.emplace_back(grid.cells[i].macs, grid.cells[i].model);
      budgets.push_back(grid.cells[i].epochs);
    }
    unique(sizes);
    unique(budgets);
    for (const size_t i : family) {
      Cell& c = grid.cells[i];
      const auto size = std::lower_bound(sizes.begin(), sizes.end(), std::pair(c.macs, c.model));
      const auto budget = std::lower_bound(budgets.begin(), budgets.end(), c.epochs);
      c.size_rank = static_cast<int>(size - sizes.begin());
      c.epoch_rank = static_cast<int>(budget - budgets.begin());
    }
  }
  std::stable_sort(grid.cells.begin(), grid.cells.end(), [](const Cell& a, const Cell& b) {
    const int wave_a = a.size_rank + a.epoch_rank, wave_b = b.size_rank + b.epoch_rank;
    return wave_a != wave_b ? wave_a < wave_b : a.flops < b.flops;
  });
}

}  // namespace

Grid make_grid(const Study& study, const StudyData& data) {
  Grid grid;
  grid.base = load_config(study.base, {}).config;
  grid.data = data;
  grid.lr_factor = study.lr_factor;
  check_base(study, grid);
  add_targets(study, grid);
  add_cells(study, grid);
  check_starts(study, grid);
  rank_cells(grid);
  grid.recipes = read_recipes(study, grid);
  return grid;
}

}  // namespace nfscale
