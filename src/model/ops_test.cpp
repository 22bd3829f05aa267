#include "model/ops.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "model/loss.h"

namespace nfscale {
namespace {

double largest(const at::Tensor& t) {
  return t.abs().max().item<double>();
}

at::Tensor filter_order(const at::Tensor& w) {
  return w.permute({0, 2, 3, 1}).contiguous();
}

struct Standardized {
  at::Tensor value, d_weight, d_gain;
};
Standardized by_rows(const at::Tensor& w, const at::Tensor& gain, const at::Tensor& d,
                     Numerics numerics) {
  Filter f;
  f.weight = 0, f.gain = 1, f.factor = 1.7, f.numerics = numerics;
  f.value = at::empty_like(filter_order(w));
  f.gradient = at::empty_like(f.value);
  f.rows.resize(static_cast<size_t>(w.size(0)));
  f.squares.resize(f.rows.size());
  const Weights weights = {w, gain};
  gain.mutable_grad() = at::empty_like(gain);
  filter_rows_forward(weights, f, 0, w.size(0));
  // In two parts, the second added to the first.
  at::Tensor part = filter_order(d * 0.25), rest = filter_order(d * 0.75);
  filter_rows_backward(weights, f, 0, w.size(0), part.data_ptr<float>(), false, false);
  filter_rows_backward(weights, f, 0, w.size(0), rest.data_ptr<float>(), true, true);
  const at::Tensor d_weight = f.gradient.view(w.sizes());
  for (int64_t r = 0; r < w.size(0); ++r)
    EXPECT_NEAR(
        f.squares[static_cast<size_t>(r)] / (d_weight[r].square().sum().item<double>() + 1e-30), 1,
        1e-5);
  return {f.value, d_weight, gain.grad()};
}

// Against the composition of ATen's operations in double, with its own autograd.
TEST(Ops, FiltersAndTheirGradientEqualTheComposition) {
  at::manual_seed(0);
  for (const Numerics numerics : {Numerics::deepmind, Numerics::timm}) {
    at::Tensor w = at::randn({6, 21, 3, 3}), gain = at::randn({6, 1, 1, 1}),
               d = at::randn({6, 21, 3, 3});
    w[1] *= 1e-4;  // variance times fan-in below DeepMind's 1e-4
    w[2] += 5;     // a mean far above the deviation
    const at::Tensor a = w.to(at::kDouble).requires_grad_(),
                     b = gain.to(at::kDouble).requires_grad_();
    const at::Tensor value = standardize(a, b, numerics, 1.7);
    (value * d).sum().backward();
    const Standardized own = by_rows(w, gain, d, numerics);
    EXPECT_LT(largest(own.value - filter_order(value.detach())), 1e-6);
    for (int64_t r = 0; r < w.size(0); ++r)
      EXPECT_LT(largest(own.d_weight[r] - a.grad()[r]) / largest(a.grad()[r]), 1e-5);
    EXPECT_LT(largest(own.d_gain - b.grad()) / largest(b.grad()), 1e-6);
  }
}

// A filter of equal weights has no deviation: its standardised weights and gradients are numbers.
TEST(Ops, AConstantFilterIsStandardizedToZero) {
  at::manual_seed(0);
  for (const Numerics numerics : {Numerics::deepmind, Numerics::timm}) {
    const Standardized own = by_rows(at::full({2, 3, 3, 3}, 0.1f), at::ones({2, 1, 1, 1}),
                                     at::randn({2, 3, 3, 3}), numerics);
    EXPECT_LT(largest(own.value), 1e-5);
    EXPECT_TRUE(std::isfinite(largest(own.d_weight)));
    EXPECT_TRUE(std::isfinite(largest(own.d_gain)));
  }
}

// SAME padding of a 3 x 3 convolution with stride 2 samples 0, 2, 4, ... of an even side as the
// first of each window, not the middle, as PyTorch's padding = 1 would.
TEST(Ops, StridedConvolutionOfAnEvenSideIsPaddedAtTheEnd) {
  const at::Tensor x = at::arange(4, at::kDouble).view({1, 1, 1, 4}).repeat({1, 1, 4, 1});
  at::Tensor w = at::zeros({1, 1, 3, 3}, at::kDouble);
  w[0][0][0][0] = 1;
  const at::Tensor y = conv_same(x, w, at::zeros({1}, at::kDouble), 2, 1);
  EXPECT_EQ(y.sizes(), (at::IntArrayRef{1, 1, 2, 2}));
  EXPECT_EQ(y[0][0][0][0].item<double>(), 0);
  EXPECT_EQ(y[0][0][0][1].item<double>(), 2);
}

// Taps that only padding meets have no gradient. oneDNN 3.13 left theirs uninitialised in bfloat16,
// so that runs on small pictures differed from each other, or diverged.
TEST(Ops, TapsThatOnlyPaddingMeetsHaveNoGradient) {
  at::manual_seed(0);
  for (const std::vector<int64_t>& sides : {std::vector<int64_t>{1, 1}, {1, 4}, {3, 1}, {2, 2}}) {
    for (const int64_t stride : {1, 2}) {
      const at::Tensor x = at::randn({8, 4, sides[0], sides[1]}), w = at::randn({6, 4, 3, 3});
      at::Tensor grads[2];
      for (const bool bf16 : {false, true}) {
        const auto type = bf16 ? at::kBFloat16 : at::kDouble;
        { const at::Tensor garbage = at::full({1 << 16}, NAN, at::kBFloat16); }
        const at::Tensor weight = w.clone().requires_grad_();
        const at::Tensor input =
            x.to(at::TensorOptions(type), false, false, at::MemoryFormat::ChannelsLast);
        conv_same(input, weight, at::zeros({6}), stride, 1).to(at::kDouble).sum().backward();
        grads[bf16] = weight.grad();
      }
      EXPECT_LT(largest(grads[1] - grads[0]), 0.05 * largest(grads[0]))
          << sides[0] << " x " << sides[1] << " stride " << stride;
      EXPECT_TRUE(grads[1].eq(0).equal(grads[0].eq(0)));
    }
  }
}

TEST(Ops, PoolByKernelsEqualsTheComposition) {
  at::manual_seed(0);
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const std::vector<int64_t>& sides : {std::vector<int64_t>{1, 1}, {4, 6}, {5, 7}, {3, 1}}) {
      const at::Tensor x =
          at::randn({3, 20, sides[0], sides[1]})
              .to(at::TensorOptions(type), false, true, at::MemoryFormat::ChannelsLast);
      at::Tensor own = x.clone().requires_grad_(), other = x.to(at::kDouble).requires_grad_();
      const at::Tensor y = shortcut_pool_by_kernels(own, Activation::gelu_tanh),
                       expected = shortcut_pool(gelu(other, Numerics::deepmind));
      const at::Tensor d = at::randn(expected.sizes()).to(type);
      y.backward(d);
      expected.backward(d.to(at::kDouble));
      const double tolerance = type == at::kFloat ? 1e-6 : 1e-2;
      EXPECT_LT(largest(y.detach() - expected.detach()), tolerance * largest(expected.detach()));
      EXPECT_LT(largest(own.grad() - other.grad()), tolerance * largest(other.grad()));
    }
}

TEST(Ops, MeanByKernelsEqualsTheComposition) {
  at::manual_seed(0);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x =
        at::randn({3, 20, 5, 4})
            .to(at::TensorOptions(type), false, true, at::MemoryFormat::ChannelsLast);
    at::Tensor own = x.clone().requires_grad_(), other = x.to(at::kDouble).requires_grad_();
    const at::Tensor y = mean_by_kernels(own, Activation::gelu_erf),
                     expected = gelu(other, Numerics::timm).mean(at::IntArrayRef{2, 3});
    const at::Tensor d = at::randn(expected.sizes());
    y.backward(d);
    expected.backward(d.to(at::kDouble));
    const double tolerance = type == at::kFloat ? 1e-6 : 1e-2;
    EXPECT_LT(largest(y.detach() - expected.detach()), tolerance * largest(expected.detach()));
    EXPECT_LT(largest(own.grad() - other.grad()), tolerance * largest(other.grad()));
  }
}

TEST(Ops, ShortcutPoolOfAnOddSideDividesByThePixelsItHas) {
  const at::Tensor y = shortcut_pool(at::ones({1, 1, 3, 5}));
  EXPECT_EQ(y.sizes(), (at::IntArrayRef{1, 1, 2, 3}));
  EXPECT_EQ(largest(y - 1), 0);
}

// Against the composition in double, with its own autograd.
TEST(Ops, SqueezeExciteByKernelsEqualsTheComposition) {
  at::manual_seed(0);
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const bool masked : {false, true}) {
      const int64_t n = 3, c = 20, e = 10;
      std::vector<at::Tensor> grads[2], outs;
      const at::Tensor x = at::randn({n, c, 5, 3}).to(type), s = at::randn({n, c, 5, 3}).to(type),
                       w1 = at::randn({e, c, 1, 1}), b1 = at::randn({e}),
                       w2 = at::randn({c, e, 1, 1}), b2 = at::randn({c}), d = at::randn(x.sizes()),
                       factor = masked ? at::randn({n, 1}) : at::randn({});
      for (const bool own : {false, true}) {
        const auto leaf = [&](const at::Tensor& t, bool activation) {
          return t
              .to(at::TensorOptions(own ? (activation ? type : at::kFloat) : at::kDouble), false,
                  true, activation ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous)
              .detach()
              .requires_grad_();
        };
        const std::vector<at::Tensor> in = {leaf(s, true),      leaf(x, true),   leaf(w1, false),
                                            leaf(b1, false),    leaf(w2, false), leaf(b2, false),
                                            leaf(factor, false)};
        const SqueezeExcite se = {in[2], in[3], in[4], in[5]};
        const auto r = own ? squeeze_excite_add_by_kernels(in[0], in[1], se, in[6])
                           : squeeze_excite_add(in[0], in[1], se, in[6]);
        outs.push_back(r.out.detach().to(at::kDouble));
        (r.out.to(at::kDouble) * d).sum().backward();
        for (const at::Tensor& t : in) grads[own].push_back(t.grad().to(at::kDouble));
      }
      const double tolerance = type == at::kFloat ? 1e-5 : 1e-2;
      EXPECT_LT(largest(outs[1] - outs[0]) / largest(outs[0]), tolerance);
      for (size_t i = 0; i < grads[0].size(); ++i)
        EXPECT_LT(largest(grads[1][i] - grads[0][i]) / largest(grads[0][i]), tolerance) << i;
    }
}

// By hand: two classes, logits 0 and ln 3, so p = 1/4 and 3/4.
TEST(Ops, LossesEqualTheirClosedForms) {
  at::Tensor logits = at::zeros({1, 2}, at::kDouble);
  logits[0][1] = std::log(3);
  const at::Tensor label = at::zeros({1}, at::kLong);
  EXPECT_NEAR(softmax_loss(logits, label, 0).item<double>(), std::log(4), 1e-12);
  EXPECT_NEAR(softmax_loss(logits, label, 0.1).item<double>(),
              0.95 * std::log(4) + 0.05 * std::log(4.0 / 3), 1e-12);
  at::Tensor target = at::zeros({1, 2}, at::kDouble);
  target[0][0] = 1;
  EXPECT_NEAR(sigmoid_loss(logits, target, 0).item<double>(), std::log(2) + std::log(4), 1e-12);
}

TEST(Ops, GeluIsTheFormOfItsNumerics) {
  const at::Tensor x = at::ones({1}, at::kDouble);
  const double erf_form = 0.5 * (1 + std::erf(1 / std::sqrt(2.0)));
  const double tanh_form = 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * 1.044715));
  EXPECT_NEAR(gelu(x, Numerics::timm).item<double>(), erf_form, 1e-12);
  EXPECT_NEAR(gelu(x, Numerics::deepmind).item<double>(), tanh_form, 1e-12);
}

}  // namespace
}  // namespace nfscale
