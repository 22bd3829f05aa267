#include "model/nfnet.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/mean.h>

#include <unordered_map>

#include "model/conv.h"
#include "model/ops.h"

namespace nfscale {
namespace {

class Forward {
 public:
  Forward(const Model& model, Filters& filters, const Masks* masks, const Observer& observe)
      : m_(model),
        filters_(filters),
        masks_(masks),
        observe_(observe),
        numerics_(numerics_of(model.arch)),
        gelu_(numerics_ == Numerics::timm ? Activation::gelu_erf : Activation::gelu_tanh),
        factors_(input_factors(model.arch)) {
    for (size_t i = 0; i < m_.params.size(); ++i) by_name_[m_.params[i].name] = i;
  }

  at::Tensor run(at::Tensor x) {
    const Arch& a = m_.arch;
    x = chain(a.stem, x, Activation::none);
    for (size_t i = 0; i < a.blocks.size(); ++i) x = block(a.blocks[i], i, x);
    x = conv(a.final_conv, x, Activation::none);
    // In the weights' type, which is at least float: logits and loss never are bfloat16.
    const at::Tensor& head = weight("head.fc.weight");
    at::Tensor pool =
        kernels() ? mean_by_kernels(x, gelu_)
                  : at::mean(gelu(x, numerics_), at::IntArrayRef{2, 3}, false, head.scalar_type());
    pool = pool * kGeluFactor;
    seen("pool", pool);
    if (masks_ && masks_->head.defined())
      pool = pool * (masks_->head.to(pool.scalar_type()) / (1 - a.drop_rate));
    return at::linear(pool, head, weight("head.fc.bias"));
  }

 private:
  bool kernels() const { return !filters_.of_layer.empty(); }

  const at::Tensor& weight(const std::string& name) const { return m_.weights[by_name_.at(name)]; }

  DenseGradient* dense_gradient(const std::string& name) const {
    const size_t i = by_name_.at(name);
    if (filters_.dense.empty() || filters_.dense[i].weight_squares.empty()) return nullptr;
    return &filters_.dense[i];
  }

  void seen(const std::string& name, const at::Tensor& value) const {
    if (observe_) observe_(name, value);
  }

  at::Tensor conv(int layer, const at::Tensor& x, Activation activation) const {
    const auto at = static_cast<size_t>(layer);
    const Layer& l = m_.arch.layers[at];
    const at::Tensor& bias = weight(l.name + ".bias");
    at::Tensor y;
    if (kernels()) {
      y = convolve(x, activation, filters_, at, bias, l.stride, l.groups);
    } else {
      const at::Tensor w = standardize(weight(l.name + ".weight"), weight(l.name + ".gain"),
                                       numerics_, factors_[at]);
      y = conv_same(activation == Activation::none ? x : gelu(x, numerics_), w, bias, l.stride,
                    l.groups);
    }
    seen(l.name, y);
    return y;
  }

  // Convolutions with an activation in front of each, `first` in front of the first. Where only the
  // activated values are needed, in evaluation, each is made by the convolution before it.
  at::Tensor chain(const std::array<int, 4>& layers, at::Tensor x, Activation first) const {
    const bool behind = kernels() && !at::GradMode::is_enabled() && !observe_ &&
                        filters_.of_layer[static_cast<size_t>(layers[0])].packed.defined();
    for (size_t i = 0; i < layers.size(); ++i) {
      if (!behind) {
        x = conv(layers[i], x, i ? gelu_ : first);
        continue;
      }
      const auto at = static_cast<size_t>(layers[i]);
      const Layer& l = m_.arch.layers[at];
      const bool last = i + 1 == layers.size();
      const Filter& f = filters_.of_layer[at];
      const ConvSettings settings = {l.stride, l.groups, i ? Activation::none : first,
                                     last ? Activation::none : gelu_};
      x = conv_forward(settings, x, f.value, weight(l.name + ".bias"), f.packed);
    }
    return x;
  }

  at::Tensor block(const Block& b, size_t index, const at::Tensor& x) const {
    at::Tensor shortcut = x;
    if (b.projection >= 0 && b.stride == 1) shortcut = conv(b.projection, x, gelu_);
    if (b.projection >= 0 && b.stride == 2)
      shortcut =
          conv(b.projection,
               kernels() ? shortcut_pool_by_kernels(x, gelu_) : shortcut_pool(gelu(x, numerics_)),
               Activation::none);
    const at::Tensor h = chain({b.conv1, b.conv2, b.conv2b, b.conv3}, x, gelu_);
    const std::string name = b.name + ".attn_last.";
    const SqueezeExcite se = {
        weight(name + "fc1.weight"),         weight(name + "fc1.bias"),
        weight(name + "fc2.weight"),         weight(name + "fc2.bias"),
        dense_gradient(name + "fc1.weight"), dense_gradient(name + "fc2.weight")};
    // The gate's factor 2, alpha, the skip gain and the mask are one number for an example.
    const at::Tensor& gain = weight(b.name + ".skipinit_gain");
    at::Tensor factor = gain * (2 * m_.arch.alpha);
    if (masks_ && masks_->drop_path[index].defined()) {
      // timm rescales the branches that it keeps, DeepMind's program does not.
      const double keep = numerics_ == Numerics::timm ? 1 - m_.arch.branch_rates[index] : 1;
      factor = factor * (masks_->drop_path[index].to(factor.scalar_type()) / keep).unsqueeze(1);
    }
    const auto [out, gate] = kernels() ? squeeze_excite_add_by_kernels(shortcut, h, se, factor)
                                       : squeeze_excite_add(shortcut, h, se, factor);
    seen(name + "gate", gate);
    seen(b.name, out);
    return out;
  }

  const Model& m_;
  Filters& filters_;
  const Masks* masks_;
  const Observer& observe_;
  Numerics numerics_;
  Activation gelu_;
  std::vector<double> factors_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace

at::Tensor forward_nfnet(const Model& model, Filters& filters, const at::Tensor& images,
                         const Masks* masks, const Observer& observe) {
  return Forward(model, filters, masks, observe).run(images);
}

}  // namespace nfscale
