#include "train/optimizer.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace nfscale {
namespace {

constexpr double kClip = 0.01, kEps = 1e-3;

at::Tensor clipped(const at::Tensor& p, const at::Tensor& g, const std::string& rule,
                   int64_t* cut = nullptr) {
  at::Tensor out = g.clone();
  const auto [c, units] = adaptive_clip(p, out, kClip, kEps, rule);
  if (cut) *cut = c;
  return out;
}

TEST(AdaptiveClipping, AZeroGradientStaysZero) {
  for (const char* rule : {"deepmind", "timm"})
    EXPECT_EQ(clipped(at::ones({3, 4}), at::zeros({3, 4}), rule).abs().max().item<double>(), 0);
}

TEST(AdaptiveClipping, AParameterWithoutAGradientIsPassedOver) {
  const at::Tensor w = at::ones({3, 4}).requires_grad_();
  Optimizer optimizer({{"head.fc.weight", {3, 4}, Layer::Kind::linear, 4}}, {w}, {});
  EXPECT_EQ(optimizer.clip({w}).grad_norm, 0);
  optimizer.step({w}, 0.1);
  EXPECT_EQ((w - 1).abs().max().item<double>(), 0);
}

TEST(AdaptiveClipping, ZeroWeightsAreLimitedByEpsilon) {
  const at::Tensor g = clipped(at::zeros({3, 4}), at::ones({3, 4}), "deepmind");
  EXPECT_NEAR(g[0].norm().item<double>(), kClip * kEps, 1e-9);
}

TEST(AdaptiveClipping, OnlyTheRowThatIsTooLargeIsScaled) {
  for (const char* rule : {"deepmind", "timm"}) {
    const at::Tensor p = at::ones({3, 4});
    at::Tensor g = at::full({3, 4}, 0.005);
    g[1] *= 100;
    int64_t cut = 0;
    const at::Tensor out = clipped(p, g, rule, &cut);
    EXPECT_EQ(cut, 1);
    EXPECT_TRUE(out[0].equal(g[0]));
    EXPECT_TRUE(out[2].equal(g[2]));
    EXPECT_NEAR(out[1].norm().item<double>(), kClip * 2, 1e-7);
  }
}

TEST(AdaptiveClipping, NotANumberIsNotHidden) {
  at::Tensor g = at::full({3, 4}, 1.0);
  g[1][2] = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor out = clipped(at::ones({3, 4}), g, "timm");
  EXPECT_TRUE(std::isnan(out[1][2].item<double>()));
  at::Tensor w = at::ones({3, 4}).requires_grad_();
  w.mutable_grad() = g.to(at::kFloat);
  EXPECT_FALSE(
      std::isfinite(Optimizer({{"head.fc.weight", {3, 4}, Layer::Kind::linear, 4}}, {w}, {})
                        .clip({w})
                        .grad_norm));
}

TEST(AdaptiveClipping, TheTwoRulesDifferExactlyOnGains) {
  at::manual_seed(1);
  const at::Tensor p = at::ones({5, 1, 1, 1}), g = at::randn({5, 1, 1, 1});
  EXPECT_FALSE(clipped(p, g, "deepmind").equal(clipped(p, g, "timm")));
  EXPECT_NEAR(clipped(p, g, "deepmind").norm().item<double>(), kClip * std::sqrt(5.0), 1e-7);
  EXPECT_NEAR(clipped(p, g, "timm").abs().max().item<double>(), kClip, 1e-7);
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{5}, {}, {4, 3, 3, 3}, {4, 6, 1, 1}, {4, 6}}) {
    const at::Tensor a = at::ones(shape), b = at::randn(shape);
    EXPECT_TRUE(clipped(a, b, "deepmind").equal(clipped(a, b, "timm")));
  }
}

TEST(Optimizer, ClipNormBoundsTheWholeGradientAfterAdaptiveClipping) {
  const at::Tensor a = at::ones({4}).requires_grad_(), b = at::ones({9}).requires_grad_();
  a.mutable_grad() = at::full({4}, 3.0f);
  b.mutable_grad() = at::full({9}, 4.0f);
  Optimizer optimizer(
      {{"a.bias", {4}, Layer::Kind::conv, 1}, {"b.bias", {9}, Layer::Kind::conv, 1}}, {a, b},
      {.momentum = 0, .agc = 0, .clip_norm = 0.5, .nesterov = false, .agc_exclude = {}});
  EXPECT_NEAR(optimizer.clip({a, b}).grad_norm, std::sqrt(36.0 + 144.0), 1e-6);
  optimizer.step({a, b}, 1);  // without momentum a step is the clipped gradient
  EXPECT_NEAR(std::hypot((a - 1).norm().item<double>(), (b - 1).norm().item<double>()), 0.5, 1e-6);
}

// A row that is longer than what a thread takes at a time is not cut: its filter needs all of it.
TEST(Optimizer, AFilterOfALongRowIsMadeOfTheWholeRow) {
  at::manual_seed(0);
  const std::vector<int64_t> shape = {2, 40000, 1, 1};
  const Weights weights = {at::randn(shape).requires_grad_(), at::ones({2, 1, 1, 1})};
  Filters filters;
  Filter& f = filters.of_layer.emplace_back();
  f.weight = 0, f.gain = 1;
  f.value = at::zeros({2, 1, 1, 40000});
  f.rows.resize(2), f.squares.resize(2);
  weights[0].mutable_grad() = at::randn(shape);
  Optimizer optimizer({{"a.weight", shape, Layer::Kind::std_conv, 40000},
                       {"a.gain", {2, 1, 1, 1}, Layer::Kind::std_conv, 1}},
                      weights, {});
  optimizer.clip(weights, filters);
  optimizer.step(weights, filters, 0.1, {}, 0);
  const at::Tensor made = f.value.clone();
  filter_rows_forward(weights, f, 0, 2);
  EXPECT_TRUE(made.equal(f.value));
}

TEST(Optimizer, APatternThatFitsNothingIsRefused) {
  const at::Tensor w = at::ones({4}).requires_grad_();
  EXPECT_THROW(
      Optimizer({{"a.bias", {4}, Layer::Kind::conv, 1}}, {w}, {.agc_exclude = {"*.skipinit_gain"}}),
      Error);
  // Nor looked for where nothing is clipped: one base serves several families.
  EXPECT_NO_THROW(Optimizer({{"a.bias", {4}, Layer::Kind::conv, 1}}, {w},
                            {.agc = 0, .agc_exclude = {"*.skipinit_gain"}}));
}

TEST(Ema, WarmsUpWithTheStep) {
  const at::Tensor w = at::ones({1}).requires_grad_();
  const Ema ema{.average = {at::zeros({1})}, .decay = 0.9999};
  Optimizer optimizer({{"head.fc.bias", {1}, Layer::Kind::linear, 1}}, {w}, {});
  w.mutable_grad() = at::zeros({1});
  optimizer.clip({w});
  optimizer.step({w}, 0, ema, 0);  // d = 1/10
  EXPECT_NEAR(ema.average[0].item<double>(), 0.9, 1e-7);
  optimizer.step({w}, 0, ema, 2);  // d = 3/12
  EXPECT_NEAR(ema.average[0].item<double>(), 0.9 / 4 + 0.75, 1e-7);
}

}  // namespace
}  // namespace nfscale
