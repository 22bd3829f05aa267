#include "model/init.h"

#include "base/random.h"

namespace nfscale {
namespace {

// Standard normal number i of tensor t; `attempt` draws another one.
std::pair<double, double> draw(uint64_t seed, size_t tensor, int64_t pair, uint32_t attempt) {
  // Two pairs a block, 2^16 blocks an "epoch" of the counter.
  const auto block = static_cast<uint64_t>(pair) / 2;
  const Words w = words(seed, Op::init, tensor, static_cast<uint32_t>(block >> 16), attempt,
                        static_cast<uint32_t>(block & 0xFFFF));
  return pair % 2 == 0 ? normal_pair(w[0], w[1]) : normal_pair(w[2], w[3]);
}

double normal(uint64_t seed, size_t tensor, int64_t i, bool truncated) {
  for (uint32_t attempt = 0;; ++attempt) {
    const auto [a, b] = draw(seed, tensor, i / 2, attempt);
    const double z = i % 2 == 0 ? a : b;
    if (!truncated || std::abs(z) <= 2) return z;
  }
}

// Uniform in [-1, 1), number i of tensor t.
double uniform_number(uint64_t seed, size_t tensor, int64_t i) {
  const auto block = static_cast<uint64_t>(i) / 4;
  const Words w = words(seed, Op::init, tensor, static_cast<uint32_t>(block >> 16), 0,
                        static_cast<uint32_t>(block & 0xFFFF));
  return 2 * static_cast<double>(uniform(w[static_cast<size_t>(i % 4)])) - 1;
}

struct Distribution {
  enum class Kind { constant, normal, truncated, uniform } kind;
  double size;  // the value, the deviation before a cut at two of them, the bound
};
using Kind = Distribution::Kind;

Distribution nfnet_distribution(const Param& p, const Arch& arch) {
  if (!p.is_weight()) return {Kind::constant, p.name.ends_with(".gain") ? 1.0 : 0.0};
  if (p.kind == Layer::Kind::linear) return {Kind::normal, 0.01};
  const bool truncated = p.kind == Layer::Kind::conv && arch.numerics == "deepmind";
  return {truncated ? Kind::truncated : Kind::normal, std::sqrt(1 / static_cast<double>(p.fan_in))};
}

Distribution timm_vit_distribution(const Param& p, const Arch& arch) {
  const auto width = static_cast<double>(arch.vit.width);
  if (p.kind == Layer::Kind::conv)
    return {Kind::uniform, 1 / std::sqrt(static_cast<double>(p.fan_in))};
  if (p.name == "cls_token") return {Kind::normal, 1e-6};
  if (p.name == "attn_pool.latent") return {Kind::normal, 1 / std::sqrt(width)};
  if (p.is_weight() || p.name == "pos_embed") return {Kind::normal, 0.02};
  return {Kind::constant, p.name.ends_with(".weight") ? 1.0 : 0.0};  // of LayerNorms
}

Distribution vit_distribution(const Param& p, const Arch& arch) {
  const auto width = static_cast<double>(arch.vit.width), mlp = static_cast<double>(arch.vit.mlp);
  if (p.head) return {Kind::constant, p.is_weight() ? 0 : arch.vit.head_bias};
  if (p.kind == Layer::Kind::table) {
    if (p.name == "cls_token") return {Kind::constant, 0};
    if (p.name == "pos_embed") return {Kind::normal, 1 / std::sqrt(width)};
    return {Kind::uniform, std::sqrt(6 / (1 + width))};
  }
  if (!p.is_weight()) {
    if (p.name.ends_with(".weight")) return {Kind::constant, 1};
    const bool of_mlp = p.name.find(".mlp.") != std::string::npos;
    return {of_mlp ? Kind::normal : Kind::constant, of_mlp ? 1e-6 : 0};
  }
  // The deviation of a normal distribution cut at two sigma is 0.8796 of it.
  if (p.kind == Layer::Kind::conv)
    return {Kind::truncated, std::sqrt(1 / static_cast<double>(p.fan_in)) / 0.87962566103423978};
  const bool of_mlp = p.name.find(".mlp.") != std::string::npos;
  return {Kind::uniform, std::sqrt(6 / (width + (of_mlp ? mlp : width)))};
}

Distribution distribution_of(const Param& p, const Arch& arch) {
  if (!arch.is_vit()) return nfnet_distribution(p, arch);
  return arch.numerics == "timm" ? timm_vit_distribution(p, arch) : vit_distribution(p, arch);
}

}  // namespace

void init_weights(Model& model, uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (size_t t = 0; t < model.params.size(); ++t) {
    at::Tensor& w = model.weights[t];
    const Distribution d = distribution_of(model.params[t], model.arch);
    if (d.kind == Kind::constant) {
      w.fill_(d.size);
      continue;
    }
    float* values = w.data_ptr<float>();
    at::parallel_for(0, w.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        values[i] = static_cast<float>(
            d.size * (d.kind == Kind::uniform ? uniform_number(seed, t, i)
                                              : normal(seed, t, i, d.kind == Kind::truncated)));
    });
  }
}

}  // namespace nfscale
