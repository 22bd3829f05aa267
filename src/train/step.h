// One training step: forward, loss, backward over micro-batches, clipping, update.
#pragma once

#include <memory>

#include "config/config.h"
#include "data/loader.h"
#include "model/forward.h"
#include "train/optimizer.h"
#include "train/sam.h"

namespace nfscale {

struct StepSettings {
  LossConfig loss;
  int64_t micro_batch = 1;
  uint64_t seed = 0;  // of dropout and stochastic depth
  SamSettings sam = {};
};

SamSettings sam_settings(const OptimConfig& config, const std::vector<Param>& params);

// train.micro_batch, or what 0 means there: as few parts of equal size as a stated bound of memory
// allows, never the memory that happens to be free, so that a resume computes the same.
int64_t resolve_micro_batch(const Config& config, const Arch& arch, at::Device device);

struct StepResult {
  double loss = 0, top1 = 0;  // means over the slots with a picture
  StepStats stats;
  bool finite = true;  // false: nothing was updated
  bool empty = false;  // every slot has weight 0: nothing was updated
  double forward_s = 0, backward_s = 0, update_s = 0;  // 0 where the parts are not apart
};

// Loss and gradient are sums over the slots divided by the sum of the weights of the whole step, so
// that micro-batches of any sizes give the same. With SAM the loss is that of the second pass. `t`
// counts the steps from 0, for the average. `sam` has the memory of earlier steps, if there is one.
StepResult train_step(const Model& model, Filters& filters, Optimizer& optimizer, const Ema& ema,
                      const Batch& batch, const StepSettings& settings, double lr, uint64_t t,
                      Sam* sam = nullptr);

// Training steps on a device, with what is kept there from step to step. Weights, momentum and
// average that a stepper was made with are those of the last step behind to_host().
class Stepper {
 public:
  virtual ~Stepper() = default;
  // As train_step. `next`, or null, is the batch of the following step where it is known already:
  // it may be on its way to the device while this step is computed.
  virtual StepResult step(const Batch& batch, const Batch* next, double lr, uint64_t t) = 0;
  virtual void to_host() = 0;
};
// The arguments outlive the stepper.
std::unique_ptr<Stepper> make_stepper(at::Device device, const Model& model, Optimizer& optimizer,
                                      const Ema& ema, at::ScalarType compute,
                                      const StepSettings& settings);

// Draws of the slots of the rows [begin, end): a function of (seed, slot, block) alone.
Masks draw_masks(const Arch& arch, const Batch& batch, int64_t begin, int64_t end, uint64_t seed);

// [N], of logits [N, K] and labels [N].
at::Tensor example_losses(const at::Tensor& logits, const at::Tensor& labels,
                          const LossConfig& loss);
// Of mixed pictures: shares [N] of the loss of the own label, the rest of that of the partner's.
at::Tensor mixed_losses(const at::Tensor& logits, const at::Tensor& labels,
                        const at::Tensor& partners, const at::Tensor& shares,
                        const LossConfig& loss);

}  // namespace nfscale
