#include "train/checkpoint.h"

#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"

namespace nfscale {
namespace {

std::string folder_name(uint64_t step) {
  return fmt::format("step-{:08}", step);
}

std::optional<uint64_t> step_of(const std::string& name) {
  if (!name.starts_with("step-")) return std::nullopt;
  const size_t digits = std::min(name.find_first_not_of('0', 5), name.size() - 1);
  const auto step = parse_int(std::string_view(name).substr(digits));
  return step && *step >= 0 ? std::optional<uint64_t>(static_cast<uint64_t>(*step)) : std::nullopt;
}

// Steps of the folders there are, newest first.
std::vector<uint64_t> saved_steps(const Path& checkpoints) {
  std::vector<uint64_t> steps;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints, error))
    if (const auto step = step_of(entry.path().filename().string())) steps.push_back(*step);
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string manifest_line(const std::string& hash, size_t size, const std::string& name) {
  return fmt::format("{} {} {}\n", hash, size, name);
}

std::string hash_of_file(const Path& path, size_t& size) {
  const MappedFile file(path);
  size = file.bytes().size();
  return hash128(file.bytes());
}

}  // namespace

void save_checkpoint(const Path& checkpoints, const CheckpointContent& content) {
  const std::string name = folder_name(content.step);
  const Path hidden = checkpoints / ("." + name + ".tmp"), folder = checkpoints / name;
  files().remove(hidden);
  files().make_folder(hidden);
  std::string manifest;
  for (const auto& [file, tensors] : content.tensors) {
    const std::string file_name = file + ".safetensors";
    const std::string hash = write_safetensors(hidden / file_name, content.metadata, tensors);
    manifest += manifest_line(hash, std::filesystem::file_size(hidden / file_name), file_name);
  }
  const std::string state = content.state.dump(1) + "\n";
  write_file(hidden / "state.json", state);
  manifest += manifest_line(hash128(state), state.size(), "state.json");
  write_file(hidden / "MANIFEST",
             manifest + manifest_line(hash128(manifest), manifest.size(), "MANIFEST"));
  files().remove(folder);  // the same step again, after a restart from an older one
  files().rename(hidden, folder);
  files().sync_folder(checkpoints);
  write_file(checkpoints / "LAST", name + "\n");
}

std::string checkpoint_damage(const Path& folder) {
  try {
    const std::string manifest = read_file(folder / "MANIFEST", 1 << 20);
    const size_t last = manifest.rfind('\n', manifest.size() - 2) + 1;
    const std::string body = manifest.substr(0, last);
    if (manifest.substr(last) != manifest_line(hash128(body), body.size(), "MANIFEST"))
      return "MANIFEST is not whole";
    for (const std::string& line : split(body.substr(0, body.size() - 1), '\n')) {
      const std::vector<std::string> parts = split(line, ' ');
      if (parts.size() != 3) return "MANIFEST has a line that is none";
      size_t size = 0;
      const std::string hash = hash_of_file(folder / parts[2], size);
      if (std::to_string(size) != parts[1])
        return fmt::format("{} has {} bytes, not {}", parts[2], size, parts[1]);
      if (hash != parts[0]) return fmt::format("{} does not have its checksum", parts[2]);
    }
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::optional<FoundCheckpoint> find_checkpoint(const Path& checkpoints) {
  bool any = false;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints, error))
    any = any || entry.path().filename().string().find("step-") != std::string::npos;
  for (const uint64_t step : saved_steps(checkpoints)) {
    const Path folder = checkpoints / folder_name(step);
    const std::string damage = checkpoint_damage(folder);
    if (damage.empty()) {
      write_file(checkpoints / "LAST", folder_name(step) + "\n");
      return FoundCheckpoint{
          folder, parse_json(read_file(folder / "state.json"), (folder / "state.json").string())};
    }
    const Path aside = checkpoints / ("bad-" + folder_name(step));
    warn("checkpoint {} is damaged ({}); it is set aside as {}", folder_name(step), damage,
         aside.filename().string());
    files().remove(aside);
    files().rename(folder, aside);
  }
  if (any)
    fail(Exit::damaged,
         "{}: no intact checkpoint is left; nothing is overwritten: start again with another --out",
         checkpoints.string());
  return std::nullopt;
}

void prune_checkpoints(const Path& checkpoints, int64_t keep_last,
                       const std::function<bool(uint64_t)>& keep) {
  int64_t seen = 0;
  for (const uint64_t step : saved_steps(checkpoints))
    if (++seen > keep_last && !keep(step)) files().remove(checkpoints / folder_name(step));
}

void clean_checkpoints(const Path& checkpoints) {
  std::error_code error;
  std::vector<Path> stray;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints, error))
    if (entry.path().extension() == ".tmp") stray.push_back(entry.path());
  for (const Path& path : stray) files().remove(path);
}

}  // namespace nfscale
