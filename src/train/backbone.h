// Fine-tuning: a trained model with a new classifier, for other classes and other sizes.
#pragma once

#include "config/load.h"
#include "train/weights_file.h"

namespace nfscale {

// The configuration of a run that begins with `backbone`: its architecture, and how its pictures
// were prepared unless the configuration says otherwise. Exit::usage for keys of the architecture
// that contradict it, with both values.
void take_backbone(LoadedConfig& loaded, const TrainedModel& backbone);

// Copies all weights but those of the classifier; the position embedding of a Vision Transformer is
// resized to the pictures of `model`.
void load_backbone(Model& model, const TrainedModel& backbone);

}  // namespace nfscale
