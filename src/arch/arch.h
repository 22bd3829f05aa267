// An architecture as data: a list of layers with shapes. Counting, names, cost, weight files and
// the torch model all follow from it; nothing here knows a tensor.
//
// NFNets: Brock, De, Smith, Simonyan, arXiv 2102.06171, and its code
// (google-deepmind/deepmind-research, nfnets); parameter names of timm's dm_nfnet_*.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"

namespace nfscale {

struct Layer {
  enum class Kind {
    std_conv,  // weight-standardised convolution: weight [O, I/G, k, k], bias [O], gain [O, 1, 1,
               // 1]
    conv,      // 1 x 1 convolution of squeeze-excite: weight [O, I, 1, 1], bias [O]
    linear,    // weight [O, I], bias [O]
    scalar,    // one learnable number, no bias
  };
  std::string name;  // the scalar's own name, else the prefix of its parameters
  Kind kind = Kind::std_conv;
  int64_t in = 1, out = 1, kernel = 1, stride = 1, groups = 1;
  // Output sides are ceil(side / total_stride); 0: after pooling, one position.
  int64_t total_stride = 1;
};

// A residual block; the numbers are places in Arch::layers, -1 where there is none.
struct Block {
  std::string name;  // "stages.2.0"
  int skip_gain, projection, conv1, conv2, conv2b, conv3, se1, se2;
  int64_t stride = 1;
  double beta = 1;              // 1 / expected standard deviation of the input (B21 section 3)
  double stochastic_depth = 0;  // rate at which training drops the residual branch
};

struct Param {
  std::string name;
  std::vector<int64_t> shape;  // OIHW; empty for a scalar
  Layer::Kind kind;
  int64_t fan_in = 1;
  int64_t count() const;
  bool is_weight() const { return name.ends_with(".weight"); }
};

struct Arch {
  std::string name, family = "nfnet";
  std::string numerics = "deepmind";
  int64_t classes = 0, in_channels = 3, features = 0;
  double alpha = 0.2, drop_rate = 0;
  std::vector<Layer> layers;  // in timm's order
  std::array<int, 4> stem{};
  std::vector<Block> blocks;
  int final_conv = -1, head = -1;

  std::vector<Param> params() const;  // names and shapes in the order of a weight file
  int64_t param_count() const;
  // Multiply-adds of one image through all convolutions and linear layers; nothing else counts.
  int64_t macs(int64_t height, int64_t width) const;
  // Numbers that a training step keeps for the backward pass, for one image; an estimate.
  int64_t activations(int64_t height, int64_t width) const;
  // Weights, gradients and momentum in float32, and the activations of a batch; an estimate.
  int64_t training_bytes(int64_t batch, int64_t side) const;
};

// Exit::usage for an unknown name (with the nearest) or keys that do not fit together.
// `classes` is used where the configuration leaves 0.
Arch make_arch(const ModelConfig& config, int64_t classes);

// All names that make_arch knows, in the order of `nfscale models`.
std::vector<std::string> model_names();
// The native size and number of classes where nothing else is said: nano 32 and 10, others 224 and
// 1000.
int64_t default_size(const std::string& name);
int64_t default_classes(const std::string& name);

}  // namespace nfscale
