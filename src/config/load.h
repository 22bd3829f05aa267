// From files, `base` and --set to a Config that knows where each of its values comes from.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/toml.h"
#include "config/config.h"

namespace nfscale {

struct Origins {
  std::map<std::string, std::string> of;  // "configs/a.toml:12", "--set"; absent: "default"
  std::string operator[](const std::string& key) const;
};

struct LoadedConfig {
  Config config;
  Origins origins;
};

// `sets` are "K=V" in order; later wins. Exit::usage for unknown keys (with the nearest), wrong
// kinds and ranges, loops of `base`; each with FILE:LINE or --set.
LoadedConfig load_config(const std::optional<Path>& file, const std::vector<std::string>& sets);

// One value, as --set would.
void set_key(Config& config, const std::string& key, const Json& value, const std::string& where);

// Every key in order with its value as JSON; unset optional keys are null.
std::vector<std::pair<std::string, Json>> config_values(const Config& config);
Json config_json(const Config& config);  // one object {"model.name": ..., ...}

// The resolved file: every set key, grouped in tables, plain TOML.
std::string config_toml(const Config& config);
// The same of the keys that files and settings give; the others keep their defaults.
std::string given_toml(const LoadedConfig& loaded);

struct KeyHelp {
  std::string key, kind, fallback, allowed, help;
};
KeyHelp explain_key(const std::string& key);  // Exit::usage with the nearest key if there is none
std::vector<std::string> config_keys();

// Keys that change no result: they may differ between the start and a resume of a run.
bool changes_no_result(const std::string& key);

// Keys of the model that its weights depend on: all but the classes, and what a run that begins
// with these weights decides anew.
bool is_of_backbone(const std::string& key);

// The model of a run that begins with the weights of `backbone`; `own` is what it asks for.
ModelConfig with_backbone(const ModelConfig& own, const ModelConfig& backbone);

// Identity of a run: a hash of all keys that change results and are not at their default, with the
// sources replaced by the fingerprints of their data. So data may move, and a version with more
// keys knows the runs of one with fewer; a default may not change its value.
std::string config_hash(const Config& config, const std::string& train_fingerprint,
                        const std::string& heldout_fingerprint);

// Values that depend on others: lr, eval_size, agc_exclude, ... What the machine decides (precision
// "auto", micro_batch 0) stays as it is, so that a configuration has one identity on every machine.
// Exit::usage for combinations that cannot be, and "KEY is not supported yet" for what is not
// built.
void resolve(Config& config);

}  // namespace nfscale
