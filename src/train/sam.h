// Sharpness-aware minimisation (Foret et al., arXiv 2010.01412) as B21 (arXiv 2102.06171, A.4) uses
// it: every group of rows climbs along the gradient of some of them, all its rows take their
// gradient there, and the mean of these is the gradient of the step.
//
//   u_r = gradient of the mean loss of the ascent rows of group r, at p
//   q_r = p + rho u_r / max(|u_r|, 1e-12)       |.| over all parameters together
//   g   = mean over the rows of their gradients, each at the q_r of its group
//
// With `sync` u is the mean over the groups, and all q are equal.
#pragma once

#include <functional>

#include "config/sam.h"
#include "model/filters.h"

namespace nfscale {

struct SamSettings {
  double rho = 0;  // 0: off
  double fraction = 0.2;
  bool sync = false;
  int64_t group = 32;
  std::vector<size_t> frozen = {};  // places of weights that stay where they are
};

// Adds the gradient of the rows [begin, end): in the ascent `share` times that of their mean loss,
// in the descent their part of the step's. `last` is that of add_gradients.
using SamPass =
    std::function<void(int64_t begin, int64_t end, bool ascent, double share, bool last)>;
// Where the weights are those of q_r, with |u_r|.
using SamObserver = std::function<void(size_t group, double norm)>;

class Sam {
 public:
  explicit Sam(const SamSettings& settings) : settings_(settings) {}
  // The gradients of a step, as begin_gradients and add_gradients leave them. In the end the
  // weights are what they were; the values of their filters are those of some q until an update of
  // the weights makes them anew.
  void gradients_of_step(const Weights& weights, Filters& filters,
                         const std::vector<AscentGroup>& groups, const SamPass& pass,
                         const SamObserver& observe = {});

 private:
  double climb(const Weights& weights, Filters& filters);
  void go_back(const Weights& weights, Filters& filters);
  void add_to_sums(const Weights& weights, const Filters& filters);

  SamSettings settings_;
  // Parallel to the weights: p while they are q, else memory for q.
  std::vector<at::Tensor> other_, sums_;
  // What the filters knew of p.
  std::vector<std::vector<RowStatistics>> rows_;
  std::vector<std::vector<double>> squares_;
};

}  // namespace nfscale
