#include "train/step.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <map>

#include "train/testing.h"

namespace nfscale {
namespace {

// Kernels against ATen's operations with autograd through standardisation, over several updates.
TEST(Step, KernelsTrainAsTheReferenceDoes) {
  Toy a = toy(6, 0.3), b = toy(6, 0.3);
  b.filters = {};
  if (a.filters.of_layer.empty()) GTEST_SKIP() << "no kernels on this machine";
  for (uint64_t t = 0; t < 4; ++t) {
    const StepResult own =
        train_step(a.model, a.filters, a.optimizer, {}, a.batch, {{}, 4, 1}, 0.5, t);
    const StepResult reference =
        train_step(b.model, b.filters, b.optimizer, {}, b.batch, {{}, 4, 1}, 0.5, t);
    EXPECT_NEAR(own.loss / reference.loss, 1, 1e-5);
    EXPECT_NEAR(own.stats.agc_clipped, reference.stats.agc_clipped, 2e-3);
    for (size_t i = 0; i < a.model.params.size(); ++i) {
      const at::Tensor d = a.optimizer.momentum[i] - b.optimizer.momentum[i];
      EXPECT_LE(d.abs().max().item<double>(),
                1e-3 * b.optimizer.momentum[i].abs().max().item<double>() + 1e-9)
          << a.model.params[i].name << " behind step " << t;
    }
  }
}

// Layers that the kernels do not have are not refused: the whole model runs without them.
TEST(Step, AModelThatTheKernelsDoNotHaveTrainsWithoutThem) {
  Config config;
  set_key(config, "model.name", "nfnet_n0", "test");
  config.model.stem = {3, 5, 7, 9};
  resolve(config);
  Model model = make_model(make_arch(config.model, 10));
  init_weights(model, 3);
  Filters filters = make_filters(model, at::kFloat, true);
  EXPECT_TRUE(filters.of_layer.empty());
  Toy t = toy(4);
  Optimizer optimizer(model.params, model.weights, optimizer_settings(config.optim, model.arch));
  EXPECT_TRUE(train_step(model, filters, optimizer, {}, t.batch, {{}, 4, 0}, 0.1, 0).finite);
}

// The filter of a frozen weight is scaled by a gain that is trained, and its gradient counts
// nowhere.
TEST(Step, FrozenWeightsStayAndTheRestTrainsAsTheReferenceDoes) {
  const std::vector<std::string> patterns = {"stages.1.0.conv?.weight", "stem.*",
                                             "*.skipinit_gain"};
  const auto frozen_toy = [&] {
    Toy t = toy(6, 0.3);
    freeze(patterns, t.model.params);
    t.optimizer = Optimizer(t.model.params, t.model.weights, t.optimizer.settings());
    return t;
  };
  for (const double rho : {0.0, 0.1}) {
    Toy a = frozen_toy(), b = frozen_toy();
    b.filters = {};
    std::vector<at::Tensor> before;
    for (const at::Tensor& w : a.model.weights) before.push_back(w.detach().clone());
    OptimConfig optim;
    optim.sam_rho = rho;
    const StepSettings s = {{}, 4, 1, sam_settings(optim, a.model.params)};
    for (uint64_t t = 0; t < 3; ++t) {
      const StepResult own = train_step(a.model, a.filters, a.optimizer, {}, a.batch, s, 0.5, t);
      const StepResult reference =
          train_step(b.model, b.filters, b.optimizer, {}, b.batch, s, 0.5, t);
      EXPECT_NEAR(own.loss / reference.loss, 1, 1e-5);
      EXPECT_NEAR(own.stats.grad_norm / reference.stats.grad_norm, 1, 1e-4);
    }
    size_t frozen = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      const Param& p = a.model.params[i];
      frozen += p.frozen;
      EXPECT_EQ(p.frozen, a.model.weights[i].equal(before[i])) << p.name;
      EXPECT_EQ(p.frozen, b.model.weights[i].equal(before[i])) << p.name;
      EXPECT_LE((a.model.weights[i] - b.model.weights[i]).abs().max().item<double>(),
                1e-3 * before[i].abs().max().item<double>() + 3e-6)
          << p.name;
    }
    EXPECT_GT(frozen, 4u);
  }
}

// The norm that clips is that of what is trained.
TEST(Step, AFrozenGradientClipsNothing) {
  Toy whole = toy(6), part = toy(6);
  freeze({"stem.*", "stages.*", "final_conv.*"}, part.model.params);
  part.optimizer = Optimizer(part.model.params, part.model.weights, part.optimizer.settings());
  const StepResult all =
      train_step(whole.model, whole.filters, whole.optimizer, {}, whole.batch, {{}, 6, 1}, 0, 0);
  const StepResult own =
      train_step(part.model, part.filters, part.optimizer, {}, part.batch, {{}, 6, 1}, 0, 0);
  double squares = 0;
  const std::vector<at::Tensor> g = gradients(part.model.weights, part.filters);
  for (size_t i = 0; i < g.size(); ++i)
    if (part.model.params[i].head) squares += g[i].square().sum().item<double>();
  EXPECT_NEAR(own.stats.grad_norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
  EXPECT_LT(own.stats.grad_norm, all.stats.grad_norm);
}

TEST(Step, PatternsOfFrozenParametersAreChecked) {
  Toy t = toy(2);
  EXPECT_THROW(freeze({"steam.*"}, t.model.params), Error);
  EXPECT_THROW(freeze({"*"}, t.model.params), Error);
}

// The last, smaller group must not be divided by the size of a full one.
TEST(Step, MicroBatchesOfAnySizeGiveTheSameGradient) {
  std::vector<at::Tensor> whole;
  double norm = 0;
  for (const int64_t micro : {24, 16, 7, 1}) {
    Toy t = toy(24, 0.5);
    const StepResult r =
        train_step(t.model, t.filters, t.optimizer, {}, t.batch, {{}, micro, 9}, 0, 0);
    if (micro == 24) {
      for (const at::Tensor& g : gradients(t.model.weights, t.filters)) whole.push_back(g.clone());
      norm = r.stats.grad_norm;
      continue;
    }
    EXPECT_NEAR(r.stats.grad_norm / norm, 1, 1e-6) << micro;
    const std::vector<at::Tensor> parts = gradients(t.model.weights, t.filters);
    for (size_t i = 0; i < whole.size(); ++i) {
      const double scale = whole[i].abs().max().item<double>();
      EXPECT_LE((parts[i] - whole[i]).abs().max().item<double>(), 1e-5 * scale + 1e-9)
          << t.model.params[i].name << " with micro-batches of " << micro;
    }
  }
}

// p = 1/7, 2/7, 4/7; with smoothing e every label gets e / 3, the own one 1 - e more.
TEST(Step, MixedTargetsAreChargedByTheirParts) {
  const at::Tensor logits =
                       at::tensor({0.0, std::log(2.0), std::log(4.0)}).view({1, 3}).repeat({2, 1}),
                   labels = at::tensor({int64_t{0}, int64_t{1}}),
                   partners = at::tensor({int64_t{2}, int64_t{1}}),
                   shares = at::tensor({0.25, 0.5});
  const at::Tensor plain = mixed_losses(logits, labels, partners, shares, {});
  EXPECT_NEAR(plain[0].item<double>(), 0.25 * std::log(7.0) + 0.75 * std::log(7.0 / 4), 1e-12);
  EXPECT_NEAR(plain[1].item<double>(), std::log(3.5), 1e-12);
  const at::Tensor smooth =
      mixed_losses(logits, labels, partners, shares, {.kind = "softmax", .label_smoothing = 0.3});
  EXPECT_NEAR(smooth[0].item<double>(),
              0.7 * (0.25 * std::log(7.0) + 0.75 * std::log(7.0 / 4)) +
                  0.1 * (std::log(7.0) + std::log(3.5) + std::log(7.0 / 4)),
              1e-12);
}

// Two classes of which the second has the logit ln 3: p = 1/4 and 3/4 of a softmax, 1/2 and
// 3/4 of sigmoids. The target of the second class is 0.3 of the pixels, and 0.1 of smoothing moves
// it to 0.9 * 0.3 + 0.05 = 0.32. Mixing alone smooths nothing.
TEST(Step, MixedTargetsOfTwoClassesAreThoseWrittenByHand) {
  const at::Tensor logits = at::tensor({0.0, std::log(3.0)}).view({1, 2}),
                   labels = at::tensor({int64_t{0}}), partners = at::tensor({int64_t{1}}),
                   shares = at::tensor({0.7});
  const auto loss = [&](const LossConfig& c) {
    return mixed_losses(logits, labels, partners, shares, c).item<double>();
  };
  const double ln2 = std::log(2.0), ln4 = std::log(4.0), ln43 = std::log(4.0 / 3);
  EXPECT_EQ(LossConfig{}.label_smoothing, 0);
  EXPECT_NEAR(loss({.kind = "softmax"}), 0.7 * ln4 + 0.3 * ln43, 1e-7);
  EXPECT_NEAR(loss({.kind = "softmax", .label_smoothing = 0.1}), 0.68 * ln4 + 0.32 * ln43, 1e-7);
  // Of a logit of 0 both answers cost ln 2.
  EXPECT_NEAR(loss({.kind = "sigmoid"}), ln2 + 0.3 * ln43 + 0.7 * ln4, 1e-7);
  EXPECT_NEAR(loss({.kind = "sigmoid", .label_smoothing = 0.1}), ln2 + 0.32 * ln43 + 0.68 * ln4,
              1e-7);
}

TEST(Step, ABatchOfMixedPicturesHasTheLossOfBothLabels) {
  Toy own = toy(4), other = toy(4), both = toy(4);
  other.batch.labels = {7, 8, 9, 0};
  both.batch.partners = other.batch.labels;
  both.batch.shares = {0.25, 0.25, 0.25, 0.25};
  const auto loss = [](Toy& t) {
    return train_step(t.model, t.filters, t.optimizer, {}, t.batch, {{}, 3, 0}, 0, 0).loss;
  };
  EXPECT_NEAR(loss(both), 0.25 * loss(own) + 0.75 * loss(other), 1e-5);
}

TEST(Step, AStepWithoutAWholePictureChangesNothing) {
  Toy t = toy(4);
  std::fill(t.batch.weights.begin(), t.batch.weights.end(), 0.0f);
  std::vector<at::Tensor> before;
  for (const at::Tensor& w : t.model.weights) before.push_back(w.detach().clone());
  EXPECT_TRUE(train_step(t.model, t.filters, t.optimizer, {}, t.batch, {{}, 4, 0}, 1, 0).empty);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(before[i].equal(t.model.weights[i]));
}

TEST(Step, APictureOfWeightZeroEntersNoGradient) {
  std::vector<at::Tensor> grads[2];
  for (const int other : {0, 1}) {
    Toy t = toy(4);
    if (other)
      std::fill(t.batch.pixels.end() - 16 * 16 * 3, t.batch.pixels.end(),
                100.0f);  // row 3 has weight 0
    train_step(t.model, t.filters, t.optimizer, {}, t.batch, {{}, 4, 0}, 0, 0);
    grads[other] = gradients(t.model.weights, t.filters);
  }
  for (size_t i = 0; i < grads[0].size(); ++i)
    EXPECT_TRUE(grads[0][i].equal(grads[1][i]))
        << toy(4).model.params[i].name << " "
        << (grads[0][i] - grads[1][i]).abs().max().item<double>() << " of "
        << grads[0][i].abs().max().item<double>();
}

TEST(Step, NotANumberEndsTheStepWithoutAnUpdate) {
  Toy t = toy(4);
  t.batch.pixels[0] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor before = t.model.weights[0].detach().clone();
  EXPECT_FALSE(train_step(t.model, t.filters, t.optimizer, {}, t.batch, {{}, 4, 0}, 1, 0).finite);
  EXPECT_TRUE(before.equal(t.model.weights[0]));
}

// By kind of parameter: squares of the distance between two gradients, and of the second.
struct Distance {
  double error = 0, norm = 0, fourth = 0;
  // Of equal errors that would make up the distance: a few large ones are most of it.
  double numbers() const { return error * error / fourth; }
};
void add_distances(const Toy& t, const Toy& exact, std::map<std::string, Distance>& by_kind) {
  const std::vector<at::Tensor> own = gradients(t.model.weights, t.filters);
  for (size_t i = 0; i < t.model.params.size(); ++i) {
    const std::string& name = t.model.params[i].name;
    Distance& d = by_kind[name.substr(name.rfind('.') + 1) +
                          (name.find("attn") < name.size() ? " of squeeze-excite" : "")];
    const at::Tensor g = exact.model.weights[i].grad();
    const at::Tensor squares = (own[i].to(at::kDouble) - g).square();
    d.error += squares.sum().item<double>();
    d.fourth += squares.square().sum().item<double>();
    d.norm += g.square().sum().item<double>();
  }
}

// The reference in bfloat16 is what autocast makes of the model: weights standardised in float and
// rounded, every operation on bfloat16. Several batches, or the few gains would be noise.
TEST(Step, KernelsInBf16AreNoLessExactThanAtensOperations) {
  std::map<std::string, Distance> ours, theirs;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Toy own = toy(32, 0, at::kBFloat16), aten = toy(32, 0, at::kBFloat16), exact = toy(32);
    if (own.filters.of_layer.empty()) GTEST_SKIP() << "no kernels on this machine";
    aten.filters.of_layer.clear();
    exact.filters.of_layer.clear();
    exact.filters.compute = at::kDouble;
    for (at::Tensor& w : exact.model.weights) w = w.detach().to(at::kDouble).requires_grad_();
    exact.optimizer = Optimizer(exact.model.params, exact.model.weights, {});
    for (Toy* t : {&own, &aten, &exact}) {
      for (size_t i = 0; i < t->batch.pixels.size(); ++i)
        t->batch.pixels[i] = 2 * uniform(words(seed, Op::generator, i)[0]) - 1;
      train_step(t->model, t->filters, t->optimizer, {}, t->batch, {{}, 32, 0}, 0, 0);
    }
    add_distances(own, exact, ours);
    add_distances(aten, exact, theirs);
  }
  for (const auto& [kind, d] : ours) {
    const double here = std::sqrt(d.error / d.norm),
                 there = std::sqrt(theirs[kind].error / theirs[kind].norm);
    RecordProperty(
        kind, fmt::format("{:.4f} here, {:.4f} by ATen, {:.0f} errors", here, there, d.numbers()));
    // Norms of n random numbers have a deviation of 1 / sqrt(2 n), so that two of them are seldom
    // more than 2 / sqrt(n) apart.
    EXPECT_LE(here, (1.02 + 2 / std::sqrt(d.numbers())) * there) << kind << " of " << d.numbers();
  }
}

TEST(Step, EveryRunComputesTheSameBits) {
  std::vector<Toy> toys;
  for (int run = 0; run < 3; ++run) {
    toys.push_back(toy(24, 0.2, at::kBFloat16));
    Toy& t = toys.back();
    for (uint64_t step = 0; step < 3; ++step)
      train_step(t.model, t.filters, t.optimizer, {}, t.batch, {{}, 10, 1}, 0.1, step);
  }
  for (size_t i = 0; i < toys[0].model.weights.size(); ++i)
    for (const size_t run : {1u, 2u})
      EXPECT_TRUE(toys[0].model.weights[i].equal(toys[run].model.weights[i]))
          << toys[0].model.params[i].name;
}

// Activations in bfloat16 keep float weights and gradients near those of float32.
TEST(Step, Bf16GradientsAreCloseToThoseOfFloat32) {
  Toy a = toy(16), b = toy(16, 0, at::kBFloat16);
  const double f32 =
      train_step(a.model, a.filters, a.optimizer, {}, a.batch, {{}, 16, 0}, 0, 0).stats.grad_norm;
  const double bf16 =
      train_step(b.model, b.filters, b.optimizer, {}, b.batch, {{}, 16, 0}, 0, 0).stats.grad_norm;
  EXPECT_NEAR(bf16 / f32, 1, 0.05);
  for (const at::Tensor& g : gradients(b.model.weights, b.filters))
    EXPECT_EQ(g.scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace nfscale
