#include "train/optimizer.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/zeros_like.h>
#include <fnmatch.h>

#include "base/error.h"
#include "kernels/rows.h"
#include "model/parallel.h"

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

// By row: squares of a gradient that is kept as factors.
std::vector<double> row_squares(const DenseGradient& g) {
  const int64_t n = g.x.size(1), step = std::max<int64_t>(1, kPiece / n);
  std::vector<double> squares;
  for (int64_t first = 0; first < g.d_y.size(0); first += step) {
    const int64_t count = std::min(step, g.d_y.size(0) - first);
    const float* values = dense_gradient_rows(g, first, count);
    for (int64_t r = 0; r < count; ++r)
      squares.push_back(rows<float>().squares(values + r * n, 0, n));
  }
  return squares;
}

// Of a parameter whose gradient is kept as factors, or null.
template <class AnyFilters>
auto factors_of(size_t parameter, AnyFilters& filters) {
  auto* g = parameter < filters.dense.size() ? &filters.dense[parameter] : nullptr;
  return g && g->d_y.defined() ? g : nullptr;
}

// By parameter: its filter, or null.
template <class AnyFilters>
auto filters_by_weight(size_t parameters, AnyFilters& filters) {
  std::vector<decltype(filters.of_layer.data())> found(parameters);
  for (auto& f : filters.of_layer)
    if (f.value.defined()) found[f.weight] = &f;
  return found;
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
  for (size_t k = 0; k < params_.size(); ++k) {
    const int64_t units = units_of(weights[k], settings_.agc_rule), n = weights[k].numel() / units;
    // A row stays whole, however long: its filter is made of all of it.
    const int64_t step = std::max<int64_t>(1, kPiece / n), length = units > 1 ? n : kPiece;
    for (int64_t u = 0; u < units; u += step)
      for (int64_t from = 0; from < n; from += length)
        pieces_.push_back({k, u, std::min(u + step, units), from, std::min(n, from + length)});
  }
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
    if (const DenseGradient* factors = factors_of(k, filters)) {
      norms[k] = {factors->weight_squares, row_squares(*factors)};
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
  const std::string& name = params_[parameter].name;
  const double decay =
      name == "head.fc.weight" ? settings_.head_weight_decay : settings_.weight_decay;
  return {units_of(momentum[parameter], settings_.agc_rule), clipped_[parameter],
          decays(name) ? decay : 0};
}

void Optimizer::update(const Piece& piece, const Weights& weights, Filter* filter,
                       DenseGradient* factors, double lr, const Ema& ema, uint64_t t) {
  const auto number = static_cast<double>(t);
  const size_t k = piece.parameter;
  const SgdNumbers numbers{.decay = rule(k).decay,
                           .momentum = settings_.momentum,
                           .rate = lr,
                           .ema_keep = std::min(ema.decay, (1 + number) / (10 + number)),
                           .nesterov = settings_.nesterov};
  const int64_t n = weights[k].numel() / std::ssize(factors_[k]);
  AT_DISPATCH_FLOATING_TYPES(weights[k].scalar_type(), "sgd_step", [&] {
    scalar_t *p = weights[k].data_ptr<scalar_t>(), *m = momentum[k].data_ptr<scalar_t>();
    scalar_t* average = ema.average.empty() ? nullptr : ema.average[k].data_ptr<scalar_t>();
    // Of the first unit of the piece. Factors are of float alone.
    const scalar_t* g = factors ? reinterpret_cast<const scalar_t*>(dense_gradient_rows(
                                      *factors, piece.first, piece.last - piece.first))
                                : weights[k].grad().const_data_ptr<scalar_t>() + piece.first * n;
    for (int64_t unit = piece.first; unit < piece.last; ++unit) {
      const auto u = static_cast<size_t>(unit);
      const int64_t at = unit * n + piece.from;
      const Sums sums = rows<scalar_t>().sgd(p + at, m + at, average ? average + at : nullptr,
                                             g + at - piece.first * n, factors_[k][u], numbers,
                                             piece.to - piece.from);
      if (filter) filter_rows_forward(weights, *filter, unit, unit + 1, &sums);
      if (factors) factors->weight_squares[u] = sums.squares;
    }
  });
}

void Optimizer::step(const Weights& weights, double lr, const Ema& ema, uint64_t t) {
  Filters none;
  step(weights, none, lr, ema, t);
}

void Optimizer::step(const Weights& weights, Filters& filters, double lr, const Ema& ema,
                     uint64_t t) {
  const auto of = filters_by_weight(weights.size(), filters);
  // Those with a filter last: a filter holds its gain.
  for (const bool with_filter : {false, true})
    for_tasks(std::ssize(pieces_), [&](int64_t i) {
      const Piece& piece = pieces_[static_cast<size_t>(i)];
      const size_t k = piece.parameter;
      if (!factors_[k].empty() && (of[k] != nullptr) == with_filter)
        update(piece, weights, of[k], factors_of(k, filters), lr, ema, t);
    });
}

}  // namespace nfscale
