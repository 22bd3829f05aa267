// One training step: forward, loss, backward over micro-batches, clipping, update.
#pragma once

#include "config/config.h"
#include "data/loader.h"
#include "model/nfnet.h"
#include "train/optimizer.h"

namespace nfscale {

struct StepSettings {
  LossConfig loss;
  int64_t micro_batch = 1;
  uint64_t seed = 0;  // of dropout and stochastic depth
};

struct StepResult {
  double loss = 0, top1 = 0;  // means over the slots with a picture
  StepStats stats;
  bool finite = true;  // false: nothing was updated
  bool empty = false;  // every slot has weight 0: nothing was updated
  double forward_s = 0, backward_s = 0, update_s = 0;
};

// Loss and gradient are sums over the slots divided by the sum of the weights of the whole step, so
// that micro-batches of any sizes give the same. `t` counts the steps from 0, for the average.
StepResult train_step(const Model& model, Filters& filters, Optimizer& optimizer, const Ema& ema,
                      const Batch& batch, const StepSettings& settings, double lr, uint64_t t);

}  // namespace nfscale
