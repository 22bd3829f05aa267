#include "train/optimizer.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"
#include "base/text.h"
#include "kernels/rows.h"
#include "model/parallel.h"

namespace nfscale {
namespace {

int64_t units_of(const at::Tensor& p, const std::string& rule) {
  int64_t wide = 0;
  for (const int64_t side : p.sizes()) wide += side > 1;
  const bool whole = rule == "timm" ? p.dim() <= 1 : wide <= 1;
  return whole ? 1 : p.size(0);
}

// Numbers that a thread takes at a time. A unit may be a whole tensor: then it is cut, always in
// the same way, so that the number of threads changes no bit.
constexpr int64_t kPiece = 32768;

std::vector<double> unit_squares(const at::Tensor& t, int64_t units) {
  const int64_t n = t.numel() / units, pieces = (n + kPiece - 1) / kPiece;
  std::vector<double> sums(static_cast<size_t>(units));
  AT_DISPATCH_FLOATING_TYPES(t.scalar_type(), "unit_squares", [&] {
    const scalar_t* values = t.const_data_ptr<scalar_t>();
    for (int64_t i = 0; i < units * pieces; ++i) {
      const int64_t from = i % pieces * kPiece;
      sums[static_cast<size_t>(i / pieces)] +=
          rows<scalar_t>().squares(values + i / pieces * n + from, 0, std::min(kPiece, n - from));
    }
  });
  return sums;
}

// limit / norm where the norm is above the limit, else 1; a norm that is not a number stays
// unclipped.
double clip_factor(double weight_squares, double gradient_squares, double threshold, double eps) {
  const double limit = threshold * std::max(std::sqrt(weight_squares), eps),
               norm = std::sqrt(gradient_squares);
  return norm > limit ? limit / std::max(norm, 1e-6) : 1;
}

}  // namespace

OptimizerSettings optimizer_settings(const OptimConfig& c, const Arch& arch) {
  if (c.name != "adafactor" && c.momentum_dtype == "bf16")
    not_supported("optim.momentum_dtype = \"bf16\" with optim.name = \"" + c.name + "\"");
  const bool heads = arch.is_vit() && c.view == "heads";
  return {.name = c.name,
          .momentum = c.momentum,
          .weight_decay = c.weight_decay,
          .head_weight_decay = c.head_weight_decay.value_or(c.weight_decay),
          .agc = c.agc.value_or(0),
          .clip_norm = c.clip_norm,
          .nesterov = c.nesterov,
          .agc_rule = c.agc_rule,
          .layer_decay = c.layer_decay,
          .agc_exclude = c.agc_exclude.value_or(std::vector<std::string>{}),
          .beta1 = c.beta1,
          .beta2 = c.beta2,
          .eps = c.eps.value_or(1e-8),
          .adafactor = {.beta1 = c.beta1,
                        .beta2_cap = c.beta2_cap,
                        .decay_exponent = c.decay_exponent,
                        .eps = c.eps.value_or(1e-30),
                        .clip_threshold = c.clip_threshold,
                        .min_dim_factored = c.min_dim_factored,
                        .bf16_momentum = c.momentum_dtype != "f32",
                        .heads = heads ? arch.vit.heads : 0}};
}

Optimizer::Optimizer(std::vector<Param> params, const std::vector<at::Tensor>& weights,
                     OptimizerSettings settings)
    : params_(std::move(params)), settings_(std::move(settings)) {
  if (settings_.name == "adafactor")
    parts_ = adafactor_parts(params_, weights, settings_.adafactor);
  else
    for (const at::Tensor& w : weights) momentum.push_back(at::zeros_like(w.detach()));
  if (settings_.name == "adamw")
    for (const at::Tensor& w : weights) second_.push_back(at::zeros_like(w.detach()));
  for (size_t k = 0; k < params_.size(); ++k) {
    const int64_t units = units_of(weights[k], settings_.agc_rule), n = weights[k].numel() / units;
    units_.push_back(units);
    // A row stays whole, however long: its filter is made of all of it.
    const int64_t step = std::max<int64_t>(1, kPiece / n), length = units > 1 ? n : kPiece;
    for (int64_t u = 0; u < units; u += step)
      for (int64_t from = 0; from < n; from += length)
        pieces_.push_back({k, u, std::min(u + step, units), from, std::min(n, from + length)});
  }
  clipped_.assign(params_.size(), settings_.agc > 0);
  // Where nothing is clipped, patterns may be those of another family of models.
  for (const std::string& pattern : settings_.agc_exclude) {
    bool found = false;
    for (size_t i = 0; i < params_.size(); ++i) {
      if (!glob_matches(pattern, params_[i].name)) continue;
      clipped_[i] = false;
      found = true;
    }
    if (!found && settings_.agc > 0)
      fail(Exit::usage, "optim.agc_exclude: no parameter matches \"{}\"", pattern);
  }
}

UnitNorms unit_norms(const at::Tensor& p, const at::Tensor& g, const std::string& rule) {
  const int64_t units = units_of(p, rule);
  return {unit_squares(p, units), unit_squares(g, units)};
}

std::pair<int64_t, int64_t> adaptive_clip(const at::Tensor& p, at::Tensor g, double threshold,
                                          double eps, const std::string& rule) {
  const UnitNorms norms = unit_norms(p, g, rule);
  const auto units = static_cast<int64_t>(norms.weight.size()), n = p.numel() / units;
  int64_t cut = 0;
  for (int64_t u = 0; u < units; ++u) {
    const double factor = clip_factor(norms.weight[static_cast<size_t>(u)],
                                      norms.gradient[static_cast<size_t>(u)], threshold, eps);
    if (factor == 1) continue;
    ++cut;
    AT_DISPATCH_FLOATING_TYPES(p.scalar_type(), "adaptive_clip", [&] {
      scalar_t* row = g.data_ptr<scalar_t>() + u * n;
      rows<scalar_t>().scale(row, row, factor, 0, n);
    });
  }
  return {cut, units};
}

StepStats Optimizer::clip(const Weights& weights, const Filters& filters) {
  const auto of = filters_by_weight(weights.size(), filters);
  std::vector<UnitNorms> norms(weights.size());
  for_tasks(static_cast<int64_t>(weights.size()), [&](int64_t i) {
    const auto k = static_cast<size_t>(i);
    if (params_[k].frozen) return;
    if (const DenseGradient* factors = factors_of(k, filters)) {
      norms[k] = {factors->weight_squares, dense_row_squares(*factors)};
      NFSCALE_CHECK(units_of(weights[k], settings_.agc_rule) == std::ssize(norms[k].weight));
      return;
    }
    if (!weights[k].grad().defined()) return;
    if (!of[k]) {
      norms[k] = unit_norms(weights[k], weights[k].grad(), settings_.agc_rule);
      return;
    }
    NFSCALE_CHECK(units_of(weights[k], settings_.agc_rule) == std::ssize(of[k]->squares));
    norms[k].gradient = of[k]->squares;
    for (const RowStatistics& row : of[k]->rows) norms[k].weight.push_back(row.squares);
  });
  double before = 0, after = 0;
  int64_t cut = 0, units = 0;
  factors_.assign(weights.size(), {});
  for (size_t k = 0; k < weights.size(); ++k) {
    for (size_t u = 0; u < norms[k].gradient.size(); ++u) {
      const double factor = clipped_[k] ? clip_factor(norms[k].weight[u], norms[k].gradient[u],
                                                      settings_.agc, settings_.agc_eps)
                                        : 1;
      factors_[k].push_back(factor);
      before += norms[k].gradient[u];
      after += factor * factor * norms[k].gradient[u];
      cut += factor < 1;
    }
    if (clipped_[k]) units += static_cast<int64_t>(norms[k].gradient.size());
  }
  if (settings_.clip_norm > 0 && std::sqrt(after) > settings_.clip_norm)
    for (auto& of_parameter : factors_)
      for (double& factor : of_parameter) factor *= settings_.clip_norm / std::sqrt(after);
  return {.grad_norm = std::sqrt(before),
          .agc_clipped = units ? static_cast<double>(cut) / static_cast<double>(units) : 0};
}

Optimizer::Rule Optimizer::rule(size_t parameter) const {
  const Param& p = params_[parameter];
  const double decay = p.head ? settings_.head_weight_decay : settings_.weight_decay;
  const auto below = static_cast<double>(params_.back().level - p.level);
  return {units_[parameter], clipped_[parameter], p.is_weight() ? decay : 0,
          std::pow(settings_.layer_decay, below)};
}

std::vector<NamedTensor> Optimizer::state() const {
  std::vector<NamedTensor> all;
  for (size_t k = 0; k < momentum.size(); ++k) all.push_back({params_[k].name, momentum[k]});
  for (size_t k = 0; k < second_.size(); ++k)
    all.push_back({"second/" + params_[k].name, second_[k]});
  for (const AdafactorPart& part : parts_) {
    all.push_back({"momentum/" + part.name, part.momentum});
    if (part.full.defined()) {
      all.push_back({"full/" + part.name, part.full});
    } else {
      all.push_back({"row/" + part.name, part.row});
      all.push_back({"column/" + part.name, part.column});
    }
  }
  return all;
}

namespace {

double ema_keep(const Ema& ema, uint64_t t) {
  const auto number = static_cast<double>(t);
  return std::min(ema.decay, (1 + number) / (10 + number));
}

}  // namespace

void Optimizer::update(const Piece& piece, const Weights& weights, Filter* filter,
                       DenseGradient* factors, double lr, const Ema& ema, uint64_t t) {
  const size_t k = piece.parameter;
  const auto n_updates = static_cast<double>(t + 1);
  const SgdNumbers sgd{.decay = rule(k).decay,
                       .momentum = settings_.momentum,
                       .rate = lr * rule(k).rate,
                       .ema_keep = ema_keep(ema, t),
                       .nesterov = settings_.nesterov};
  const AdamNumbers adam{.decay = rule(k).decay,
                         .beta1 = settings_.beta1,
                         .beta2 = settings_.beta2,
                         .eps = settings_.eps,
                         .rate = lr * rule(k).rate,
                         .ema_keep = ema_keep(ema, t),
                         .correction1 = 1 / (1 - std::pow(settings_.beta1, n_updates)),
                         .correction2 = 1 / (1 - std::pow(settings_.beta2, n_updates))};
  const int64_t n = weights[k].numel() / std::ssize(factors_[k]), length = piece.to - piece.from;
  AT_DISPATCH_FLOATING_TYPES(weights[k].scalar_type(), "update", [&] {
    const Rows<scalar_t> kernels = rows<scalar_t>();
    scalar_t *p = weights[k].data_ptr<scalar_t>(), *m = momentum[k].data_ptr<scalar_t>();
    scalar_t* v = second_.empty() ? nullptr : second_[k].data_ptr<scalar_t>();
    scalar_t* average = ema.average.empty() ? nullptr : ema.average[k].data_ptr<scalar_t>();
    // Of the first unit of the piece. Factors are of float alone.
    const scalar_t* g = factors ? reinterpret_cast<const scalar_t*>(dense_gradient_rows(
                                      *factors, piece.first, piece.last - piece.first))
                                : weights[k].grad().const_data_ptr<scalar_t>() + piece.first * n;
    for (int64_t unit = piece.first; unit < piece.last; ++unit) {
      const auto u = static_cast<size_t>(unit);
      const int64_t at = unit * n + piece.from;
      const scalar_t* own = g + at - piece.first * n;
      scalar_t* mean = average ? average + at : nullptr;
      const Sums sums =
          v ? kernels.adamw(p + at, m + at, v + at, mean, own, factors_[k][u], adam, length)
            : kernels.sgd(p + at, m + at, mean, own, factors_[k][u], sgd, length);
      if (filter) filter_rows_forward(weights, *filter, unit, unit + 1, &sums);
      if (factors) factors->weight_squares[u] = sums.squares;
    }
  });
}

void Optimizer::update_by_adafactor(const Weights& weights, Filters& filters, double lr,
                                    const Ema& ema, uint64_t t) {
  std::vector<at::Tensor> grads = gradients(weights, filters);
  for_tasks(std::ssize(grads), [&](int64_t i) {
    const auto k = static_cast<size_t>(i);
    const std::vector<double>& factors = factors_[k];
    if (std::all_of(factors.begin(), factors.end(), [](double f) { return f == 1; })) return;
    std::vector<int64_t> shape(static_cast<size_t>(grads[k].dim()), 1);
    if (!shape.empty()) shape[0] = std::ssize(factors);
    grads[k] = grads[k] * at::tensor(factors, grads[k].options()).view(shape);
  });
  for_tasks(std::ssize(parts_), [&](int64_t i) {
    AdafactorPart& part = parts_[static_cast<size_t>(i)];
    const size_t k = part.parameter;
    if (grads[k].defined() && !params_[k].frozen)
      adafactor_update(part, weights[k].detach(), grads[k].detach(), settings_.adafactor,
                       lr * rule(k).rate, rule(k).decay, t + 1);
  });
  for (size_t k = 0; k < ema.average.size(); ++k)
    ema.average[k].detach().lerp_(weights[k].detach(), 1 - ema_keep(ema, t));
  remake_filters(weights, filters);
}

void Optimizer::step(const Weights& weights, double lr, const Ema& ema, uint64_t t) {
  Filters none;
  step(weights, none, lr, ema, t);
}

void Optimizer::step(const Weights& weights, Filters& filters, double lr, const Ema& ema,
                     uint64_t t) {
  if (settings_.name == "adafactor") return update_by_adafactor(weights, filters, lr, ema, t);
  const auto of = filters_by_weight(weights.size(), filters);
  // Those with a filter last: a filter holds its gain.
  for (const bool with_filter : {false, true})
    for_tasks(std::ssize(pieces_), [&](int64_t i) {
      const Piece& piece = pieces_[static_cast<size_t>(i)];
      const size_t k = piece.parameter;
      if ((of[k] != nullptr) != with_filter) return;
      if (params_[k].frozen && of[k])  // its gain may be trained
        filter_rows_forward(weights, *of[k], piece.first, piece.last);
      else if (!factors_[k].empty())
        update(piece, weights, of[k], factors_of(k, filters), lr, ema, t);
    });
}

}  // namespace nfscale
