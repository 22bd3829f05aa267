// Classes of pictures in files.
#pragma once

#include <functional>
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
  Path file;
  std::vector<Top> top;  // falling probability
  std::string error;     // why the picture cannot be used
};

// The files themselves, and those of folders with the endings of pictures, sorted by path.
// Exit::usage for a path that is not there.
std::vector<Path> picture_files(const std::vector<std::string>& paths);

// Of each row of logits the `top` likeliest classes.
std::vector<std::vector<PictureResult::Top>> top_classes(const TrainedModel& trained,
                                                         const at::Tensor& logits, int64_t top);

struct PredictOptions {
  int64_t size = 224, top = 5;
  int64_t batch = 16;  // pictures at a time; changes speed and memory only
  int threads = 1;     // that read and decode
};

// Tells `each` of every file, in their order, as soon as its batch is through. Throws
// Exit::preempted once a stop is requested.
void predict(const TrainedModel& trained, const std::vector<Path>& files,
             const PredictOptions& options, const std::function<void(const PictureResult&)>& each);

}  // namespace nfscale
