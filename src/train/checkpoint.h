// Checkpoints of a run: folders that appear whole or not at all, checked when they are read.
//
//   RUN/checkpoints/step-00001200/{model,ema,optimizer}.safetensors, state.json, MANIFEST
//   RUN/checkpoints/LAST       name of the newest one
//
// A checkpoint is written under a hidden name, synced, renamed. MANIFEST holds the checksum and
// size of every file and, in its last line, of itself.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/safetensors.h"

namespace nfscale {

struct CheckpointContent {
  uint64_t step = 0;
  std::map<std::string, std::string> metadata;             // of each tensor file
  std::map<std::string, std::vector<TensorView>> tensors;  // by file name without extension
  Json state;
};

// Writes the checkpoint and points LAST at it. The folder `checkpoints` must exist.
void save_checkpoint(const Path& checkpoints, const CheckpointContent& content);

struct FoundCheckpoint {
  Path folder;
  Json state;
};

// The newest checkpoint whose checksums hold; nothing if there never was one. Damaged ones are
// renamed to bad-step-... and named in a warning. Exit::damaged if there are checkpoints but no
// intact one.
std::optional<FoundCheckpoint> find_checkpoint(const Path& checkpoints);

// What is wrong with a checkpoint folder; empty if it is intact.
std::string checkpoint_damage(const Path& folder);

// Deletes all but the newest `keep_last`, sparing those for which `keep` holds.
void prune_checkpoints(const Path& checkpoints, int64_t keep_last,
                       const std::function<bool(uint64_t)>& keep);

// Removes what an interrupted save left behind.
void clean_checkpoints(const Path& checkpoints);

}  // namespace nfscale
