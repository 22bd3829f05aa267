// Clipping and three rules of update. First, for all of them:
//
//   g <- AGC(g, p)                                unless excluded
//   g <- g * min(1, clip_norm / |g|)              over all parameters, where clip_norm is on
//
// Then sgd, as google-deepmind/deepmind-research nfnets codes it, decay coupled, Nesterov momentum:
//
//   g <- g + wd * p;   m <- mu * m + g;   p <- p - lr * (g + mu * m)
//
// adamw (Loshchilov and Hutter, arXiv 1711.05101), as PyTorch has it, of update n = 1, 2, ...:
//
//   m <- b1 m + (1-b1) g;   v <- b2 v + (1-b2) g^2
//   p <- p - lr * (m / (1-b1^n) / (sqrt(v / (1-b2^n)) + eps) + wd * p)
//
// or adafactor, see adafactor.h. Only kernels decay (Param::is_weight). What is frozen
// (Param::frozen) keeps its value, and its gradient enters no norm.
#pragma once

#include <string>
#include <vector>

#include "arch/arch.h"
#include "config/config.h"
#include "model/filters.h"
#include "model/weights.h"
#include "train/adafactor.h"

namespace nfscale {

struct OptimizerSettings {
  std::string name = "sgd";
  double momentum = 0.9, weight_decay = 0, head_weight_decay = 0, agc = 0.01, agc_eps = 1e-3,
         clip_norm = 0;
  bool nesterov = true;
  std::string agc_rule = "deepmind";
  double layer_decay = 1;  // of the rate, for each level below the highest (Param::level)
  std::vector<std::string> agc_exclude;           // glob patterns on names
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // of AdamW
  AdafactorSettings adafactor = {};
};

OptimizerSettings optimizer_settings(const OptimConfig& resolved, const Arch& arch);

struct StepStats {
  double grad_norm = 0;    // of the whole gradient before any clipping
  double agc_clipped = 0;  // share of the clipped units among those that may be clipped
};

// The average of the weights that a step also updates: average <- d average + (1 - d) weights with
// d = min(decay, (1 + t) / (10 + t)) of step t = 0, 1, ...
struct Ema {
  std::vector<at::Tensor> average;  // parallel to the weights; empty: off
  double decay = 0;
};

// Units of adaptive clipping: rule "deepmind" takes a tensor with at most one side above 1 as one
// unit, "timm" one with at most one dimension; otherwise every row of the first dimension is one.
struct UnitNorms {
  std::vector<double> weight, gradient;  // squares of the Euclidean norms
};

class Optimizer {
 public:
  // Exit::usage for a pattern of agc_exclude that fits no parameter.
  Optimizer(std::vector<Param> params, const std::vector<at::Tensor>& weights,
            OptimizerSettings settings);

  // Decides by how much the gradients of `weights` are clipped, and leaves them as they are. A
  // weight without a gradient is passed over. NaN is not hidden: where any gradient is not finite,
  // grad_norm is not either.
  StepStats clip(const Weights& weights, const Filters& filters = {});

  // Clipping as decided by clip(), decay, momentum, step, average and the filters of the new
  // weights, in one pass.
  void step(const Weights& weights, Filters& filters, double lr, const Ema& ema, uint64_t t);
  void step(const Weights& weights, double lr, const Ema& ema = {}, uint64_t t = 0);

  std::vector<at::Tensor> momentum;  // parallel to the weights; none with adafactor

  // All that the next step needs of the ones before it, by name.
  std::vector<NamedTensor> state() const;

  const OptimizerSettings& settings() const { return settings_; }
  // What the settings mean for a parameter.
  struct Rule {
    int64_t units;
    bool clips;
    double decay;
    double rate;  // as a multiple of the learning rate
  };
  Rule rule(size_t parameter) const;

 private:
  std::vector<Param> params_;
  OptimizerSettings settings_;
  std::vector<int64_t> units_;                // by parameter
  std::vector<at::Tensor> second_;            // of adamw, parallel to the weights
  std::vector<AdafactorPart> parts_;          // of adafactor
  std::vector<bool> clipped_;                 // by parameter: AGC applies
  std::vector<std::vector<double>> factors_;  // by parameter and unit: what clip() decided

  // A part of a parameter for one thread: units [first, last), or numbers [from, to) of one unit.
  struct Piece {
    size_t parameter;
    int64_t first, last, from, to;
  };
  std::vector<Piece> pieces_;

  void update(const Piece& piece, const Weights& weights, Filter* filter, DenseGradient* factors,
              double lr, const Ema& ema, uint64_t t);
  void update_by_adafactor(const Weights& weights, Filters& filters, double lr, const Ema& ema,
                           uint64_t t);
};

UnitNorms unit_norms(const at::Tensor& p, const at::Tensor& g, const std::string& rule);

// Clips the gradient `g` of `p` unit by unit in place: limit = threshold * max(|p|, eps).
// {clipped units, units}
std::pair<int64_t, int64_t> adaptive_clip(const at::Tensor& p, at::Tensor g, double threshold,
                                          double eps, const std::string& rule);

}  // namespace nfscale
