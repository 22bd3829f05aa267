#include "train/fork.h"

#include <algorithm>

#include "base/files.h"
#include "base/text.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

// "RUN@STEP" taken apart; a folder of that very name is a run.
std::pair<Path, std::string> run_and_step(const std::string& text) {
  const size_t at = text.rfind('@');
  if (at == std::string::npos || is_there(text)) return {text, ""};
  return {text.substr(0, at), text.substr(at + 1)};
}

FoundCheckpoint checkpoint_of(const Path& run, const std::string& step) {
  if (step.empty()) {
    std::optional<FoundCheckpoint> newest = find_checkpoint(run / "checkpoints");
    if (!newest) fail(Exit::usage, "--fork: {} has no checkpoint", run.string());
    return *newest;
  }
  std::vector<std::string> there;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    const std::string name = entry.path().filename().string();
    const size_t digits = name.find_first_not_of('0', 5);
    if (name.starts_with("step-") && digits != std::string::npos)
      there.push_back(name.substr(digits));
  }
  std::sort(there.begin(), there.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  });
  if (std::find(there.begin(), there.end(), step) == there.end())
    fail(
        Exit::usage,
        "--fork: {} has no checkpoint of step {} (there are: {}; checkpoint.keep_every keeps them)",
        run.string(), printable(step), join(there, ", "));
  const Path folder = run / "checkpoints" / fmt::format("step-{:0>8}", step);
  if (const std::string damage = checkpoint_damage(folder); !damage.empty())
    fail(Exit::damaged, "--fork: {}: {}", folder.string(), damage);
  return {folder, parse_json(read_file(folder / "state.json"), (folder / "state.json").string())};
}

}  // namespace

Fork open_fork(const std::string& text, const Config& config) {
  const auto& [run, step] = run_and_step(text);
  if (!is_there(run / "run.json"))
    fail(Exit::usage, "--fork: {} is not a run (expected RUN or RUN@STEP)", run.string());
  const Json stored = parse_json(read_file(run / "run.json"), (run / "run.json").string());
  const Json& values = stored.at("config");
  for (const auto& [key, value] : config_values(config)) {
    const bool may_differ = changes_no_result(key) || key.starts_with("schedule.") ||
                            key == "train.duration" || key == "data.train" || key == "data.heldout";
    const Json* before = values.find(key);
    if (!may_differ && before && before->dump() != value.dump())
      fail(Exit::usage,
           "--fork: {} is {} in {} and {} here; only train.duration and the schedule may differ",
           key, before->dump(), run.string(), value.dump());
  }
  Fork fork{.trunk = stored.at("id").as_string(), .checkpoint = checkpoint_of(run, step)};
  fork.step = static_cast<uint64_t>(fork.checkpoint.state.at("step").as_int());
  fork.examples = static_cast<uint64_t>(fork.checkpoint.state.at("g").as_int());
  fork.identity = stored_identity(stored);
  return fork;
}

}  // namespace nfscale
