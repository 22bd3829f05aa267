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

int64_t units_of(const at::Tensor& p, const std::string& rule) {
  int64_t wide = 0;
  for (const int64_t side : p.sizes()) wide += side > 1;
  const bool whole = rule == "timm" ? p.dim() <= 1 : wide <= 1;
  return whole ? 1 : p.size(0);
}

// The squares of a unit's numbers. A unit may be a whole tensor: then its pieces are shared among
// the threads, always the same ones, so that their number changes no bit.
constexpr int64_t kPiece = 65536;

// Calls work(unit, begin, end) for pieces of the units, in parallel; a unit shorter than a piece is
// one.
template <class Work>
void for_pieces(int64_t units, int64_t n, const Work& work) {
  const int64_t pieces = (n + kPiece - 1) / kPiece;
  at::parallel_for(0, units * pieces, std::max<int64_t>(1, 32768 / std::min(n, kPiece)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t from = i % pieces * kPiece;
                       work(i / pieces, i, from, std::min(n, from + kPiece));
                     }
                   });
}

std::vector<double> unit_squares(const at::Tensor& t, int64_t units) {
  const int64_t n = t.numel() / units, pieces = (n + kPiece - 1) / kPiece;
  std::vector<double> parts(static_cast<size_t>(units * pieces)), sums(static_cast<size_t>(units));
  AT_DISPATCH_FLOATING_TYPES(t.scalar_type(), "unit_squares", [&] {
    const scalar_t* values = t.const_data_ptr<scalar_t>();
    for_pieces(units, n, [&](int64_t unit, int64_t piece, int64_t from, int64_t to) {
      parts[static_cast<size_t>(piece)] = row_squares(values + unit * n + from, 0, to - from);
    });
  });
  for (size_t i = 0; i < parts.size(); ++i) sums[i / static_cast<size_t>(pieces)] += parts[i];
  return sums;
}

// limit / norm where the norm is above the limit, else 1; a norm that is not a number stays
// unclipped.
double clip_factor(double weight_squares, double gradient_squares, double threshold, double eps) {
  const double limit = threshold * std::max(std::sqrt(weight_squares), eps),
               norm = std::sqrt(gradient_squares);
  return norm > limit ? limit / std::max(norm, 1e-6) : 1;
}

// By parameter: its filter, or null.
std::vector<Filter*> filters_by_weight(size_t parameters, Filters& filters) {
  std::vector<Filter*> found(parameters);
  for (Filter& f : filters.of_layer)
    if (f.value.defined()) found[f.weight] = &f;
  return found;
}

// Rows of a filter in parallel: work(begin, end).
template <class Work>
void for_rows(const at::Tensor& weight, const Work& work) {
  const int64_t n = weight.numel() / weight.size(0);
  at::parallel_for(0, weight.size(0), std::max<int64_t>(1, 16384 / n), work);
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
      row_scale(row, row, factor, 0, n);
    });
  }
  return {cut, units};
}

UnitNorms Optimizer::norms_of(const at::Tensor& weight, Filter* filter,
                              const Weights& weights) const {
  if (!filter) return unit_norms(weight, weight.grad(), settings_.agc_rule);
  UnitNorms norms{{}, std::vector<double>(filter->rows.size())};
  for_rows(weight, [&](int64_t begin, int64_t end) {
    filter_rows_backward(weights, *filter, begin, end, norms.gradient.data());
  });
  for (const RowStatistics& row : filter->rows) norms.weight.push_back(row.squares);
  NFSCALE_CHECK(units_of(weight, settings_.agc_rule) == weight.size(0));
  return norms;
}

StepStats Optimizer::clip(const Weights& weights) {
  Filters none;
  return clip(weights, none);
}

StepStats Optimizer::clip(const Weights& weights, Filters& filters) {
  std::vector<Filter*> pending(weights.size());
  if (std::exchange(filters.pending, false)) {
    attach_gradients(weights, filters);
    pending = filters_by_weight(weights.size(), filters);
  }
  // Those with a filter first: the gradient of a gain is made with that of its weight.
  std::vector<UnitNorms> norms(weights.size());
  for (const bool with_filter : {true, false})
    for (size_t k = 0; k < weights.size(); ++k)
      if (weights[k].grad().defined() && (pending[k] != nullptr) == with_filter)
        norms[k] = norms_of(weights[k], pending[k], weights);
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

void Optimizer::update(size_t k, const Weights& weights, Filter* filter, double lr, const Ema& ema,
                       uint64_t t) {
  const auto number = static_cast<double>(t);
  const std::string& name = params_[k].name;
  const double decay =
      name == "head.fc.weight" ? settings_.head_weight_decay : settings_.weight_decay;
  const SgdNumbers numbers{.decay = decays(name) ? decay : 0,
                           .momentum = settings_.momentum,
                           .rate = lr,
                           .ema_keep = std::min(ema.decay, (1 + number) / (10 + number)),
                           .nesterov = settings_.nesterov};
  const auto units = static_cast<int64_t>(factors_[k].size()), n = weights[k].numel() / units;
  AT_DISPATCH_FLOATING_TYPES(weights[k].scalar_type(), "sgd_step", [&] {
    scalar_t *p = weights[k].data_ptr<scalar_t>(), *m = momentum[k].data_ptr<scalar_t>();
    scalar_t* average = ema.average.empty() ? nullptr : ema.average[k].data_ptr<scalar_t>();
    const scalar_t* g = weights[k].grad().const_data_ptr<scalar_t>();
    const auto piece = [&](int64_t unit, int64_t from, int64_t to) {
      const int64_t at = unit * n + from;
      row_sgd(p + at, m + at, average ? average + at : nullptr, g + at,
              factors_[k][static_cast<size_t>(unit)], numbers, to - from);
    };
    if (!filter)
      return for_pieces(units, n, [&](int64_t unit, int64_t, int64_t from, int64_t to) {
        piece(unit, from, to);
      });
    for_rows(weights[k], [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        piece(row, 0, n);
        filter_rows_forward(weights, *filter, row, row + 1);
      }
    });
  });
}

void Optimizer::step(const Weights& weights, double lr, const Ema& ema, uint64_t t) {
  Filters none;
  step(weights, none, lr, ema, t);
}

void Optimizer::step(const Weights& weights, Filters& filters, double lr, const Ema& ema,
                     uint64_t t) {
  const std::vector<Filter*> of = filters_by_weight(weights.size(), filters);
  // Those with a filter last: a filter holds its gain.
  for (const bool with_filter : {false, true})
    for (size_t k = 0; k < weights.size(); ++k)
      if (!factors_[k].empty() && (of[k] != nullptr) == with_filter)
        update(k, weights, of[k], lr, ema, t);
}

}  // namespace nfscale
