#include "train/optimizer.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/zeros_like.h>
#include <fnmatch.h>

#include "base/error.h"
#include "model/rows.h"

namespace nfscale {
namespace {

bool decays(const std::string& name) {
  return !name.ends_with(".bias") && !name.ends_with("gain");
}

// The sum over a tensor in pieces of a fixed size, so that the number of threads changes no bit.
double tensor_squares(const at::Tensor& t) {
  constexpr int64_t kPiece = 65536;
  const int64_t pieces = (t.numel() + kPiece - 1) / kPiece;
  std::vector<double> sums(static_cast<size_t>(pieces));
  AT_DISPATCH_FLOATING_TYPES(t.scalar_type(), "tensor_squares", [&] {
    const scalar_t* values = t.const_data_ptr<scalar_t>();
    at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        sums[static_cast<size_t>(i)] =
            row_squares(values + i * kPiece, 0, std::min(kPiece, t.numel() - i * kPiece));
    });
  });
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

int64_t units_of(const at::Tensor& p, const std::string& rule) {
  int64_t wide = 0;
  for (const int64_t side : p.sizes()) wide += side > 1;
  const bool whole = rule == "timm" ? p.dim() <= 1 : wide <= 1;
  return whole ? 1 : p.size(0);
}

}  // namespace

OptimizerSettings optimizer_settings(const OptimConfig& c) {
  return {.momentum = c.momentum,
          .weight_decay = c.weight_decay,
          .head_weight_decay = c.head_weight_decay.value_or(c.weight_decay),
          .agc = c.agc,
          .clip_norm = c.clip_norm,
          .nesterov = c.nesterov,
          .agc_rule = c.agc_rule,
          .agc_exclude = c.agc_exclude.value_or(std::vector<std::string>{})};
}

bool glob_matches(std::string_view pattern, std::string_view text) {
  return ::fnmatch(std::string(pattern).c_str(), std::string(text).c_str(), 0) == 0;
}

Optimizer::Optimizer(std::vector<Param> params, const std::vector<at::Tensor>& weights,
                     OptimizerSettings settings)
    : params_(std::move(params)), settings_(std::move(settings)) {
  for (const at::Tensor& w : weights) momentum.push_back(at::zeros_like(w.detach()));
  clipped_.assign(params_.size(), settings_.agc > 0);
  for (const std::string& pattern : settings_.agc_exclude) {
    bool found = false;
    for (size_t i = 0; i < params_.size(); ++i) {
      if (!glob_matches(pattern, params_[i].name)) continue;
      clipped_[i] = false;
      found = true;
    }
    if (!found) fail(Exit::usage, "optim.agc_exclude: no parameter matches \"{}\"", pattern);
  }
}

std::pair<int64_t, int64_t> adaptive_clip(const at::Tensor& p, at::Tensor g, double threshold,
                                          double eps, const std::string& rule) {
  const int64_t units = units_of(p, rule), n = p.numel() / units;
  std::vector<uint8_t> cut(static_cast<size_t>(units));
  AT_DISPATCH_FLOATING_TYPES(p.scalar_type(), "adaptive_clip", [&] {
    const scalar_t* weights = p.const_data_ptr<scalar_t>();
    scalar_t* grads = g.data_ptr<scalar_t>();
    at::parallel_for(0, units, std::max<int64_t>(1, 16384 / n), [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u) {
        const double limit =
            threshold * std::max(std::sqrt(row_squares(weights + u * n, 0, n)), eps);
        const double norm = std::sqrt(row_squares(grads + u * n, 0, n));
        if (!(norm > limit)) continue;
        cut[static_cast<size_t>(u)] = 1;
        const double factor = limit / std::max(norm, 1e-6);
        row_scale(grads + u * n, grads + u * n, factor, 0, n);
      }
    });
  });
  return {std::count(cut.begin(), cut.end(), 1), units};
}

StepStats Optimizer::clip(const std::vector<at::Tensor>& weights) const {
  StepStats stats;
  double sum = 0;
  for (const at::Tensor& w : weights)
    if (w.grad().defined()) sum += tensor_squares(w.grad());
  stats.grad_norm = std::sqrt(sum);
  if (!std::isfinite(stats.grad_norm)) return stats;
  int64_t cut = 0, units = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!clipped_[i] || !weights[i].grad().defined()) continue;
    const auto [c, u] = adaptive_clip(weights[i], weights[i].grad(), settings_.agc,
                                      settings_.agc_eps, settings_.agc_rule);
    cut += c;
    units += u;
  }
  stats.agc_clipped = units ? static_cast<double>(cut) / static_cast<double>(units) : 0;
  if (settings_.clip_norm > 0) {
    double after = 0;
    for (const at::Tensor& w : weights)
      if (w.grad().defined()) after += tensor_squares(w.grad());
    const double factor = settings_.clip_norm / std::max(std::sqrt(after), 1e-12);
    if (factor < 1)
      for (const at::Tensor& w : weights)
        if (w.grad().defined()) w.grad().mul_(factor);
  }
  return stats;
}

void Optimizer::step(const std::vector<at::Tensor>& weights, double lr) {
  const at::NoGradGuard no_grad;
  for (size_t k = 0; k < weights.size(); ++k) {
    if (!weights[k].grad().defined()) continue;
    const std::string& name = params_[k].name;
    const double decay = !decays(name)              ? 0
                         : name == "head.fc.weight" ? settings_.head_weight_decay
                                                    : settings_.weight_decay;
    AT_DISPATCH_FLOATING_TYPES(weights[k].scalar_type(), "sgd_step", [&] {
      const auto wd = static_cast<scalar_t>(decay), mu = static_cast<scalar_t>(settings_.momentum),
                 rate = static_cast<scalar_t>(lr);
      const bool nesterov = settings_.nesterov;
      scalar_t *p = weights[k].data_ptr<scalar_t>(), *m = momentum[k].data_ptr<scalar_t>();
      const scalar_t* grads = weights[k].grad().const_data_ptr<scalar_t>();
      at::parallel_for(0, weights[k].numel(), 16384, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const scalar_t g = grads[i] + wd * p[i];
          m[i] = mu * m[i] + g;
          p[i] -= rate * (nesterov ? g + mu * m[i] : m[i]);
        }
      });
    });
  }
}

void update_ema(const std::vector<at::Tensor>& average, const std::vector<at::Tensor>& weights,
                double decay, uint64_t step) {
  const auto t = static_cast<double>(step);
  const double d = std::min(decay, (1 + t) / (10 + t));
  for (size_t k = 0; k < weights.size(); ++k) {
    AT_DISPATCH_FLOATING_TYPES(weights[k].scalar_type(), "update_ema", [&] {
      const auto keep = static_cast<scalar_t>(d), add = static_cast<scalar_t>(1 - d);
      scalar_t* a = average[k].data_ptr<scalar_t>();
      const scalar_t* p = weights[k].const_data_ptr<scalar_t>();
      at::parallel_for(0, weights[k].numel(), 16384, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) a[i] = keep * a[i] + add * p[i];
      });
    });
  }
}

}  // namespace nfscale
