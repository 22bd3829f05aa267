#include "train/evaluate.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include "config/load.h"
#include "model/init.h"

namespace nfscale {
namespace {

// Four examples by hand: losses 1, 2, 3, 6; two right; one bin holds two.
TEST(Evaluation, AddsUpWhatIsKnownOfExamples) {
  EvaluationSum sum(3);
  sum.add({"", 0, 0, 1, 0.95}, true);
  sum.add({"", 0, 2, 2, 0.97}, true);
  sum.add({"", 1, 1, 3, 0.50}, true);
  sum.add({"", 1, 2, 6, 0.40}, false);
  sum.add_broken();
  const Evaluation e = sum.result();
  EXPECT_DOUBLE_EQ(e.loss, 3);
  // Variance (4 + 1 + 0 + 9) / 3, of a mean of four.
  EXPECT_NEAR(e.loss_se, std::sqrt(14.0 / 3 / 4), 1e-12);
  EXPECT_EQ(e.top1, 0.5);
  EXPECT_EQ(e.top5, 0.75);
  EXPECT_EQ(e.examples, 5);
  EXPECT_EQ(e.broken, 1);
  // Bins of 1/15: {0.95, 0.97} with one right, {0.50} right, {0.40} wrong.
  EXPECT_NEAR(e.ece, (std::abs(1.92 - 1) + 0.5 + 0.4) / 4, 1e-12);
  EXPECT_EQ(e.classes[0].right, 1);
  EXPECT_DOUBLE_EQ(e.classes[1].loss, 4.5);
  EXPECT_EQ(e.classes[2].examples, 0);
  ASSERT_EQ(e.confused.size(), 2u);
  EXPECT_EQ(e.confused[0].predicted, 2);
}

TEST(Evaluation, WhatIsNotFiniteStaysVisible) {
  EvaluationSum sum(2);
  sum.add({"", 0, 0, NAN, NAN}, true);
  sum.add({"", 1, 0, 2, 0.5}, true);
  EXPECT_TRUE(std::isnan(sum.result().loss));
  EXPECT_TRUE(std::isfinite(sum.result().ece));
  EvaluationSum large(2);
  large.add({"", 0, 0, INFINITY, 0.5}, true);
  EXPECT_TRUE(std::isinf(large.result().loss));
}

TEST(Evaluation, NothingToEvaluateIsZero) {
  const Evaluation e = EvaluationSum(2).result();
  EXPECT_EQ(e.loss, 0);
  EXPECT_EQ(e.loss_se, 0);
  EXPECT_TRUE(e.confused.empty());
}

Model small_model() {
  Config config;
  set_key(config, "model.name", "nfnet_n0", "test");
  resolve(config);
  Model model = make_model(make_arch(config.model, 10));
  init_weights(model, 3);
  return model;
}

// Three views by hand: what the mean of their probabilities is, and where they lie.
TEST(Evaluation, ViewsAreAveragedByTheirProbabilities) {
  const at::NoGradGuard no_grad;
  Model model = small_model();
  for (const at::Tensor& w : model.weights)
    if (w.numel() == 1) w.detach().fill_(0.5);
  Filters filters = make_filters(model, at::kFloat, false);
  at::manual_seed(1);
  const at::Tensor frames = at::randn({2, 3, 40, 40}) * 2;
  const auto probability = [&](int64_t top, int64_t left, bool mirrored) {
    at::Tensor part = frames.narrow(2, top, 32).narrow(3, left, 32);
    if (mirrored) part = part.flip(3);
    return at::softmax(forward(model, filters, part.contiguous()), 1);
  };
  EvaluateOptions options;
  options.size = 32;
  const auto all = [&](int views) {
    options.views = views;
    return at::softmax(logits_of_views(model, filters, frames, options), 1);
  };
  const at::Tensor middle = probability(4, 4, false);
  const at::Tensor five = (middle + probability(0, 0, false) + probability(0, 8, false) +
                           probability(8, 0, false) + probability(8, 8, false)) /
                          5;
  const auto apart = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().max().item<double>();
  };
  EXPECT_LT(apart(all(1), middle), 1e-5);
  EXPECT_LT(apart(all(2), (middle + probability(4, 4, true)) / 2), 1e-5);
  EXPECT_LT(apart(all(5), five), 1e-5);
  EXPECT_GT(apart(all(5), middle), 1e-3);  // views differ at all
  const at::Tensor ten = all(10), two = all(2);
  options.loss = "sigmoid";
  options.views = 2;
  const at::Tensor p = at::sigmoid(logits_of_views(model, filters, frames, options));
  const auto chance = [&](bool mirrored) {
    at::Tensor part = frames.narrow(2, 4, 32).narrow(3, 4, 32);
    if (mirrored) part = part.flip(3);
    return at::sigmoid(forward(model, filters, part.contiguous()));
  };
  EXPECT_LT(apart(p, (chance(false) + chance(true)) / 2), 1e-5);
  EXPECT_GT(apart(ten, two), 1e-4);
}

// The mean of probabilities that no float holds is not nothing.
TEST(Evaluation, AViewThatIsSureOfAnotherClassGivesAFiniteLoss) {
  const at::NoGradGuard no_grad;
  Model model = small_model();
  for (size_t i = 0; i < model.params.size(); ++i)
    if (model.params[i].name == "head.fc.bias") model.weights[i].detach()[4].fill_(500);
  Filters filters = make_filters(model, at::kFloat, false);
  EvaluateOptions options;
  options.size = 32;
  options.views = 2;
  const at::Tensor logits = logits_of_views(model, filters, at::randn({1, 3, 32, 32}), options);
  EXPECT_TRUE(logits.isfinite().all().item<bool>());
  EXPECT_NEAR((logits[0][4] - logits[0][0]).item<double>(), 500, 20);
}

TEST(Evaluation, CornersOfAWholePictureAreRefused) {
  EvaluateOptions options;
  options.size = 32;
  options.views = 5;
  for (const char* rule : {"pct:1", "squash", "auto"}) {
    options.data.eval_crop = rule;
    EXPECT_THROW(check_views(options), Error) << rule;
  }
  for (const char* rule : {"pct:0.9", "squash32", "center32"}) {
    options.data.eval_crop = rule;
    EXPECT_NO_THROW(check_views(options)) << rule;
  }
}

}  // namespace
}  // namespace nfscale
