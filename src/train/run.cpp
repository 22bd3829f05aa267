#include "train/run.h"

#include <ctime>
#include <regex>

#include "base/cpu.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"

namespace nfscale {
namespace {

Json machine(const std::string& device) {
  return Json::object({{"host", host_name()},
                       {"device", device},
                       {"isa", isa_level()},
                       {"started", static_cast<int64_t>(std::time(nullptr))},
                       {"nfscale", NFSCALE_VERSION},
                       {"world", 1}});
}

[[noreturn]] void refuse_change(const Path& run, const std::string& key, const std::string& before,
                                const std::string& now) {
  fail(Exit::usage,
       "{}: {} was {} when this run started and is {} now; for a new run from its weights: nfscale "
       "pretrain --config F --init {} --out NEW",
       run.string(), key, before, now, run.string());
}

void compare(const Path& run, const Json& stored, const Config& config, const RunIdentity& now,
             RunIdentity& then) {
  const Json& values = stored.at("config");
  for (const auto& [key, value] : config_values(config)) {
    if (changes_no_result(key) || key == "data.train" || key == "data.heldout") continue;
    const Json* before = values.find(key);
    // As text: 0 and 0.0 are one value, read from JSON as two kinds.
    if (before && before->dump() != value.dump())
      refuse_change(run, key, before->dump(), value.dump());
  }
  then = stored_identity(stored);
  if (then.train_fingerprint != now.train_fingerprint)
    refuse_change(run, "data.train", "data of fingerprint " + then.train_fingerprint,
                  now.train_fingerprint);
  if (then.heldout_fingerprint != now.heldout_fingerprint)
    refuse_change(run, "data.heldout", "data of fingerprint " + then.heldout_fingerprint,
                  now.heldout_fingerprint);
  if (then.init_hash != now.init_hash)
    refuse_change(run, "--init", then.init_hash.empty() ? "not given" : then.init_hash,
                  now.init_hash.empty() ? "not given" : now.init_hash);
}

Json run_json(const std::string& id, const LoadedConfig& loaded, const RunIdentity& identity,
              const std::string& device, Json history) {
  Json origins = Json::object();
  for (const auto& [key, where] : loaded.origins.of) origins.set(key, where);
  history.push(machine(device));
  return Json::object(
      {{"id", id},
       {"config", config_json(loaded.config)},
       {"origins", origins},
       {"identity", Json::object({{"train_fingerprint", identity.train_fingerprint},
                                  {"heldout_fingerprint", identity.heldout_fingerprint},
                                  {"init_hash", identity.init_hash},
                                  {"precision", identity.precision},
                                  {"micro_batch", identity.micro_batch}})},
       {"starts", history}});
}

// A result that ends the run; anything else (preempted, failed, torn) is gone on from.
std::optional<Json> final_result(const Path& run) {
  const Path path = run / "result.json";
  if (!is_there(path)) return std::nullopt;
  try {
    Json result = parse_json(read_file(path), path.string());
    const std::string status = result.at("status").as_string();
    if (status == "done" || status == "diverged") return result;
  } catch (const Error&) {
  }
  return std::nullopt;
}

// What FileWriter leaves in a run that was killed.
bool is_temporary(const std::string& name) {
  static const std::regex form(R"(.+\.([0-9a-f]{16}|[0-9]+)\.tmp)");
  return std::regex_match(name, form);
}

// A new run begins in a folder of its own, or in one that holds hidden files alone: nobody's files
// may be taken for those of a run.
void refuse_foreign(const Path& path) {
  if (!is_there(path)) return;
  std::string foreign;
  std::error_code error;
  for (std::filesystem::directory_iterator i(path, error), end; !error && i != end;
       i.increment(error)) {
    const std::string name = i->path().filename().string();
    if (!name.starts_with('.') && !is_temporary(name) && foreign != "checkpoints") foreign = name;
  }
  if (error) fail_io(path, "reading it", error.value());
  // Last: another process may begin its run here meanwhile.
  if (foreign.empty() || is_there(path / "run.json")) return;
  if (foreign == "checkpoints")
    fail(Exit::damaged, "{}: checkpoints without run.json; start again with another --out",
         path.string());
  fail(Exit::usage, "{}: no folder of a run: it has {} in it but no run.json; give another --out",
       path.string(), printable(foreign));
}

}  // namespace

RunIdentity stored_identity(const Json& run) {
  const Json& identity = run.at("identity");
  return {.train_fingerprint = identity.at("train_fingerprint").as_string(),
          .heldout_fingerprint = identity.at("heldout_fingerprint").as_string(),
          .init_hash = identity.at("init_hash").as_string(),
          .precision = identity.at("precision").as_string(),
          .micro_batch = identity.at("micro_batch").as_int()};
}

RunDirectory open_run(const Path& path, const LoadedConfig& loaded, RunIdentity identity,
                      const std::string& device, const std::string& resume) {
  refuse_foreign(path);
  files().make_folder(path);
  RunDirectory run{path, std::make_unique<Lease>(path / ".lease", path.string()), identity, {}, {},
                   {}};
  run.id = config_hash(loaded.config, identity.train_fingerprint, identity.heldout_fingerprint);
  Json history = Json::array();
  if (is_there(path / "run.json")) {
    if (resume == "never")
      fail(Exit::usage,
           "{}: there is a run already; --resume auto goes on with it, or give another --out",
           path.string());
    const Json stored = parse_json(read_file(path / "run.json"), (path / "run.json").string());
    compare(path, stored, loaded.config, identity, run.identity);
    if (stored.find("starts")) history = stored.at("starts");
    run.result = final_result(path);
  }
  write_file(path / "run.json",
             run_json(run.id, loaded, run.identity, device, history).dump(1) + "\n");
  if (run.result) return run;
  write_file(path / "config.toml", config_toml(loaded.config));
  std::vector<Path> stray;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.is_regular_file() && is_temporary(entry.path().filename().string()))
      stray.push_back(entry.path());
  for (const Path& file : stray) files().remove(file);
  files().make_folder(path / "checkpoints");
  clean_checkpoints(path / "checkpoints");
  run.checkpoint = find_checkpoint(path / "checkpoints");
  return run;
}

void write_result(const Path& run, const Json& result) {
  write_file(run / "result.json", result.dump(1) + "\n");
}

}  // namespace nfscale
