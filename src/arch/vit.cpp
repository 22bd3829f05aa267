// Vision Transformers: the sizes of arXiv 2106.04560 (tables 2 and 6), 2305.13035 (table 1) and a
// ladder of small ones of this project, matched in multiply-adds to nfnet_n0 ... nfnet_n3.
#include "arch/families.h"
#include "base/error.h"

namespace nfscale {
namespace {

struct Named {
  const char* name;
  int64_t patch, width, depth, mlp, heads;
};
constexpr Named kNamed[] = {
    {"vit_ti16", 16, 192, 12, 768, 3},
    {"vit_s16", 16, 384, 12, 1536, 6},
    {"vit_b16", 16, 768, 12, 3072, 12},
    {"vit_l16", 16, 1024, 24, 4096, 16},
    {"vit_so400m14", 14, 1152, 27, 4304, 16},
    {"vit_giant14", 14, 1408, 40, 6144, 16},
    {"vit_gigantic14", 14, 1664, 48, 8192, 16},
    {"vit_n0", 4, 64, 3, 344, 4},
    {"vit_n1", 4, 80, 4, 344, 5},
    {"vit_n2", 4, 96, 4, 424, 6},
    {"vit_n3", 4, 96, 5, 456, 6},
};

int64_t one(const char* key, const std::optional<std::vector<int64_t>>& value, int64_t otherwise) {
  if (!value) return otherwise;
  if (value->size() != 1)
    fail(Exit::usage, "model.{}: a Vision Transformer has one, found {}", key, value->size());
  return value->front();
}

VitShape shape_of(const ModelConfig& c, Sides sides) {
  const auto named = std::find_if(std::begin(kNamed), std::end(kNamed),
                                  [&](const Named& n) { return n.name == c.name; });
  VitShape s;
  if (named != std::end(kNamed))
    s = {named->patch, named->width, named->depth, named->mlp, named->heads};
  s.patch = c.patch.value_or(s.patch);
  s.depth = one("depth", c.depth, s.depth);
  s.width = one("width", c.width, s.width);
  // Of a width that no name has: the proportions of the small ones.
  const bool own_width = c.width && c.name == "vit";
  s.mlp = c.mlp.value_or(own_width ? 4 * s.width : s.mlp);
  s.heads = c.heads.value_or(own_width ? std::max<int64_t>(1, s.width / 64) : s.heads);
  s.pool = c.pool.value_or("map");
  s.norm_after = c.pool_norm.value_or("before") == "after";
  s.class_position = c.class_position.value_or(false);
  s.head_bias = c.head_bias.value_or(0);
  if (s.width % s.heads != 0)
    fail(Exit::usage, "model.heads: {} do not divide the width of {}", s.heads, s.width);
  if (s.norm_after && s.pool != "gap")
    fail(Exit::usage, "model.pool_norm: \"after\" goes with pool = \"gap\" only");
  if (s.class_position && s.pool != "tok")
    fail(Exit::usage, "model.class_position: only pool = \"tok\" has a class token");
  for (const int64_t side : sides)
    if (side % s.patch != 0)
      fail(Exit::usage, "model.patch: {} does not divide the image size of {}", s.patch, side);
  s.grid = {sides[0] / s.patch, sides[1] / s.patch};
  return s;
}

class Builder {
 public:
  explicit Builder(Arch& arch) : a_(arch), s_(arch.vit) {}

  void build() {
    const int64_t d = s_.width;
    if (s_.pool == "tok") table("cls_token", 1);
    table("pos_embed", s_.tokens() + s_.prefix());
    add({.name = "patch_embed.proj",
         .kind = Layer::Kind::conv,
         .in = a_.in_channels,
         .out = d,
         .kernel = s_.patch,
         .stride = s_.patch,
         .total_stride = s_.patch});
    for (int64_t i = 0; i < s_.depth; ++i) block(fmt::format("blocks.{}.", i));
    if (!s_.norm_after) norm("norm", true);
    if (s_.pool == "map") attention_pool();
    if (s_.norm_after) norm("fc_norm", false);
    a_.head = linear("head", d, a_.classes, false);
    a_.features = d;
  }

 private:
  int add(Layer layer) {
    layer.more_positions =
        layer.total_stride && s_.pool == "tok" && layer.kind != Layer::Kind::conv;
    a_.layers.push_back(std::move(layer));
    return static_cast<int>(a_.layers.size()) - 1;
  }
  void table(const std::string& name, int64_t rows) {
    add({.name = name, .kind = Layer::Kind::table, .in = s_.width, .out = rows, .total_stride = 0});
  }
  // `tokens`: of every token, else of one position.
  void norm(const std::string& name, bool tokens) {
    add({.name = name,
         .kind = Layer::Kind::norm,
         .in = s_.width,
         .out = s_.width,
         .total_stride = tokens ? s_.patch : 0});
  }
  int linear(const std::string& name, int64_t in, int64_t out, bool tokens) {
    return add({.name = name,
                .kind = Layer::Kind::linear,
                .in = in,
                .out = out,
                .total_stride = tokens ? s_.patch : 0});
  }
  void attention(const std::string& name, bool one_query) {
    add({.name = name,
         .kind = Layer::Kind::attention,
         .in = s_.width,
         .out = s_.width,
         .total_stride = s_.patch,
         .one_query = one_query});
  }

  void block(const std::string& name) {
    const int64_t d = s_.width;
    norm(name + "norm1", true);
    linear(name + "attn.qkv", d, 3 * d, true);
    attention(name + "attn", false);
    linear(name + "attn.proj", d, d, true);
    norm(name + "norm2", true);
    linear(name + "mlp.fc1", d, s_.mlp, true);
    linear(name + "mlp.fc2", s_.mlp, d, true);
  }

  void attention_pool() {
    const int64_t d = s_.width;
    table("attn_pool.latent", 1);
    linear("attn_pool.q", d, d, false);
    linear("attn_pool.kv", d, 2 * d, true);
    attention("attn_pool", true);
    linear("attn_pool.proj", d, d, false);
    norm("attn_pool.norm", false);
    linear("attn_pool.mlp.fc1", d, s_.mlp, false);
    linear("attn_pool.mlp.fc2", s_.mlp, d, false);
  }

  Arch& a_;
  const VitShape& s_;
};

}  // namespace

void build_vit(const ModelConfig& config, Sides sides, Arch& arch) {
  arch.vit = shape_of(config, sides);
  Builder(arch).build();
  // Both branches of a block at the rate of the block, which rises to that of the configuration.
  for (int64_t i = 0; i < arch.vit.depth; ++i) {
    const double share =
        arch.vit.depth > 1 ? static_cast<double>(i) / static_cast<double>(arch.vit.depth - 1) : 0;
    arch.branch_rates.insert(arch.branch_rates.end(), 2, config.stochastic_depth * share);
  }
}

std::vector<std::string> vit_names() {
  std::vector<std::string> names;
  for (const Named& n : kNamed) names.emplace_back(n.name);
  return names;
}

}  // namespace nfscale
