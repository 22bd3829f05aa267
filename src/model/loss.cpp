#include "model/loss.h"

#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/log_softmax.h>

namespace nfscale {

at::Tensor softmax_loss(const at::Tensor& logits, const at::Tensor& labels, double smoothing) {
  const at::Tensor log_p = at::log_softmax(logits, 1);
  const at::Tensor own = log_p.gather(1, labels.unsqueeze(1)).squeeze(1);
  if (smoothing == 0) return -own;
  return -(own * (1 - smoothing) + log_p.mean(1) * smoothing);
}

at::Tensor sigmoid_loss(const at::Tensor& logits, const at::Tensor& targets, double smoothing) {
  const at::Tensor y = targets * (1 - smoothing) + smoothing / static_cast<double>(logits.size(1));
  return at::binary_cross_entropy_with_logits(logits, y, {}, {}, at::Reduction::None).sum(1);
}

}  // namespace nfscale
