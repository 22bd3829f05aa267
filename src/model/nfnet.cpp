#include "model/nfnet.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/zeros.h>

#include <unordered_map>

#include "base/error.h"

namespace nfscale {
namespace {

// 1 / std(gelu(z)) for z ~ N(0, 1), as both programs write it (B21 appendix C).
constexpr double kGeluFactor = 1.7015043497085571;

class Forward {
 public:
  Forward(const Model& model, const Masks* masks, const Observer& observe)
      : m_(model),
        masks_(masks),
        observe_(observe),
        numerics_(model.arch.numerics == "timm" ? Numerics::timm : Numerics::deepmind) {
    for (size_t i = 0; i < m_.params.size(); ++i) by_name_[m_.params[i].name] = i;
  }

  at::Tensor run(at::Tensor x) {
    const Arch& a = m_.arch;
    x = conv(a.stem[0], x, 1);
    for (size_t i = 1; i < a.stem.size(); ++i) x = conv(a.stem[i], gelu(x, numerics_), kGeluFactor);
    for (size_t i = 0; i < a.blocks.size(); ++i) x = block(a.blocks[i], i, x);
    x = gelu(conv(a.final_conv, x, 1), numerics_);
    // In the weights' type, which is at least float: logits and loss never are bfloat16.
    const at::Tensor& head = weight("head.fc.weight");
    at::Tensor pool = at::mean(x, at::IntArrayRef{2, 3}, false, head.scalar_type()) * kGeluFactor;
    seen("pool", pool);
    if (masks_ && masks_->head.defined())
      pool = pool * (masks_->head.to(pool.scalar_type()) / (1 - a.drop_rate));
    return at::linear(pool, head, weight("head.fc.bias"));
  }

 private:
  const at::Tensor& weight(const std::string& name) const { return m_.weights[by_name_.at(name)]; }

  void seen(const std::string& name, const at::Tensor& value) const {
    if (observe_) observe_(name, value);
  }

  // `factor` is that of the activation which made x; the weights take it over.
  at::Tensor conv(int layer, const at::Tensor& x, double factor) const {
    const Layer& l = m_.arch.layers[static_cast<size_t>(layer)];
    const at::Tensor w =
        standardize(weight(l.name + ".weight"), weight(l.name + ".gain"), numerics_, factor);
    const at::Tensor y = conv_same(x, w, weight(l.name + ".bias"), l.stride, l.groups);
    seen(l.name, y);
    return y;
  }

  at::Tensor block(const Block& b, size_t index, const at::Tensor& x) const {
    at::Tensor h = gelu(x, numerics_);
    const double scaled = kGeluFactor * b.beta;
    at::Tensor shortcut = x;
    if (b.projection >= 0)
      shortcut = conv(b.projection, b.stride == 2 ? shortcut_pool(h) : h, scaled);
    h = conv(b.conv1, h, scaled);
    h = conv(b.conv2, gelu(h, numerics_), kGeluFactor);
    h = conv(b.conv2b, gelu(h, numerics_), kGeluFactor);
    h = conv(b.conv3, gelu(h, numerics_), kGeluFactor);
    const std::string se = b.name + ".attn_last.";
    const at::Tensor gate =
        squeeze_excite_gate(h, weight(se + "fc1.weight"), weight(se + "fc1.bias"),
                            weight(se + "fc2.weight"), weight(se + "fc2.bias"));
    seen(se + "gate", gate);
    // Gate, its factor 2, alpha, the skip gain and the mask are one number for each channel of an
    // example.
    const at::Tensor& gain = weight(b.name + ".skipinit_gain");
    at::Tensor factor = gate.to(gain.scalar_type()) * (gain * (2 * m_.arch.alpha));
    if (masks_ && masks_->drop_path[index].defined()) {
      // timm rescales the branches that it keeps, DeepMind's program does not.
      const double keep = numerics_ == Numerics::timm ? 1 - b.stochastic_depth : 1;
      factor = factor * (masks_->drop_path[index].to(factor.scalar_type()) / keep).unsqueeze(1);
    }
    const at::Tensor out = add_scaled(shortcut, h, factor);
    seen(b.name, out);
    return out;
  }

  const Model& m_;
  const Masks* masks_;
  const Observer& observe_;
  Numerics numerics_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace

Model make_model(const Arch& arch, at::ScalarType type) {
  Model model{arch, arch.params(), {}};
  for (const Param& p : model.params)
    model.weights.push_back(at::zeros(p.shape, at::TensorOptions(type)).requires_grad_());
  return model;
}

at::Tensor forward(const Model& model, const at::Tensor& images, at::ScalarType compute,
                   const Masks* masks, const Observer& observe) {
  return Forward(model, masks, observe)
      .run(images.to(at::TensorOptions(compute), false, false, at::MemoryFormat::ChannelsLast));
}

}  // namespace nfscale
