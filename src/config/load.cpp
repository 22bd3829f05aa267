#include "config/load.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <type_traits>

#include "base/files.h"
#include "base/hash.h"
#include "base/text.h"
#include "config/keys.h"

namespace nfscale {
namespace {

// Keys and tables of the contract that nothing reads yet.
const std::vector<std::string> kPlanned = {"model.patch",
                                           "model.mlp",
                                           "model.heads",
                                           "model.pool",
                                           "model.pool_norm",
                                           "model.class_position",
                                           "model.head_bias",
                                           "data.cache",
                                           "data.cache_bytes",
                                           "data.read_deadline",
                                           "data.max_rate",
                                           "data.augment.mix_partner",
                                           "data.augment.augment_order",
                                           "data.augment.contrast",
                                           "data.augment.resize"};

std::string last_part(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

[[noreturn]] void unknown_key(const std::string& key, const std::string& where) {
  if (std::find(kPlanned.begin(), kPlanned.end(), key) != kPlanned.end())
    fail(Exit::usage, "{}: {} is not supported yet", where, key);
  const std::vector<std::string> keys = config_keys();
  // The same name in another table is a better guess than a similar text.
  std::string near;
  for (const std::string& k : keys)
    if (near.empty() && last_part(k) == last_part(key)) near = k;
  if (near.empty()) near = nearest(key, keys);
  fail(Exit::usage, "{}: {} is not a key (nearest: {})", where, key, near);
}

bool is_table(const std::string& name) {
  const std::vector<std::string> keys = config_keys();
  return std::any_of(keys.begin(), keys.end(),
                     [&](const std::string& k) { return k.starts_with(name + "."); });
}

[[noreturn]] void unknown_table(const std::string& name, const std::string& where) {
  std::vector<std::string> tables;
  for (const std::string& key : config_keys()) {
    const std::string table = key.substr(0, key.rfind('.'));
    if (tables.empty() || tables.back() != table) tables.push_back(table);
  }
  fail(Exit::usage, "{}: [{}] is not a table (nearest: [{}])", where, name, nearest(name, tables));
}

void apply_file(const Path& file, LoadedConfig& loaded, std::vector<Path>& chain) {
  std::error_code no_such_place;  // a pipe of the shell has no path of its own
  Path canonical = std::filesystem::weakly_canonical(file, no_such_place);
  if (no_such_place) canonical = std::filesystem::absolute(file);
  if (std::find(chain.begin(), chain.end(), canonical) != chain.end())
    fail(Exit::usage, "{}: base leads back to {}: a configuration cannot be its own base",
         chain.back().string(), file.string());
  chain.push_back(canonical);
  const std::vector<TomlEntry> entries = read_toml(file);
  for (const TomlEntry& e : entries) {
    if (e.key() != "base") continue;
    if (!e.value.is_string()) fail(Exit::usage, "{}: base: expected a file name", e.where());
    const Path base = file.parent_path() / e.value.as_string();
    if (!is_there(base)) fail(Exit::usage, "{}: base: no such file: {}", e.where(), base.string());
    apply_file(base, loaded, chain);
  }
  for (const TomlEntry& e : entries) {
    if (e.key() == "base") continue;
    if (e.value.is_null()) {
      if (!is_table(e.key())) unknown_table(e.key(), e.where());
      continue;
    }
    set_key(loaded.config, e.key(), e.value, e.where());
    loaded.origins.of[e.key()] = e.where();
  }
  chain.pop_back();
}

}  // namespace

std::string Origins::operator[](const std::string& key) const {
  const auto found = of.find(key);
  return found == of.end() ? "default" : found->second;
}

void set_key(Config& config, const std::string& key, const Json& value, const std::string& where) {
  bool found = false;
  visit(
      [&](const char* name, auto& field, const Allowed& allowed, const char*) {
        if (key != name) return;
        found = true;
        try {
          read_value(value, field, allowed);
        } catch (const Error& e) {
          fail(Exit::usage, "{}: {}: {}", where, key, e.what());
        }
      },
      config);
  if (!found) unknown_key(key, where);
}

LoadedConfig load_config(const std::optional<Path>& file, const std::vector<std::string>& sets) {
  LoadedConfig loaded;
  std::vector<Path> chain;
  if (file) apply_file(*file, loaded, chain);
  for (const std::string& set : sets) {
    const size_t at = set.find('=');
    if (at == std::string::npos) fail(Exit::usage, "--set {}: expected KEY=VALUE", set);
    const std::string key = set.substr(0, at);
    set_key(loaded.config, key, parse_toml_value(set.substr(at + 1)), "--set");
    loaded.origins.of[key] = "--set";
  }
  return loaded;
}

std::vector<std::pair<std::string, Json>> config_values(const Config& config) {
  std::vector<std::pair<std::string, Json>> values;
  visit([&](const char* key, const auto& field, const Allowed&,
            const char*) { values.emplace_back(key, to_json(field)); },
        config);
  return values;
}

Json config_json(const Config& config) {
  Json object = Json::object();
  for (auto& [key, value] : config_values(config)) object.set(key, value);
  return object;
}

namespace {

std::string toml_of(const Config& config, const std::function<bool(const std::string&)>& shown) {
  std::string text, table;
  for (const auto& [key, value] : config_values(config)) {
    if (value.is_null() || !shown(key)) continue;
    const size_t dot = key.rfind('.');
    if (key.substr(0, dot) != table) {
      table = key.substr(0, dot);
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", table);
    }
    text += fmt::format("{} = {}\n", key.substr(dot + 1), toml_text(value));
  }
  return text;
}

}  // namespace

std::string config_toml(const Config& config) {
  return toml_of(config, [](const std::string&) { return true; });
}

std::string given_toml(const LoadedConfig& loaded) {
  return toml_of(loaded.config,
                 [&](const std::string& key) { return loaded.origins.of.contains(key); });
}

KeyHelp explain_key(const std::string& key) {
  std::optional<KeyHelp> found;
  Config defaults;
  visit(
      [&]<class T>(const char* name, T& field, const Allowed& allowed, const char* help) {
        if (key == name)
          found = {key, kind_of<std::remove_const_t<T>>(), to_json(field).dump(),
                   allowed_text(allowed), help};
      },
      defaults);
  if (!found) unknown_key(key, "--explain");
  return *found;
}

std::vector<std::string> config_keys() {
  std::vector<std::string> keys;
  Config defaults;
  visit([&](const char* key, auto&, const Allowed&, const char*) { keys.emplace_back(key); },
        defaults);
  return keys;
}

bool changes_no_result(const std::string& key) {
  return key.starts_with("log.") || key.starts_with("checkpoint.") || key == "data.threads" ||
         key == "data.ledger";
}

bool is_of_backbone(const std::string& key) {
  return key.starts_with("model.") && key != "model.classes" && key != "model.drop_rate" &&
         key != "model.stochastic_depth" && key != "model.head_bias";
}

ModelConfig with_backbone(const ModelConfig& own, const ModelConfig& backbone) {
  ModelConfig model = backbone;
  model.classes = own.classes;
  model.drop_rate = own.drop_rate;
  model.stochastic_depth = own.stochastic_depth;
  model.head_bias = own.head_bias;
  return model;
}

std::string config_hash(const Config& config, const std::string& train_fingerprint,
                        const std::string& heldout_fingerprint) {
  // A key that resolve() fills in is never at its default, so a new one of that kind does change
  // it.
  static const auto kDefaults = config_values(Config());
  Hasher hasher;
  const auto values = config_values(config);
  for (size_t i = 0; i < values.size(); ++i) {
    const auto& [key, value] = values[i];
    const bool source = key == "data.train" || key == "data.heldout";
    if (changes_no_result(key) || (!source && value == kDefaults[i].second)) continue;
    const std::string text = key == "data.train"     ? train_fingerprint
                             : key == "data.heldout" ? heldout_fingerprint
                                                     : value.dump();
    hasher.add(fmt::format("{}={}\n", key, text));
  }
  return hasher.digest();
}

void resolve(Config& c) {
  const auto unbuilt = [](bool used, const char* what) {
    if (used) not_supported(what);
  };
  unbuilt(c.checkpoint.keep_best, "checkpoint.keep_best");
  unbuilt(c.data.scaled_decode, "data.scaled_decode = true");
  unbuilt(!c.data.mixture.empty(), "data.mixture");
  unbuilt(!c.data.exclude.empty(), "data.exclude");
  unbuilt(c.data.ledger == "full", "data.ledger = \"full\"");
  unbuilt(c.train.on_divergence == "rollback", "train.on_divergence = \"rollback\"");

  if (const auto& r = c.data.augment.randaugment;
      !r.empty() && (r.size() != 2 || r[0] > 16 || r[1] > 30))
    fail(
        Exit::usage,
        "data.augment.randaugment: expected [layers, magnitude] of at most 16 and 30, or [], found "
        "{}",
        toml_text(Json(r)));
  if (c.train.batch % c.data.augment.repeat != 0)
    fail(Exit::usage, "data.augment.repeat: {} copies do not divide train.batch = {}",
         c.data.augment.repeat, c.train.batch);
  if (c.train.micro_batch > c.train.batch)
    fail(Exit::usage, "train.micro_batch: {} is more than train.batch = {}", c.train.micro_batch,
         c.train.batch);
  const bool sgd = c.optim.name == "sgd";
  if (!c.optim.lr) c.optim.lr = sgd ? 0.1 * static_cast<double>(c.train.batch) / 256 : 1e-3;
  if (!c.optim.agc) c.optim.agc = sgd ? 0.01 : 0;
  if (c.train.eval_size == 0) c.train.eval_size = c.train.image_size;
  if (!c.optim.head_weight_decay) c.optim.head_weight_decay = c.optim.weight_decay;
  if (!c.optim.agc_exclude) {
    const std::string head = c.model.name.starts_with("vit") ? "head" : "head.fc";
    c.optim.agc_exclude = {head + ".weight"};
    if (c.optim.agc_rule == "timm") c.optim.agc_exclude->push_back(head + ".bias");
  }
  if (c.data.eval_crop == "auto") {
    const bool small = c.train.eval_size < 128;
    c.data.eval_crop = small ? "pct:1" : c.model.numerics == "timm" ? "pct:0.9" : "squash32";
  }
}

}  // namespace nfscale
