#include "model/attention.h"

#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "model/ops.h"
#include "model/products.h"

namespace nfscale {
namespace {

struct Case {
  int64_t pictures, queries, keys, heads, width;
  bool own_queries;  // not beside the keys and values
  double size;       // of the scores, about
};

// The definition, in double.
at::Tensor reference(const at::Tensor& q, const at::Tensor& kv, int64_t heads) {
  const auto parts = kv.chunk(q.defined() ? 2 : 3, -1);
  const auto split = [&](const at::Tensor& x) {
    return x.unflatten(-1, {heads, -1}).transpose(1, 2);
  };
  const at::Tensor queries = split(q.defined() ? q : parts[0]);
  const at::Tensor scores = at::matmul(queries, split(parts[parts.size() - 2]).transpose(2, 3)) /
                            std::sqrt(static_cast<double>(queries.size(3)));
  return at::matmul(at::softmax(scores, -1), split(parts.back())).transpose(1, 2).flatten(2);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b).abs().max() / b.abs().max().clamp_min(1e-12)).item<double>();
}

void compare(const Case& c, at::ScalarType type, double tolerance) {
  const int64_t d = c.heads * c.width;
  at::Tensor q, kv = at::randn({c.pictures, c.keys, (c.own_queries ? 2 : 3) * d}) * c.size;
  if (c.own_queries) q = at::randn({c.pictures, c.queries, d}).to(type).requires_grad_();
  kv = kv.to(type).requires_grad_();
  const at::Tensor out = attend_by_kernels(q, kv, c.heads);
  const at::Tensor d_out = at::randn(out.sizes()).to(type);
  out.backward(d_out);
  const auto exact = [](const at::Tensor& t) {
    return t.defined() ? t.detach().to(at::kDouble).requires_grad_() : at::Tensor();
  };
  const at::Tensor q64 = exact(q), kv64 = exact(kv), out64 = reference(q64, kv64, c.heads);
  out64.backward(d_out.to(at::kDouble));
  EXPECT_EQ(out.sizes(), out64.sizes());
  EXPECT_LT(largest_difference(out.detach(), out64.detach()), tolerance);
  EXPECT_LT(largest_difference(kv.grad(), kv64.grad()), tolerance);
  if (q.defined() && c.keys > 1) {  // with one key nothing depends on the query
    EXPECT_LT(largest_difference(q.grad(), q64.grad()), tolerance);
  }
}

// Random shapes: odd numbers of keys and queries, several blocks of queries, one query, one key.
TEST(Attention, EqualsItsDefinitionWithItsGradients) {
  if (!has_products(at::kFloat)) GTEST_SKIP() << "no products here";
  at::manual_seed(0);
  const auto upto = [](int n, int i, uint32_t most) {
    return 1 + static_cast<int64_t>(below(
                   words(5, Op::generator, static_cast<uint64_t>(n), static_cast<uint32_t>(i))[0],
                   most));
  };
  for (int n = 0; n < 60; ++n) {
    Case c = {
        upto(n, 0, 3), 0, upto(n, 1, n % 4 == 0 ? 300 : 40), upto(n, 2, 4), 2 * upto(n, 3, 20),
        n % 3 == 0,    1};
    c.queries = c.own_queries ? upto(n, 4, 200) : c.keys;
    SCOPED_TRACE(
        fmt::format("{}: {} {} {} {} {}", n, c.pictures, c.queries, c.keys, c.heads, c.width));
    compare(c, at::kFloat, 2e-5);
    if (has_products(at::kBFloat16)) compare(c, at::kBFloat16, 0.03);
  }
}

// Scores of some hundred: exponentials of them leave the range of float, their softmax does not.
TEST(Attention, LargeScoresAreTakenFromTheirLargest) {
  if (!has_products(at::kFloat)) GTEST_SKIP() << "no products here";
  at::manual_seed(0);
  compare({2, 33, 33, 2, 16, false, 12}, at::kFloat, 1e-4);
  const at::Tensor kv = at::full({1, 5, 6}, 1e4f);
  EXPECT_EQ(attend_by_kernels({}, kv, 1).max().item<float>(), 1e4f);
}

TEST(Attention, WhatIsNotANumberStaysOne) {
  if (!has_products(at::kFloat)) GTEST_SKIP() << "no products here";
  at::manual_seed(0);
  for (const auto type : {at::kFloat, at::kBFloat16})
    for (const float bad : {NAN, INFINITY}) {
      if (!has_products(type)) continue;
      at::Tensor kv = at::randn({1, 20, 48});
      kv[0][3][20] = bad;  // of a key
      EXPECT_TRUE(attend_by_kernels({}, kv.to(type), 2).isnan().any().item<bool>()) << bad;
    }
}

// One query for all pictures, as attention pooling has it: its gradients are summed.
TEST(Attention, AQueryMayBeSharedByThePictures) {
  if (!has_products(at::kFloat)) GTEST_SKIP() << "no products here";
  at::manual_seed(0);
  const at::Tensor q = at::randn({1, 1, 16}).requires_grad_(), kv = at::randn({3, 7, 32});
  attend_by_kernels(q.expand({3, 1, 16}), kv, 2).sum().backward();
  const at::Tensor exact = q.detach().to(at::kDouble).requires_grad_();
  reference(exact.expand({3, 1, 16}), kv.to(at::kDouble), 2).sum().backward();
  EXPECT_LT(largest_difference(q.grad(), exact.grad()), 2e-5);
}

}  // namespace
}  // namespace nfscale
