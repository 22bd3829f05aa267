#include "arch/arch.h"

#include <algorithm>
#include <numeric>

#include "arch/families.h"
#include "base/error.h"
#include "base/text.h"

namespace nfscale {
namespace {

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t positions(const Layer& l, int64_t height, int64_t width) {
  if (l.total_stride == 0) return 1;
  return ceil_div(height, l.total_stride) * ceil_div(width, l.total_stride) + l.more_positions;
}

bool is_nano(const std::string& name) {
  return name.starts_with("nfnet_n") || name.starts_with("vit_n");
}

// "blocks.3" of "blocks.3.norm1", "stages.2.0" of "stages.2.0.conv1"; empty outside of blocks.
std::string block_of(const std::string& layer) {
  for (const auto& [start, dots] : {std::pair("blocks.", 2), std::pair("stages.", 3)}) {
    if (!layer.starts_with(start)) continue;
    size_t end = std::string::npos;
    for (int i = 0; i < dots; ++i) end = layer.find('.', end + 1);
    return layer.substr(0, end);
  }
  return "";
}

void check_name(const std::string& name) {
  if (name == "nfnet" || name == "vit") return;
  const bool timm = name.starts_with("dm_nfnet_");
  const std::string own = timm ? name.substr(3) : name;
  const std::vector<std::string> names = model_names();
  if (std::find(names.begin(), names.end(), own) == names.end() || (timm && own[7] == '7'))
    fail(Exit::usage, "model.name: {} is not a model (nearest: {})", name.empty() ? "\"\"" : name,
         nearest(name, names));
}

// A key of the other family is a mistake, not something to pass over.
void check_keys(const ModelConfig& c, bool vit) {
  const struct {
    const char* name;
    bool given, of_vits;
  } keys[] = {{"group_width", c.group_width.has_value(), false},
              {"stem", c.stem.has_value(), false},
              {"stem_stride", c.stem_stride.has_value(), false},
              {"bottleneck", c.bottleneck.has_value(), false},
              {"bottleneck_round", c.bottleneck_round.has_value(), false},
              {"se_ratio", c.se_ratio.has_value(), false},
              {"final_mult", c.final_mult.has_value(), false},
              {"alpha", c.alpha.has_value(), false},
              {"patch", c.patch.has_value(), true},
              {"mlp", c.mlp.has_value(), true},
              {"heads", c.heads.has_value(), true},
              {"pool", c.pool.has_value(), true},
              {"pool_norm", c.pool_norm.has_value(), true},
              {"class_position", c.class_position.has_value(), true},
              {"head_bias", c.head_bias.has_value(), true}};
  const char* families[] = {"NFNets", "Vision Transformers"};
  for (const auto& key : keys)
    if (key.given && key.of_vits != vit)
      fail(Exit::usage, "model.{}: a key of {}, not of {}", key.name, families[key.of_vits],
           families[vit]);
}

}  // namespace

int64_t Param::count() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::vector<Param> Arch::params() const {
  std::vector<Param> list;
  std::string block;
  int64_t level = 0;
  for (const Layer& l : layers) {
    if (const std::string own = block_of(l.name); own != block) {
      block = own;
      ++level;
    }
    const int64_t fan_in = l.in / l.groups * l.kernel * l.kernel;
    const bool is_head = &l == &layers[static_cast<size_t>(head)];
    const auto add = [&](const std::string& parameter, std::vector<int64_t> shape) {
      list.push_back({parameter, std::move(shape), l.kind, fan_in, is_head, level});
    };
    switch (l.kind) {
      case Layer::Kind::scalar:
        list.push_back({l.name, {}, l.kind, 1, false, level});
        break;
      case Layer::Kind::table:
        add(l.name, {1, l.out, l.in});
        break;
      case Layer::Kind::attention:
        break;
      case Layer::Kind::norm:
        add(l.name + ".weight", {l.out});
        add(l.name + ".bias", {l.out});
        break;
      case Layer::Kind::linear:
        add(l.name + ".weight", {l.out, l.in});
        add(l.name + ".bias", {l.out});
        break;
      case Layer::Kind::conv:
      case Layer::Kind::std_conv:
        add(l.name + ".weight", {l.out, l.in / l.groups, l.kernel, l.kernel});
        add(l.name + ".bias", {l.out});
        if (l.kind == Layer::Kind::std_conv) add(l.name + ".gain", {l.out, 1, 1, 1});
    }
  }
  return list;
}

int64_t Arch::param_count() const {
  int64_t n = 0;
  for (const Param& p : params()) n += p.count();
  return n;
}

int64_t Arch::macs(int64_t height, int64_t width) const {
  int64_t n = 0;
  for (const Layer& l : layers) {
    const int64_t count = positions(l, height, width);
    if (l.kind == Layer::Kind::attention)  // queries with keys, and shares with values
      n += 2 * l.in * count * (l.one_query ? 1 : count);
    else if (l.kind != Layer::Kind::scalar && l.kind != Layer::Kind::norm &&
             l.kind != Layer::Kind::table)
      n += l.out * (l.in / l.groups) * l.kernel * l.kernel * count;
  }
  return n;
}

int64_t Arch::activations(int64_t height, int64_t width) const {
  int64_t n = 0;
  for (const Layer& l : layers) {
    if (l.total_stride == 0 || l.kind == Layer::Kind::table) continue;
    // The output of each convolution and its activation are kept; of a Transformer's layers the
    // output, and the activation of the first layer of an MLP.
    const bool twice = !is_vit() || l.name.ends_with(".fc1");
    n += (twice ? 2 : 1) * l.out * positions(l, height, width);
  }
  return n;
}

int64_t Arch::training_bytes(int64_t batch, int64_t side) const {
  return 12 * param_count() + 4 * batch * activations(side, side);
}

Arch make_arch(const ModelConfig& config, int64_t classes, Sides sides) {
  check_name(config.name);
  Arch arch;
  arch.name = config.name;
  arch.numerics = config.numerics;
  arch.classes = config.classes ? config.classes : classes;
  if (arch.classes < 1)
    fail(Exit::usage, "model.classes: the number of classes is not known; set it");
  arch.in_channels = config.in_channels.value_or(3);
  arch.drop_rate = config.drop_rate;
  const bool vit = config.name.starts_with("vit");
  check_keys(config, vit);
  if (!vit) {
    build_nfnet(config, arch);
    return arch;
  }
  arch.family = "vit";
  if (sides == Sides{}) sides.fill(default_size(config.name));
  build_vit(config, sides, arch);
  return arch;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const char family : {'f', 'n'})
    for (const char* plus : {"", "+"})
      for (int k = 0; k < 8; ++k) names.push_back(fmt::format("nfnet_{}{}{}", family, k, plus));
  for (const std::string& name : vit_names()) names.push_back(name);
  return names;
}

int64_t default_size(const std::string& name) {
  check_name(name);
  return is_nano(name) ? 32 : 224;
}
int64_t default_classes(const std::string& name) {
  check_name(name);
  return is_nano(name) ? 10 : 1000;
}

void freeze(const std::vector<std::string>& patterns, std::vector<Param>& params) {
  for (const std::string& pattern : patterns) {
    bool found = false;
    for (Param& p : params)
      if (glob_matches(pattern, p.name)) p.frozen = found = true;
    if (!found) fail(Exit::usage, "optim.freeze: no parameter matches \"{}\"", printable(pattern));
  }
  if (std::all_of(params.begin(), params.end(), [](const Param& p) { return p.frozen; }))
    fail(Exit::usage, "optim.freeze: nothing is left to train");
}

}  // namespace nfscale
