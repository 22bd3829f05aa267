#include "model/vit.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/upsample_bilinear2d.h>

#include <unordered_map>

#include "base/error.h"
#include "model/attention.h"
#include "model/ops.h"

namespace nfscale {
namespace {

// Tokens are [N, T, D], the class token first where there is one.
class Forward {
 public:
  Forward(const Model& model, Filters& filters, const Masks* masks, const Observer& observe)
      : m_(model),
        filters_(filters),
        s_(model.arch.vit),
        masks_(masks),
        observe_(observe),
        timm_(numerics_of(model.arch) == Numerics::timm) {
    for (size_t i = 0; i < m_.params.size(); ++i) by_name_[m_.params[i].name] = i;
    for (size_t i = 0; i < m_.arch.layers.size(); ++i) layers_[m_.arch.layers[i].name] = i;
  }

  at::Tensor run(const at::Tensor& images) const {
    at::Tensor x = embed(images);
    seen("embed", x);
    for (int64_t i = 0; i < s_.depth; ++i) {
      const std::string name = fmt::format("blocks.{}", i);
      const auto branch = static_cast<size_t>(2 * i);
      x = x + kept(attention(name + ".attn", norm(name + ".norm1", x)), branch);
      x = x + kept(mlp(name + ".mlp", norm(name + ".norm2", x)), branch + 1);
      seen(name, x);
    }
    // In the weights' type, which is at least float: logits and loss never are bfloat16.
    const at::Tensor& head = weight("head.weight");
    at::Tensor pool = features(x).to(head.scalar_type());
    seen("pool", pool);
    if (masks_ && masks_->head.defined())
      pool = pool * (masks_->head.to(pool.scalar_type()) / (1 - m_.arch.drop_rate));
    return at::linear(pool, head, weight("head.bias"));
  }

 private:
  const at::Tensor& weight(const std::string& name) const { return m_.weights[by_name_.at(name)]; }
  void seen(const std::string& name, const at::Tensor& value) const {
    if (observe_) observe_(name, value);
  }

  // Of gelu(x) where an activation stands in front.
  at::Tensor linear(const std::string& name, const at::Tensor& x, bool activate = false) const {
    const size_t layer = layers_.at(name);
    const at::Tensor& bias = weight(name + ".bias");
    if (!filters_.of_layer.empty() && filters_.of_layer[layer].value.defined()) {
      const Activation gelu = timm_ ? Activation::gelu_erf : Activation::gelu_tanh;
      return linear_by_kernels(x, activate ? gelu : Activation::none, filters_, layer, bias);
    }
    const auto type = x.scalar_type();
    return at::linear(activate ? at::gelu(x, timm_ ? "none" : "tanh") : x,
                      weight(name + ".weight").to(type), bias.to(type));
  }
  // Epsilon of both programs.
  at::Tensor norm(const std::string& name, const at::Tensor& x) const {
    return at::layer_norm(x, {s_.width}, weight(name + ".weight"), weight(name + ".bias"), 1e-6);
  }
  at::Tensor mlp(const std::string& name, const at::Tensor& x) const {
    return linear(name + ".fc2", linear(name + ".fc1", x), /*activate=*/true);
  }

  // Rows of a fused layer are queries, keys and values, each head by head.
  at::Tensor heads(const at::Tensor& x) const {
    return x.unflatten(-1, {s_.heads, s_.width / s_.heads}).transpose(1, 2);
  }
  bool by_kernels(const at::Tensor& x) const {
    return !filters_.of_layer.empty() && x.is_cpu() && has_attention(s_.width / s_.heads);
  }
  // Of keys and values beside each other, with the queries in front where there is no q.
  at::Tensor attend(const at::Tensor& q, const at::Tensor& kv) const {
    if (by_kernels(kv)) return attend_by_kernels(q, kv, s_.heads);
    const std::vector<at::Tensor> parts = kv.chunk(q.defined() ? 2 : 3, -1);
    return at::scaled_dot_product_attention(heads(q.defined() ? q : parts[0]),
                                            heads(parts[parts.size() - 2]), heads(parts.back()))
        .transpose(1, 2)
        .flatten(2);
  }
  at::Tensor attention(const std::string& name, const at::Tensor& x) const {
    return linear(name + ".proj", attend({}, linear(name + ".qkv", x)));
  }

  // What stochastic depth leaves of a branch; the branches that are kept are scaled up.
  at::Tensor kept(const at::Tensor& x, size_t branch) const {
    if (!masks_ || !masks_->drop_path[branch].defined()) return x;
    const double keep = 1 - m_.arch.branch_rates[branch];
    return x * (masks_->drop_path[branch].to(x.scalar_type()) / keep).view({-1, 1, 1});
  }

  // [N, patches, D]
  at::Tensor embed_patches(const at::Tensor& images) const {
    const int64_t p = s_.patch;
    const std::string name = "patch_embed.proj";
    if (filters_.of_layer.empty())
      return at::conv2d(images, weight(name + ".weight").to(images.scalar_type()),
                        weight(name + ".bias").to(images.scalar_type()), p)
          .flatten(2)
          .transpose(1, 2);
    // The pixels of a patch one behind the other.
    const at::Tensor pixels = images.permute({0, 2, 3, 1})
                                  .unflatten(2, {images.size(3) / p, p})
                                  .unflatten(1, {images.size(2) / p, p})
                                  .transpose(2, 3)
                                  .flatten(3)
                                  .flatten(1, 2);
    return linear(name, pixels);
  }

  at::Tensor embed(const at::Tensor& images) const {
    const int64_t p = s_.patch;
    for (const int64_t axis : {2, 3})
      if (images.size(axis) % p != 0)
        fail(Exit::usage, "{}: patches of {} pixels do not divide pictures of {} x {}",
             m_.arch.name, p, images.size(2), images.size(3));
    const auto type = images.scalar_type();
    const at::Tensor patches = embed_patches(images);
    const at::Tensor positions =
        resize_position_embedding(weight("pos_embed"), s_.prefix(), s_.grid,
                                  {images.size(2) / p, images.size(3) / p}, numerics_of(m_.arch))
            .to(type);
    at::Tensor x = patches + positions.slice(1, s_.prefix());
    if (s_.pool != "tok") return x;
    at::Tensor token = weight("cls_token").to(type);
    if (s_.class_position) token = token + positions.slice(1, 0, 1);
    return at::cat({token.expand({x.size(0), 1, s_.width}), x}, 1);
  }

  at::Tensor features(const at::Tensor& tokens) const {
    const at::Tensor x = s_.norm_after ? tokens : norm("norm", tokens);
    if (s_.pool == "tok") return x.select(1, 0);
    if (s_.pool == "gap") {
      const at::Tensor mean = at::mean(x, at::IntArrayRef{1});
      return s_.norm_after ? norm("fc_norm", mean) : mean;
    }
    const at::Tensor latent = weight("attn_pool.latent").to(x.scalar_type());
    const at::Tensor kv = linear("attn_pool.kv", x);
    const at::Tensor q = linear("attn_pool.q", latent).expand({x.size(0), 1, s_.width});
    const at::Tensor y = linear("attn_pool.proj", attend(q, kv));
    return (y + mlp("attn_pool.mlp", norm("attn_pool.norm", y))).select(1, 0);
  }

  const Model& m_;
  Filters& filters_;
  const VitShape& s_;
  const Masks* masks_;
  const Observer& observe_;
  bool timm_;
  std::unordered_map<std::string, size_t> by_name_, layers_;
};

}  // namespace

at::Tensor resize_position_embedding(const at::Tensor& embedding, int64_t prefix, Sides from,
                                     Sides to, Numerics numerics) {
  if (from == to) return embedding;
  const at::Tensor grid =
      embedding.slice(1, prefix).transpose(1, 2).unflatten(2, {from[0], from[1]}).contiguous();
  const at::Tensor resized = numerics == Numerics::timm
                                 ? at::_upsample_bicubic2d_aa(grid, to, /*align_corners=*/false)
                                 : at::upsample_bilinear2d(grid, to, /*align_corners=*/true);
  return at::cat({embedding.slice(1, 0, prefix), resized.flatten(2).transpose(1, 2)}, 1);
}

at::Tensor forward_vit(const Model& model, Filters& filters, const at::Tensor& images,
                       const Masks* masks, const Observer& observe) {
  return Forward(model, filters, masks, observe).run(images);
}

}  // namespace nfscale
