// Weights with all that is needed to use them: the model, its classes, and how pictures are
// prepared.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "model/forward.h"
#include "model/weights.h"

namespace nfscale {

struct TrainedModel {
  Model model;
  ModelConfig config;
  std::vector<std::string> class_names;       // empty: numbers
  DataConfig data;                            // mean, std, eval_crop, exif
  int64_t image_size = 224, eval_size = 224;  // of training, of evaluation
  std::string precision = "f32", loss = "softmax";
  bool ema = false;      // the weights are an average
  bool foreign = false;  // no metadata of ours: architecture from names and shapes
  Path file;
};

// The metadata of a weight file of this configuration.
std::map<std::string, std::string> weight_metadata(const Config& config, const Arch& arch,
                                                   const std::vector<std::string>& class_names,
                                                   const std::string& precision, bool ema);

// From a run directory, a checkpoint folder or a .safetensors file. `ema`: "on", "off", or "" for
// the average where there is one. `model_name` overrules the architecture that is inferred for
// foreign files. Exit::usage naming the file and everything that does not fit.
TrainedModel load_trained(const Path& checkpoint, const std::string& ema = "",
                          const std::string& model_name = "");

// Exit::usage naming the file and the first tensor with a number that is not finite.
void require_finite(const TrainedModel& trained);

// The weight file that load_trained would read.
Path weight_file_of(const Path& checkpoint, const std::string& ema = "");

}  // namespace nfscale
