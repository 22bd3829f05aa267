#include "model/model.h"

#include <ATen/ops/zeros.h>

namespace nfscale {

Model make_model(const Arch& arch, at::ScalarType type) {
  Model model{arch, arch.params(), {}};
  for (const Param& p : model.params)
    model.weights.push_back(at::zeros(p.shape, at::TensorOptions(type)).requires_grad_());
  return model;
}

}  // namespace nfscale
