#include "train/adafactor.h"

#include <ATen/ops/mean.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/zeros.h>

#include <cmath>

namespace nfscale {
namespace {

// How the tensors of an attention are seen: rows of `letters`, one after the other.
struct Fused {
  const char* suffix;
  const char* letters;
};
constexpr Fused kFused[] = {{".attn.qkv.", "qkv"}, {"attn_pool.q.", "q"}, {"attn_pool.kv.", "kv"}};

std::vector<AdafactorPart> parts_of(size_t k, const Param& p, int64_t heads) {
  AdafactorPart whole{.parameter = k, .name = p.name, .first = 0, .rows = 0, .shape = p.shape};
  whole.rows = p.shape.empty() ? 1 : p.shape[0];
  if (heads == 0) return {whole};
  if (p.name.ends_with("attn.proj.weight") || p.name == "attn_pool.proj.weight") {
    whole.shape = {p.shape[0], heads, p.shape[1] / heads};
    return {whole};
  }
  for (const Fused& fused : kFused) {
    if (p.name.find(fused.suffix) == std::string::npos) continue;
    const std::string letters = fused.letters;
    const int64_t width = p.shape[0] / std::ssize(letters);
    std::vector<AdafactorPart> parts;
    for (const char letter : letters) {
      AdafactorPart part = whole;
      part.name += std::string("/") + letter;
      part.first = std::ssize(parts) * width;
      part.rows = width;
      part.shape = {heads, width / heads};
      part.shape.insert(part.shape.end(), p.shape.begin() + 1, p.shape.end());
      parts.push_back(part);
    }
    return parts;
  }
  return {whole};
}

// The two largest axes; of equal ones the later counts as the larger.
void choose_axes(AdafactorPart& part, int64_t least) {
  const auto at = [&](int64_t axis) { return part.shape[static_cast<size_t>(axis)]; };
  int64_t largest = -1, next = -1;
  for (int64_t axis = 0; axis < std::ssize(part.shape); ++axis) {
    if (largest < 0 || at(axis) >= at(largest)) {
      next = largest;
      largest = axis;
    } else if (next < 0 || at(axis) >= at(next)) {
      next = axis;
    }
  }
  if (next >= 0 && at(next) >= least) part.largest = largest, part.next = next;
}

at::Tensor zeros_without(const AdafactorPart& part, int64_t axis,
                         const at::TensorOptions& options) {
  std::vector<int64_t> shape = part.shape;
  shape.erase(shape.begin() + axis);
  return at::zeros(shape, options);
}

at::Tensor seen(const AdafactorPart& part, const at::Tensor& t) {
  return t.dim() == 0 ? t : t.narrow(0, part.first, part.rows).view(part.shape);
}

// g over the root of its second moment, which takes up g first.
at::Tensor normalised(AdafactorPart& part, const at::Tensor& g, const AdafactorSettings& s,
                      double keep) {
  const at::Tensor squares = g * g + s.eps;
  if (part.largest < 0) {
    part.full.mul_(keep).add_(squares, 1 - keep);
    return g / at::sqrt(part.full);
  }
  const auto mean = [](const at::Tensor& t, int64_t axis) {
    return at::mean(t, at::IntArrayRef{axis}, /*keepdim=*/true);
  };
  part.row.mul_(keep).add_(mean(squares, part.largest).squeeze(part.largest), 1 - keep);
  part.column.mul_(keep).add_(mean(squares, part.next).squeeze(part.next), 1 - keep);
  const at::Tensor row = part.row.unsqueeze(part.largest);
  return g / at::sqrt(row / mean(row, part.next)) / at::sqrt(part.column.unsqueeze(part.next));
}

}  // namespace

std::vector<AdafactorPart> adafactor_parts(const std::vector<Param>& params,
                                           const std::vector<at::Tensor>& weights,
                                           const AdafactorSettings& s) {
  std::vector<AdafactorPart> all;
  for (size_t k = 0; k < params.size(); ++k)
    for (AdafactorPart& part : parts_of(k, params[k], s.heads)) {
      const at::TensorOptions options(weights[k].scalar_type());
      choose_axes(part, s.min_dim_factored);
      part.momentum =
          at::zeros(part.shape, s.bf16_momentum ? options.dtype(at::kBFloat16) : options);
      if (part.largest < 0) {
        part.full = at::zeros(part.shape, options);
      } else {
        part.row = zeros_without(part, part.largest, options);
        part.column = zeros_without(part, part.next, options);
      }
      all.push_back(std::move(part));
    }
  return all;
}

void adafactor_update(AdafactorPart& part, const at::Tensor& p, const at::Tensor& g,
                      const AdafactorSettings& s, double lr, double decay, uint64_t t) {
  const double keep =
      std::min(s.beta2_cap, 1 - std::pow(static_cast<double>(t), -s.decay_exponent));
  at::Tensor u = normalised(part, seen(part, g), s, keep);
  if (s.clip_threshold > 0) {
    const double size = std::sqrt(at::mean(u * u).item<double>());
    u = u / std::max(1.0, size / s.clip_threshold);
  }
  const at::Tensor m = part.momentum.to(u.scalar_type()) * s.beta1 + u * (1 - s.beta1);
  at::Tensor values = seen(part, p);
  values.sub_((m + values * decay) * lr);
  // From float, also where this computes in double.
  part.momentum.copy_(s.bf16_momentum ? m.to(at::kFloat) : m);
}

}  // namespace nfscale
