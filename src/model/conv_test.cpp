#include "model/conv.h"

#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "model/ops.h"
#include "model/products.h"

namespace nfscale {
namespace {

struct Case {
  int64_t batch, in, out, height, width, kernel, stride, groups;
};

// Odd and even sides, strides, groups, single pixels, more filters or channels than a block holds.
const std::vector<Case> kCases = {
    {2, 8, 6, 5, 7, 3, 1, 1},     {3, 8, 8, 6, 6, 3, 2, 1},       {2, 6, 10, 7, 5, 3, 2, 1},
    {2, 32, 32, 4, 4, 3, 1, 2},   {2, 96, 96, 4, 4, 3, 2, 6},     {3, 3, 16, 9, 9, 3, 2, 1},
    {1, 3, 4, 8, 8, 3, 1, 1},     {2, 16, 16, 1, 1, 3, 1, 1},     {2, 16, 16, 1, 1, 3, 2, 1},
    {2, 16, 16, 1, 6, 3, 2, 1},   {4, 200, 144, 3, 3, 1, 1, 1},   {2, 16, 260, 40, 40, 1, 1, 1},
    {3, 64, 64, 33, 31, 3, 2, 1}, {2, 160, 320, 17, 15, 3, 1, 1}, {1, 64, 32, 130, 130, 3, 1, 1},
};

std::string name(const Case& c) {
  return fmt::format("{} x {} > {} of {} x {}, kernel {}, stride {}, groups {}", c.batch, c.in,
                     c.out, c.height, c.width, c.kernel, c.stride, c.groups);
}

double error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor difference = found.to(at::kDouble) - expected;
  return difference.abs().max().item<double>() / expected.abs().max().item<double>();
}

// Against ATen's convolution and GELU in double with autograd.
TEST(Conv, EqualsAtensConvolutionAndItsGradients) {
  at::manual_seed(0);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    if (!has_products(type)) GTEST_SKIP() << "no products of this type on this machine";
    for (const Case& c : kCases)
      for (const Activation act : {Activation::none, Activation::gelu_tanh, Activation::gelu_erf}) {
        const auto rounded = [&](const at::Tensor& t) { return t.to(type).to(at::kDouble); };
        const at::Tensor
            x = rounded(at::randn({c.batch, c.in, c.height, c.width})).requires_grad_(),
            w = rounded(at::randn({c.out, c.in / c.groups, c.kernel, c.kernel})).requires_grad_(),
            b = rounded(at::randn({c.out})).requires_grad_();
        at::Tensor g = x;
        if (act != Activation::none)
          g = gelu(x, act == Activation::gelu_erf ? Numerics::timm : Numerics::deepmind);
        const at::Tensor y = conv_same(g, w, b, c.stride, c.groups);
        const at::Tensor d = rounded(at::randn(y.sizes()));
        y.backward(d);

        const at::NoGradGuard no_grad;
        const auto last = [&](const at::Tensor& t) {
          return t.detach().to(at::TensorOptions(type), false, true,
                               at::MemoryFormat::ChannelsLast);
        };
        const ConvSettings settings = {c.stride, c.groups, act, Activation::none};
        const at::Tensor filter = w.detach().permute({0, 2, 3, 1}).contiguous().to(type);
        const at::Tensor own = conv_forward(settings, last(x), filter, b.detach().to(at::kFloat));
        // bfloat16: operands are exact, the activation and the result are rounded once.
        const double tolerance = type == at::kFloat ? 2e-6 : 6e-3;
        EXPECT_LT(error(own, y.detach()), tolerance) << name(c);
        const at::Tensor activated =
            conv_forward({c.stride, c.groups, act, Activation::gelu_tanh}, last(x), filter,
                         b.detach().to(at::kFloat), pack_filter(filter, c.groups));
        EXPECT_LT(error(activated, gelu(y.detach(), Numerics::deepmind)), tolerance) << name(c);
        at::Tensor d_filter = at::zeros(filter.sizes());
        const auto sink = [&](int64_t first, int64_t count, float* rows, bool, bool) {
          const int64_t n = filter.numel() / filter.size(0);
          for (int64_t i = 0; i < count * n; ++i)
            d_filter.data_ptr<float>()[first * n + i] += rows[i];
        };
        const ConvGradients own_d = conv_backward(settings, last(d), last(x), filter, true, sink);
        EXPECT_LT(error(own_d.x, x.grad()), tolerance) << name(c);
        EXPECT_LT(error(own_d.bias, b.grad()), tolerance) << name(c);
        EXPECT_LT(error(d_filter, w.grad().permute({0, 2, 3, 1})), tolerance) << name(c);
      }
  }
}

}  // namespace
}  // namespace nfscale
