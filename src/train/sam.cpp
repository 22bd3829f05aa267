#include "train/sam.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/alias.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>

#include "model/parallel.h"

namespace nfscale {

namespace {

double squares_of(const at::Tensor& t) {
  const double norm = t.detach().norm().item<double>();
  return norm * norm;
}

bool is_in(const std::vector<size_t>& places, size_t k) {
  return std::find(places.begin(), places.end(), k) != places.end();
}

// |u| of all gradients but those of the frozen weights.
double gradient_norm(const Weights& weights, const Filters& filters,
                     const std::vector<size_t>& frozen) {
  const auto of = filters_by_weight(weights.size(), filters);
  std::vector<double> squares(weights.size());
  for_tasks(std::ssize(weights), [&](int64_t i) {
    const auto k = static_cast<size_t>(i);
    std::vector<double> rows;
    if (is_in(frozen, k)) return;
    if (const DenseGradient* factors = factors_of(k, filters))
      rows = dense_row_squares(*factors);
    else if (of[k])
      rows = of[k]->squares;
    else if (weights[k].grad().defined())
      rows = {squares_of(weights[k].grad())};
    for (const double s : rows) squares[k] += s;
  });
  double sum = 0;
  for (const double s : squares) sum += s;
  return std::sqrt(sum);
}

// Rows [first, last) of q = p + factor u, u from memory or from its factors.
template <class T>
void climb_rows(const T* p, T* q, const at::Tensor& gradient, const DenseGradient* factors,
                double factor, int64_t first, int64_t last, int64_t n) {
  const T* u = factors
                   ? reinterpret_cast<const T*>(dense_gradient_rows(*factors, first, last - first))
                   : gradient.const_data_ptr<T>() + first * n;
  rows<T>().combine(q + first * n, u, factor, 0, p + first * n, -1, 0, (last - first) * n);
}

// Exchanges the memory of two tensors of one shape: no number moves.
void exchange(const at::Tensor& weight, at::Tensor& other) {
  const at::Tensor mine = weight.detach().alias();
  weight.set_data(other);
  other = mine;
}

}  // namespace

// Float like the weights: a step of rho is lost in the rounding of bfloat16.
double Sam::climb(const Weights& weights, Filters& filters) {
  constexpr int64_t kNumbers = 32768;  // at a time: they stay in the cache
  const double norm = gradient_norm(weights, filters, settings_.frozen),
               factor = settings_.rho / std::max(norm, 1e-12);
  const auto of = filters_by_weight(weights.size(), filters);
  struct Piece {
    size_t weight;
    int64_t first, last;
  };
  std::vector<Piece> pieces;
  std::vector<at::Tensor> u;
  if (other_.empty())
    for (const at::Tensor& w : weights) other_.push_back(at::empty_like(w.detach()));
  for (size_t k = 0; k < weights.size(); ++k) {
    u.push_back(weights[k].grad());
    exchange(weights[k], other_[k]);
    const int64_t count = weights[k].dim() ? weights[k].size(0) : 1,
                  step = std::max<int64_t>(1, kNumbers / (weights[k].numel() / count));
    for (int64_t r = 0; r < count; r += step) pieces.push_back({k, r, std::min(r + step, count)});
  }
  rows_.clear();
  squares_.clear();
  for (const Filter& f : filters.of_layer) rows_.push_back(f.rows);
  for (const DenseGradient& g : filters.dense) squares_.push_back(g.weight_squares);
  // Those with a filter last: a filter holds its gain.
  for (const bool with_filter : {false, true})
    for_tasks(std::ssize(pieces), [&](int64_t i) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      const size_t k = piece.weight;
      const int64_t first = piece.first, last = piece.last;
      if ((of[k] != nullptr) != with_filter) return;
      const DenseGradient* factors = factors_of(k, filters);
      const int64_t n =
          weights[k].numel() / std::max<int64_t>(1, weights[k].dim() ? weights[k].size(0) : 1);
      AT_DISPATCH_FLOATING_TYPES(weights[k].scalar_type(), "climb", [&] {
        const scalar_t* p = other_[k].const_data_ptr<scalar_t>();
        scalar_t* q = weights[k].detach().data_ptr<scalar_t>();
        if ((factors || u[k].defined()) && !is_in(settings_.frozen, k))
          climb_rows(p, q, u[k], factors, factor, first, last, n);
        else
          std::copy_n(p + first * n, (last - first) * n, q + first * n);
      });
      if (of[k]) filter_rows_forward(weights, *of[k], first, last);
    });
  return norm;
}

void Sam::go_back(const Weights& weights, Filters& filters) {
  for (size_t k = 0; k < weights.size(); ++k) exchange(weights[k], other_[k]);
  for (size_t i = 0; i < filters.of_layer.size(); ++i) filters.of_layer[i].rows = rows_[i];
  for (size_t i = 0; i < filters.dense.size(); ++i) filters.dense[i].weight_squares = squares_[i];
}

void Sam::add_to_sums(const Weights& weights, const Filters& filters) {
  const std::vector<at::Tensor> g = gradients(weights, filters);
  sums_.resize(weights.size());
  for (size_t k = 0; k < weights.size(); ++k) {
    if (!g[k].defined()) continue;
    if (sums_[k].defined())
      sums_[k].add_(g[k].detach());
    else
      sums_[k] = g[k].detach().clone();
  }
}

void Sam::gradients_of_step(const Weights& weights, Filters& filters,
                            const std::vector<AscentGroup>& groups, const SamPass& pass,
                            const SamObserver& observe) {
  const auto count = static_cast<double>(groups.size());
  if (settings_.sync) {
    begin_gradients(weights, filters);
    for (const AscentGroup& g : groups)
      pass(g.begin, g.ascent_end, true, 1 / count, &g == &groups.back());
    const double norm = climb(weights, filters);
    if (observe) observe(0, norm);
    begin_gradients(weights, filters);
    for (const AscentGroup& g : groups) pass(g.begin, g.end, false, 1, &g == &groups.back());
    return go_back(weights, filters);
  }
  sums_.clear();
  for (size_t r = 0; r < groups.size(); ++r) {
    begin_gradients(weights, filters);
    pass(groups[r].begin, groups[r].ascent_end, true, 1, true);
    const double norm = climb(weights, filters);
    if (observe) observe(r, norm);
    begin_gradients(weights, filters);
    pass(groups[r].begin, groups[r].end, false, 1, true);
    if (groups.size() > 1) add_to_sums(weights, filters);
    go_back(weights, filters);
    if (r + 1 < groups.size()) remake_filters(weights, filters);
  }
  if (groups.size() > 1) set_gradients(weights, filters, sums_);
}

}  // namespace nfscale
