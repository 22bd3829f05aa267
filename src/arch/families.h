// What each family of models makes of a configuration; for arch.cpp.
#pragma once

#include "arch/arch.h"

namespace nfscale {

// Both add layers to an Arch that has name, numerics, classes, channels and drop rate. Exit::usage
// for keys that do not fit together.
void build_nfnet(const ModelConfig& config, Arch& arch);
void build_vit(const ModelConfig& config, Sides sides, Arch& arch);

std::vector<std::string> vit_names();  // the smallest first, the nano ladder last

}  // namespace nfscale
