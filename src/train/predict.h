// Classes of single pictures.
#pragma once

#include <string>
#include <vector>

#include "train/weights_file.h"

namespace nfscale {

struct PictureResult {
  struct Top {
    int64_t index;
    std::string name;
    double probability;
  };
  std::vector<Top> top;  // falling probability
  std::string error;     // why the picture cannot be used
};

// The files themselves, and those of folders with the endings of pictures, sorted by path.
// Exit::usage for a path that is not there.
std::vector<Path> picture_files(const std::vector<std::string>& paths);

PictureResult predict_picture(const TrainedModel& trained, const Path& file, int64_t size,
                              int64_t top);

}  // namespace nfscale
