// NFNets of the paper (F0 ... F7+) and the ladder of small ones of this project (N0 ... N7+).
#include <cmath>
#include <numeric>

#include "arch/families.h"
#include "base/error.h"

namespace nfscale {
namespace {

// The sizes of a family, B21 table 1 and its code; n is the ladder for small images of this
// project.
struct Family {
  std::vector<int64_t> width, stem, stem_stride;
  int64_t group_width;
};

struct Named {
  Family family;
  int64_t variant = 0;  // depth is (variant + 1) * [1, 2, 6, 3]
};

Named find_named(const std::string& name) {
  const Family f = {{256, 512, 1536, 1536}, {16, 32, 64, 128}, {2, 1, 1, 2}, 128};
  const Family f_plus = {{384, 768, 2048, 2048}, {16, 32, 64, 192}, {2, 1, 1, 2}, 128};
  const Family n = {{32, 64, 192, 192}, {4, 8, 16, 16}, {1, 1, 1, 2}, 16};
  const Family n_plus = {{48, 96, 256, 256}, {4, 8, 16, 24}, {1, 1, 1, 2}, 16};
  std::string own = name.starts_with("dm_") ? name.substr(3) : name;
  if (own == "nfnet") return {f, 0};
  const bool plus = own.back() == '+', nano = own[6] == 'n';
  return {nano ? (plus ? n_plus : n) : (plus ? f_plus : f), own[7] - '0'};
}

std::vector<int64_t> four(const char* key, std::vector<int64_t> stages) {
  if (stages.size() != 4)
    fail(Exit::usage, "model.{}: expected 4 values, found {}", key, stages.size());
  return stages;
}

struct Sizes {
  std::vector<int64_t> depth, width, group_width, stem, stem_stride;
  double bottleneck, se_ratio, final_mult;
  bool keep;
};

Sizes resolve_sizes(const ModelConfig& c, const Named& named) {
  Sizes s;
  const int64_t k = named.variant + 1;
  s.depth = four("depth", c.depth.value_or(std::vector<int64_t>{k, 2 * k, 6 * k, 3 * k}));
  s.width = four("width", c.width.value_or(named.family.width));
  s.group_width = c.group_width.value_or(std::vector<int64_t>{named.family.group_width});
  if (s.group_width.size() == 1) s.group_width.assign(4, s.group_width[0]);
  if (s.group_width.size() != 4)
    fail(Exit::usage, "model.group_width: expected one number or four, found {}",
         s.group_width.size());
  s.stem = c.stem.value_or(named.family.stem);
  s.stem_stride = c.stem_stride.value_or(named.family.stem_stride);
  s.bottleneck = c.bottleneck.value_or(0.5);
  s.se_ratio = c.se_ratio.value_or(0.5);
  s.final_mult = c.final_mult.value_or(2);
  s.keep = c.bottleneck_round.value_or("keep") == "keep";
  return s;
}

int64_t scaled(int64_t width, double ratio) {
  return static_cast<int64_t>(std::floor(static_cast<double>(width) * ratio));
}

class Builder {
 public:
  Builder(const ModelConfig& config, const Sizes& sizes, Arch& arch)
      : config_(config), s_(sizes), a_(arch) {}

  void build() {
    channels_ = a_.in_channels;
    for (size_t i = 0; i < 4; ++i) {
      total_ *= s_.stem_stride[i];
      a_.stem[i] =
          conv(fmt::format("stem.conv{}", i + 1), channels_, s_.stem[i], 3, s_.stem_stride[i]);
      channels_ = s_.stem[i];
    }
    const int64_t n = std::accumulate(s_.depth.begin(), s_.depth.end(), int64_t{0});
    double variance = 1;  // expected, of a block's input (B21 section 3)
    for (int64_t stage = 0; stage < 4; ++stage) {
      for (int64_t b = 0; b < s_.depth[static_cast<size_t>(stage)]; ++b) {
        block(stage, b, variance, n);
        if (b == 0) variance = 1;
        variance += a_.alpha * a_.alpha;
      }
    }
    a_.features = scaled(channels_, s_.final_mult);
    if (a_.features < 1) fail(Exit::usage, "model.final_mult: no features are left");
    a_.final_conv = conv("final_conv", channels_, a_.features, 1, 1);
    a_.head = add({.name = "head.fc",
                   .kind = Layer::Kind::linear,
                   .in = a_.features,
                   .out = a_.classes,
                   .total_stride = 0});
  }

 private:
  int add(Layer layer) {
    a_.layers.push_back(std::move(layer));
    return static_cast<int>(a_.layers.size()) - 1;
  }
  int conv(const std::string& name, int64_t in, int64_t out, int64_t kernel, int64_t stride,
           int64_t groups = 1) {
    return add({.name = name,
                .in = in,
                .out = out,
                .kernel = kernel,
                .stride = stride,
                .groups = groups,
                .total_stride = total_});
  }

  void block(int64_t stage, int64_t b, double variance, int64_t n) {
    const auto at = static_cast<size_t>(stage);
    const int64_t width = s_.width[at], group_width = s_.group_width[at];
    const int64_t stride = stage > 0 && b == 0 ? 2 : 1;
    int64_t mid = scaled(width, s_.bottleneck);
    if (mid < 1) fail(Exit::usage, "model.bottleneck: stage {} has no channels left", stage);
    const int64_t groups = std::max<int64_t>(1, mid / group_width);
    if (groups > 1 || !s_.keep) mid = groups * group_width;

    const auto i = static_cast<double>(a_.blocks.size());
    const double r = config_.stochastic_depth;
    Block block;
    block.name = fmt::format("stages.{}.{}", stage, b);
    block.stride = stride;
    block.beta = 1 / std::sqrt(variance);
    // The two programs spread the rate differently over the blocks.
    a_.branch_rates.push_back(a_.numerics == "timm"
                                  ? (n > 1 ? r * i / static_cast<double>(n - 1) : 0)
                                  : r * i / static_cast<double>(n));
    block.skip_gain = add(
        {.name = block.name + ".skipinit_gain", .kind = Layer::Kind::scalar, .total_stride = 0});
    const int64_t before = total_;
    total_ *= stride;
    block.projection = stride > 1 || channels_ != width
                           ? conv(block.name + ".downsample.conv", channels_, width, 1, 1)
                           : -1;
    total_ = before;
    block.conv1 = conv(block.name + ".conv1", channels_, mid, 1, 1);
    total_ *= stride;
    block.conv2 = conv(block.name + ".conv2", mid, mid, 3, stride, groups);
    block.conv2b = conv(block.name + ".conv2b", mid, mid, 3, 1, groups);
    block.conv3 = conv(block.name + ".conv3", mid, width, 1, 1);
    const int64_t hidden = std::max<int64_t>(1, scaled(width, s_.se_ratio));
    block.se1 = add({.name = block.name + ".attn_last.fc1",
                     .kind = Layer::Kind::conv,
                     .in = width,
                     .out = hidden,
                     .total_stride = 0});
    block.se2 = add({.name = block.name + ".attn_last.fc2",
                     .kind = Layer::Kind::conv,
                     .in = hidden,
                     .out = width,
                     .total_stride = 0});
    a_.blocks.push_back(block);
    channels_ = width;
  }

  const ModelConfig& config_;
  const Sizes& s_;
  Arch& a_;
  int64_t channels_ = 3, total_ = 1;
};

}  // namespace

void build_nfnet(const ModelConfig& config, Arch& arch) {
  arch.alpha = config.alpha.value_or(0.2);
  const Sizes sizes = resolve_sizes(config, find_named(config.name));
  Builder(config, sizes, arch).build();
}

}  // namespace nfscale
