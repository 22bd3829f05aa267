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

}  // namespace

void init_weights(Model& model, uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (size_t t = 0; t < model.params.size(); ++t) {
    const Param& p = model.params[t];
    at::Tensor& w = model.weights[t];
    if (!p.is_weight()) {
      w.fill_(p.name.ends_with(".gain") ? 1 : 0);
      continue;
    }
    const double deviation =
        p.kind == Layer::Kind::linear ? 0.01 : std::sqrt(1 / static_cast<double>(p.fan_in));
    const bool truncated = p.kind == Layer::Kind::conv && model.arch.numerics == "deepmind";
    float* values = w.data_ptr<float>();
    at::parallel_for(0, w.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        values[i] = static_cast<float>(deviation * normal(seed, t, i, truncated));
    });
  }
}

}  // namespace nfscale
