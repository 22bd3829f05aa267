// Adafactor as google-research/big_vision has it (Zhai et al., arXiv 2106.04560, section 3.4), with
// the gradient g of update t = 1, 2, ...:
//
//   b = min(beta2_cap, 1 - t^-decay_exponent);  q = g^2 + eps
//   factored:  R = b R + (1-b) mean of q over the largest axis,  C = b C + (1-b) over the next one,
//              u = g / sqrt(R / mean of R over the next one) / sqrt(C)
//   else:      V = b V + (1-b) q,  u = g / sqrt(V)
//   u = u / max(1, rms(u) / clip_threshold)          where there is a threshold
//   m = beta1 m + (1-beta1) u                        kept as bfloat16, without bias correction
//   p = p - lr (m + decay p)                         with m as it was before it was rounded
#pragma once

#include <string>
#include <vector>

#include "arch/arch.h"
#include "model/pch.h"

namespace nfscale {

struct AdafactorSettings {
  double beta1 = 0.9, beta2_cap = 0.999, decay_exponent = 0.8, eps = 1e-30, clip_threshold = 0;
  int64_t min_dim_factored = 32;
  bool bf16_momentum = true;
  int64_t heads = 0;  // of attentions, whose fused tensors are seen in parts; 0: as they are stored
};

// What the optimizer sees as one tensor: a parameter, or the queries, keys or values of one, with
// heads as an axis.
struct AdafactorPart {
  size_t parameter;
  std::string name;                 // the parameter's, with /q, /k or /v of a fused one
  int64_t first, rows;              // of the parameter
  std::vector<int64_t> shape;       // as it is seen
  int64_t largest = -1, next = -1;  // axes, where the second moment is factored
  // momentum [shape]; full [shape], or row and column without the axis that each averages over.
  at::Tensor momentum = {}, row = {}, column = {}, full = {};
};

std::vector<AdafactorPart> adafactor_parts(const std::vector<Param>& params,
                                           const std::vector<at::Tensor>& weights,
                                           const AdafactorSettings& settings);

// One update of the part of the parameter p with its gradient g, both as they are stored.
void adafactor_update(AdafactorPart& part, const at::Tensor& p, const at::Tensor& g,
                      const AdafactorSettings& settings, double lr, double decay, uint64_t t);

}  // namespace nfscale
