// Every key of a configuration: its field, default, allowed values and help. Reading, --set,
// --explain, suggestions and the resolved file all follow from the visit() at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/duration.h"
#include "config/keys.h"

namespace nfscale {

struct ModelConfig {
  std::string name;
  int64_t classes = 0;  // 0: from the data
  std::string numerics = "deepmind";
  double drop_rate = 0, stochastic_depth = 0;
  // Free keys; unset means what the name says.
  std::optional<std::vector<int64_t>> depth, width, group_width, stem, stem_stride;
  std::optional<double> bottleneck, se_ratio, final_mult, alpha;
  std::optional<std::string> bottleneck_round;
  std::optional<int64_t> in_channels;
  // Of Vision Transformers alone.
  std::optional<int64_t> patch, mlp, heads;
  std::optional<std::string> pool, pool_norm;
  std::optional<bool> class_position;
  std::optional<double> head_bias;
};

struct AugmentConfig {
  std::string crop = "inception";
  bool flip = true;
  std::optional<int64_t> pad;  // unset: an eighth of the image size
  std::vector<int64_t> randaugment;
  double mixup = 0, cutmix = 0;
  int64_t repeat = 1;
};

struct DataConfig {
  std::vector<std::string> train, heldout;
  std::vector<double> mixture;
  std::vector<std::string> exclude;
  std::string order = "global", on_broken = "skip", ledger = "off", exif = "apply";
  double max_damage = 0.001;
  int64_t threads = 0;   // 0: one for every two of the process' threads
  int64_t examples = 0;  // for commands that read no data
  bool scaled_decode = false;
  int64_t max_pixels = int64_t{1} << 27, max_bytes = int64_t{256} << 20;
  std::vector<double> mean = {0.485, 0.456, 0.406}, std = {0.229, 0.224, 0.225};
  std::string eval_crop = "auto";
  AugmentConfig augment;
};

struct TrainConfig {
  Duration duration = {1, Duration::Unit::epochs};
  int64_t batch = 256, micro_batch = 0, image_size = 224, eval_size = 0, seed = 0;
  std::string precision = "auto", on_divergence = "stop";
  bool deterministic = true;
};

struct LossConfig {
  std::string kind = "softmax";
  double label_smoothing = 0;
};

struct OptimConfig {
  std::string name = "sgd";
  std::optional<double> lr;  // unset: 0.1 * batch / 256 of sgd, 1e-3 of the others
  double momentum = 0.9;
  bool nesterov = true;
  double weight_decay = 1e-6;
  std::optional<double> head_weight_decay;  // unset: weight_decay
  std::optional<double> agc;                // unset: 0.01 with sgd, else off
  std::string agc_rule = "deepmind";
  std::optional<std::vector<std::string>> agc_exclude;  // unset: the default of the rule
  std::vector<std::string> freeze;
  double clip_norm = 0;
  double beta1 = 0.9, beta2 = 0.999, beta2_cap = 0.999, decay_exponent = 0.8;
  std::optional<double> eps;  // unset: 1e-8 of AdamW, 1e-30 of Adafactor
  double clip_threshold = 0;
  int64_t min_dim_factored = 32;
  std::string momentum_dtype = "auto", view = "heads";
  double sam_rho = 0, sam_fraction = 0.2, layer_decay = 1;
  bool sam_sync = false;
  int64_t sam_group = 32;
};

struct ScheduleConfig {
  std::string kind = "cosine";
  Duration warmup = {5, Duration::Unit::percent}, cooldown;
  Duration timescale;
  double final_fraction = 0;
};

struct EmaConfig {
  double decay = 0;
};

struct CheckpointConfig {
  Duration every = {600, Duration::Unit::seconds};
  int64_t keep_last = 2;
  Duration keep_every;
  bool keep_best = false;
};

struct LogConfig {
  Duration every = {10, Duration::Unit::steps};
  bool tensorboard = true;
};

struct Config {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  LossConfig loss;
  OptimConfig optim;
  ScheduleConfig schedule;
  EmaConfig ema;
  CheckpointConfig checkpoint;
  LogConfig log;
};

// Calls v(key, field, allowed, help) for every key, in the order of the resolved file.
template <class V, class C>
void visit(V&& v, C& c) {
  const Allowed any, positive = {.low = 0, .above_low = true}, rate = {.low = 0, .high = 0.999};
  const Allowed count = at_least(1), fraction = between(0, 1);
  const double seed_limit = 9223372036854775807.0;

  v("model.name", c.model.name, any,
    "a name of `nfscale models`, or \"nfnet\" or \"vit\" with the free keys alone");
  v("model.classes", c.model.classes, at_least(0), "number of classes; 0 takes it from the data");
  v("model.numerics", c.model.numerics, one_of({"deepmind", "timm"}),
    "which of the two reference programs is followed where they differ");
  v("model.drop_rate", c.model.drop_rate, rate, "dropout before the classifier");
  v("model.stochastic_depth", c.model.stochastic_depth, rate,
    "rate of dropping residual branches, rising linearly over the blocks");
  v("model.depth", c.model.depth, Allowed{.low = 1, .count = 4, .or_one = true},
    "blocks in each of the four stages; one number for a Vision Transformer");
  v("model.width", c.model.width, Allowed{.low = 1, .count = 4, .or_one = true},
    "channels of each stage; one number for a Vision Transformer");
  v("model.group_width", c.model.group_width, count,
    "channels of a group of the 3x3 convolutions: one number, or one a stage");
  v("model.bottleneck", c.model.bottleneck, positive,
    "width of the bottleneck as a part of the stage's width");
  v("model.bottleneck_round", c.model.bottleneck_round, one_of({"keep", "floor"}),
    "what happens to a bottleneck narrower than two groups");
  v("model.stem", c.model.stem, Allowed{.low = 1, .count = 4},
    "channels of the four stem convolutions");
  v("model.stem_stride", c.model.stem_stride, Allowed{.low = 1, .high = 2, .count = 4},
    "strides of the four stem convolutions");
  v("model.se_ratio", c.model.se_ratio, positive,
    "hidden width of squeeze-excite as a part of the stage's width");
  v("model.final_mult", c.model.final_mult, positive,
    "features before the classifier as a multiple of the last width");
  v("model.alpha", c.model.alpha, positive, "factor of the residual branch");
  v("model.in_channels", c.model.in_channels, count, "channels of the image");
  v("model.patch", c.model.patch, count, "side of a patch, pixels (Vision Transformers)");
  v("model.mlp", c.model.mlp, count, "hidden width of an MLP (Vision Transformers)");
  v("model.heads", c.model.heads, count, "heads of an attention (Vision Transformers)");
  v("model.pool", c.model.pool, one_of({"map", "gap", "tok"}),
    "features from attention, from the mean of the tokens, or from a class token (Vision "
    "Transformers)");
  v("model.pool_norm", c.model.pool_norm, one_of({"before", "after"}),
    "where the last LayerNorm stands; \"after\" with pool = \"gap\" only");
  v("model.class_position", c.model.class_position, any,
    "whether the class token has a position embedding, as timm has it");
  v("model.head_bias", c.model.head_bias, any,
    "initial bias of the classifier of a Vision Transformer; unset is 0 with softmax, -ln(classes) "
    "with sigmoid");

  v("data.train", c.data.train, any,
    "training source, e.g. \"wds:shards/{000..009}.tar\", \"folder:DIR\", \"mds:DIR\", "
    "\"idx:DIR\", \"cifar:DIR\", \"shapes:?count=20000\"");
  v("data.heldout", c.data.heldout, any,
    "held-out source; without it no held-out loss is reported");
  v("data.mixture", c.data.mixture, at_least(0), "weights of several training sources");
  v("data.exclude", c.data.exclude, any, "files with keys of examples to leave out, one a line");
  v("data.order", c.data.order, one_of({"global", "blocks"}),
    "how examples are shuffled: over the whole set, or block by block");
  v("data.on_broken", c.data.on_broken, one_of({"skip", "error"}),
    "a picture that cannot be decoded keeps its slot with weight 0, or ends the run");
  v("data.max_damage", c.data.max_damage, fraction,
    "share of broken pictures beyond which the run ends with exit 3");
  v("data.threads", c.data.threads, at_least(0), "threads that load pictures; 0 chooses");
  v("data.ledger", c.data.ledger, one_of({"off", "sums", "full"}),
    "a line for every step in RUN/ledger.jsonl that proves which slots it consumed");
  v("data.exif", c.data.exif, one_of({"apply", "ignore"}),
    "whether pictures are turned as their EXIF orientation says; stored with the weights");
  v("data.scaled_decode", c.data.scaled_decode, any,
    "let the JPEG decoder halve pictures that are much larger than needed, in training");
  v("data.max_pixels", c.data.max_pixels, count, "pixels beyond which a picture counts as broken");
  v("data.max_bytes", c.data.max_bytes, count,
    "bytes beyond which a picture file counts as broken");
  v("data.mean", c.data.mean, Allowed{.count = 3},
    "mean of the channels, of 1, subtracted from every picture");
  v("data.std", c.data.std, Allowed{.low = 0, .above_low = true, .count = 3},
    "standard deviation of the channels, of 1");
  v("data.eval_crop", c.data.eval_crop, any,
    "\"squash32\", \"pct:P\", \"center32\" or \"squash\"; \"auto\" is the whole picture below 128 "
    "px, else the "
    "rule of the numerics");
  v("data.examples", c.data.examples, at_least(0),
    "examples of the data, for commands that do not read it");
  v("data.augment.crop", c.data.augment.crop, one_of({"inception", "pad", "center"}),
    "how a training picture is cut");
  v("data.augment.flip", c.data.augment.flip, any, "mirror half of the training pictures");
  v("data.augment.pad", c.data.augment.pad, at_least(0),
    "pixels of padding of crop = \"pad\"; unset is an eighth of the size");
  v("data.augment.randaugment", c.data.augment.randaugment, at_least(0),
    "[layers, magnitude] of RandAugment; [] is off");
  v("data.augment.mixup", c.data.augment.mixup, between(0, 1), "alpha of MixUp; 0 is off");
  v("data.augment.cutmix", c.data.augment.cutmix, between(0, 1),
    "alpha of CutMix, 1 as in the paper; 0 is off. Where both are on a coin chooses");
  v("data.augment.repeat", c.data.augment.repeat, between(1, 65535),
    "copies of each picture in a batch (repeated augmentation); must divide the batch");

  v("train.duration", c.train.duration, any, "length of the run: epochs, steps or examples");
  v("train.batch", c.train.batch, count, "examples of a step, over all processes");
  v("train.micro_batch", c.train.micro_batch, at_least(0),
    "examples computed at once; 0 is the largest that fits");
  v("train.image_size", c.train.image_size, between(1, 65500),
    "side of the training pictures, pixels");
  v("train.eval_size", c.train.eval_size, between(0, 65500),
    "side of the held-out pictures; 0 is the training size");
  v("train.precision", c.train.precision, one_of({"auto", "bf16", "f32"}),
    "of activations; weights and their gradients are float32. auto: bf16 where the device computes "
    "in it");
  v("train.seed", c.train.seed, between(0, seed_limit), "of everything random");
  v("train.deterministic", c.train.deterministic, any,
    "the same bits from the same seed, threads and machine kind");
  v("train.on_divergence", c.train.on_divergence, one_of({"stop", "rollback"}),
    "what happens when the loss is no longer finite");

  v("loss.kind", c.loss.kind, one_of({"softmax", "sigmoid"}),
    "softmax cross-entropy, or a sigmoid for every class");
  v("loss.label_smoothing", c.loss.label_smoothing, fraction,
    "share of the target spread evenly over the classes");

  v("optim.name", c.optim.name, one_of({"sgd", "adamw", "adafactor"}), "optimiser");
  v("optim.lr", c.optim.lr, positive,
    "peak learning rate at the given batch; unset is 0.1 * batch / 256 of sgd, 0.001 of the "
    "others");
  v("optim.momentum", c.optim.momentum, between(0, 0.9999), "momentum of SGD");
  v("optim.nesterov", c.optim.nesterov, any, "Nesterov's form of momentum");
  v("optim.weight_decay", c.optim.weight_decay, at_least(0),
    "decay of convolution and linear weights: coupled L2 of sgd, times the rate of the others");
  v("optim.head_weight_decay", c.optim.head_weight_decay, at_least(0),
    "decay of the classifier; unset is weight_decay");
  v("optim.agc", c.optim.agc, at_least(0),
    "adaptive gradient clipping threshold; 0 switches it off; unset is 0.01 with sgd, else 0");
  v("optim.agc_rule", c.optim.agc_rule, one_of({"deepmind", "timm"}),
    "units of clipping for gains: the whole vector, or each entry");
  v("optim.agc_exclude", c.optim.agc_exclude, any,
    "glob patterns of parameters that are not clipped; unset is the classifier");
  v("optim.clip_norm", c.optim.clip_norm, at_least(0),
    "largest norm of the whole gradient, after adaptive clipping; 0 is off");
  v("optim.beta1", c.optim.beta1, rate, "decay of the first moment of AdamW and Adafactor");
  v("optim.beta2", c.optim.beta2, between(0, 0.999999), "decay of the second moment of AdamW");
  v("optim.beta2_cap", c.optim.beta2_cap, between(0, 0.999999),
    "largest decay of the second moment of Adafactor, 1 - t^-decay_exponent before");
  v("optim.decay_exponent", c.optim.decay_exponent, positive, "see beta2_cap");
  v("optim.eps", c.optim.eps, at_least(0),
    "added to the root of the second moment of AdamW, to the squares of Adafactor; unset is 1e-8 "
    "and 1e-30");
  v("optim.clip_threshold", c.optim.clip_threshold, at_least(0),
    "largest root mean square of a tensor's update, of Adafactor; 0 is off");
  v("optim.min_dim_factored", c.optim.min_dim_factored, count,
    "extent from which Adafactor factors the second moment of a tensor");
  v("optim.momentum_dtype", c.optim.momentum_dtype, one_of({"auto", "f32", "bf16"}),
    "how the first moment is kept; auto: bf16 of Adafactor, f32 of the others");
  v("optim.view", c.optim.view, one_of({"heads", "stored"}),
    "whether Adafactor sees queries, keys, values and heads of an attention apart");
  v("optim.sam_rho", c.optim.sam_rho, at_least(0),
    "radius of sharpness-aware minimisation; 0 is off");
  v("optim.sam_fraction", c.optim.sam_fraction, Allowed{.low = 0, .high = 1, .above_low = true},
    "part of the batch in the ascent step");
  v("optim.sam_sync", c.optim.sam_sync, any, "one ascent for all groups");
  v("optim.sam_group", c.optim.sam_group, count, "examples that share an ascent");
  v("optim.freeze", c.optim.freeze, any,
    "parameters that are not trained, by patterns of their names, e.g. [\"stem.*\"]");
  v("optim.layer_decay", c.optim.layer_decay, Allowed{.low = 0, .high = 1, .above_low = true},
    "factor of the rate from layer to layer, from the head down");

  v("schedule.kind", c.schedule.kind, one_of({"cosine", "rsqrt", "constant"}),
    "course of the learning rate after the warm-up");
  v("schedule.warmup", c.schedule.warmup, any, "linear warm-up from 0");
  v("schedule.cooldown", c.schedule.cooldown, any, "linear descent to 0 at the end");
  v("schedule.timescale", c.schedule.timescale, any, "time scale of rsqrt; 0 is the warm-up");
  v("schedule.final", c.schedule.final_fraction, fraction,
    "rate at the end, as a part of the peak");

  v("ema.decay", c.ema.decay, between(0, 0.9999999),
    "of the average of the weights, with warm-up; 0 is off");

  v("checkpoint.every", c.checkpoint.every, any,
    "time or steps between checkpoints; 0 saves at the end only");
  v("checkpoint.keep_last", c.checkpoint.keep_last, count, "good checkpoints kept");
  v("checkpoint.keep_every", c.checkpoint.keep_every, any, "checkpoints kept for good; 0 is none");
  v("checkpoint.keep_best", c.checkpoint.keep_best, any,
    "keep the checkpoint with the lowest held-out loss");

  v("log.every", c.log.every, any, "steps or time between lines of metrics.jsonl");
  v("log.tensorboard", c.log.tensorboard, any, "write the metrics for TensorBoard too");
}

}  // namespace nfscale
