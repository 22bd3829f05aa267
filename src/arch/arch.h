// An architecture as data: a list of layers with shapes. Counting, names, cost, weight files and
// the torch model all follow from it; nothing here knows a tensor.
//
// NFNets: Brock, De, Smith, Simonyan, arXiv 2102.06171, and its code
// (google-deepmind/deepmind-research, nfnets); parameter names of timm's dm_nfnet_*.
// Vision Transformers: Zhai, Kolesnikov, Houlsby, Beyer, arXiv 2106.04560, and its code
// (google-research/big_vision); parameter names of timm's vit_*.
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
    conv,    // a plain convolution, of squeeze-excite or of patches: weight [O, I, k, k], bias [O]
    linear,  // weight [O, I], bias [O]
    scalar,  // one learnable number, no bias
    norm,    // LayerNorm: weight [O], bias [O]
    table,   // learnable rows [1, O, I], no bias: position embedding, class token, query
    attention,  // scaled dot products of `in` channels: no parameters, but multiply-adds
  };
  std::string name;  // a scalar's or a table's own name, else the prefix of the parameters
  Kind kind = Kind::std_conv;
  int64_t in = 1, out = 1, kernel = 1, stride = 1, groups = 1;
  // Output sides are ceil(side / total_stride); 0: after pooling, one position.
  int64_t total_stride = 1;
  int64_t more_positions = 0;  // beside those of the picture: the class token
  bool one_query = false;      // of attention; else every position asks
};

// A residual block; the numbers are places in Arch::layers, -1 where there is none.
struct Block {
  std::string name;  // "stages.2.0"
  int skip_gain, projection, conv1, conv2, conv2b, conv3, se1, se2;
  int64_t stride = 1;
  double beta = 1;  // 1 / expected standard deviation of the input (B21 section 3)
};

// What the layers of a Vision Transformer do not say.
struct VitShape {
  int64_t patch = 16, width = 384, depth = 12, mlp = 1536, heads = 6;
  std::string pool = "map";       // attention, "gap" the mean of the tokens, "tok" the class token
  bool norm_after = false;        // the last LayerNorm stands behind the pooling
  bool class_position = false;    // the class token has a row of the position embedding
  double head_bias = 0;           // of every class, before training
  std::array<int64_t, 2> grid{};  // patches of the pictures of the position embedding, rows first
  int64_t tokens() const { return grid[0] * grid[1]; }
  int64_t prefix() const { return class_position ? 1 : 0; }  // rows of pos_embed in front
};

struct Param {
  std::string name;
  std::vector<int64_t> shape;  // OIHW; empty for a scalar
  Layer::Kind kind;
  int64_t fan_in = 1;
  bool head = false;  // of the classifier
  // 0 before the first block, then the number of the block, behind the last one more: what
  // layer-wise decay of the rate counts.
  int64_t level = 0;
  bool frozen = false;  // not trained
  int64_t count() const;
  // Kernels of convolutions and linear layers, the only ones that decay: not biases, gains,
  // LayerNorms, tables.
  bool is_weight() const { return name.ends_with(".weight") && kind != Layer::Kind::norm; }
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
  // Rates at which training drops each residual branch: one for each block of an NFNet, two for
  // each of a Vision Transformer.
  std::vector<double> branch_rates;
  VitShape vit;
  bool is_vit() const { return family == "vit"; }

  std::vector<Param> params() const;  // names and shapes in the order of a weight file
  int64_t param_count() const;
  // Multiply-adds of one image through all convolutions and linear layers; nothing else counts.
  int64_t macs(int64_t height, int64_t width) const;
  // Numbers that a training step keeps for the backward pass, for one image; an estimate.
  int64_t activations(int64_t height, int64_t width) const;
  // Weights, gradients and momentum in float32, and the activations of a batch; an estimate.
  int64_t training_bytes(int64_t batch, int64_t side) const;
};

// Height and width of pictures.
using Sides = std::array<int64_t, 2>;
inline Sides sides_of(int64_t side) {
  return {side, side};
}

// Exit::usage for an unknown name (with the nearest) or keys that do not fit together.
// `classes` is used where the configuration leaves 0. Position embeddings are those of pictures of
// `sides`, by default of the native size.
Arch make_arch(const ModelConfig& config, int64_t classes, Sides sides = {});

// All names that make_arch knows, in the order of `nfscale models`.
std::vector<std::string> model_names();
// The native size and number of classes where nothing else is said: nano 32 and 10, others 224 and
// 1000.
int64_t default_size(const std::string& name);
int64_t default_classes(const std::string& name);

// Marks the parameters that a pattern matches. Exit::usage for one that fits none, and where
// nothing is left to train.
void freeze(const std::vector<std::string>& patterns, std::vector<Param>& params);

}  // namespace nfscale
