#include "train/sam.h"

#include <gtest/gtest.h>

#include "train/evaluate.h"
#include "train/testing.h"

namespace nfscale {
namespace {

StepSettings with_sam(const SamSettings& sam, int64_t micro_batch) {
  return {.loss = {}, .micro_batch = micro_batch, .seed = 9, .sam = sam};
}

std::vector<at::Tensor> copies(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& t : tensors) all.push_back(t.detach().clone());
  return all;
}

void expect_close(const std::vector<at::Tensor>& own, const std::vector<at::Tensor>& expected,
                  double tolerance) {
  for (size_t i = 0; i < own.size(); ++i)
    EXPECT_LE((own[i] - expected[i]).abs().max().item<double>(),
              tolerance * expected[i].abs().max().item<double>() + 3e-6)
        << "tensor " << i;
}

TEST(Sam, GroupsBelongToTheStep) {
  const auto groups = ascent_groups(70, 32, 0.2);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[1].begin, 32);
  EXPECT_EQ(groups[1].ascent_end, 39);  // 0.2 of 32, rounded up
  EXPECT_EQ(groups[2].ascent_end, 66);
  EXPECT_EQ(groups[2].end, 70);
  EXPECT_EQ(ascent_groups(5, 32, 0.2)[0].ascent_end, 1);
  EXPECT_EQ(ascent_groups(3, 32, 0.01)[0].ascent_end, 1);
  OptimConfig config;
  EXPECT_EQ(ascent_share(config, 64), 0);
  config.sam_rho = 0.05;
  EXPECT_DOUBLE_EQ(ascent_share(config, 64), 14.0 / 64);
}

// Several groups, the last one smaller, rows of weight 0, dropout: kernels against ATen's
// operations with autograd, over several updates.
TEST(Sam, KernelsClimbAsTheReferenceDoes) {
  for (const bool sync : {false, true}) {
    Toy a = toy(12, 0.3), b = toy(12, 0.3);
    b.filters = {};
    if (a.filters.of_layer.empty()) GTEST_SKIP() << "no kernels on this machine";
    const SamSettings settings = {.rho = 0.1, .fraction = 0.4, .sync = sync, .group = 5};
    Sam memory(settings);
    for (uint64_t t = 0; t < 3; ++t) {
      const StepSettings s = with_sam(settings, 4);
      const StepResult own =
          train_step(a.model, a.filters, a.optimizer, {}, a.batch, s, 0.5, t, &memory);
      const StepResult reference =
          train_step(b.model, b.filters, b.optimizer, {}, b.batch, s, 0.5, t);
      EXPECT_NEAR(own.loss / reference.loss, 1, 1e-5);
      EXPECT_NEAR(own.stats.agc_clipped, reference.stats.agc_clipped, 2e-3);
    }
    expect_close(a.optimizer.momentum, b.optimizer.momentum, 2e-3);
    expect_close(copies(a.model.weights), copies(b.model.weights), 1e-3);
  }
}

TEST(Sam, ARadiusOfNothingIsAPlainStep) {
  Toy plain = toy(12, 0.3);
  train_step(plain.model, plain.filters, plain.optimizer, {}, plain.batch, with_sam({}, 12), 0.5,
             0);
  for (const bool sync : {false, true})
    for (const int64_t group : {4, 12}) {
      Toy t = toy(12, 0.3);
      const SamSettings settings = {.rho = 1e-20, .fraction = 0.5, .sync = sync, .group = group};
      train_step(t.model, t.filters, t.optimizer, {}, t.batch, with_sam(settings, 12), 0.5, 0);
      expect_close(copies(t.model.weights), copies(plain.model.weights), 1e-5);
    }
}

TEST(Sam, MicroBatchesChangeNothing) {
  std::vector<at::Tensor> whole;
  for (const int64_t micro : {8, 3, 1}) {
    Toy t = toy(16, 0.3);
    const SamSettings settings = {.rho = 0.05, .fraction = 0.5, .sync = false, .group = 8};
    train_step(t.model, t.filters, t.optimizer, {}, t.batch, with_sam(settings, micro), 0.5, 0);
    if (micro == 8)
      whole = copies(t.model.weights);
    else
      expect_close(copies(t.model.weights), whole, 1e-5);
  }
}

// Every weight is moved, by rho in all, and comes back bit by bit.
TEST(Sam, WeightsMoveByTheRadiusAndComeBack) {
  Toy t = toy(6);
  const std::vector<at::Tensor> before = copies(t.model.weights);
  Sam sam({.rho = 0.05, .fraction = 1, .sync = false, .group = 6});
  double moved = 0;
  sam.gradients_of_step(
      t.model.weights, t.filters, ascent_groups(6, 6, 1),
      [&](int64_t begin, int64_t end, bool, double share, bool last) {
        const at::Tensor logits = forward(t.model, t.filters, batch_images(t.batch, begin, end));
        add_gradients(logits.square().mean() * share, t.filters, last);
      },
      [&](size_t, double norm) {
        EXPECT_GT(norm, 0);
        for (size_t i = 0; i < before.size(); ++i)
          moved += (t.model.weights[i].detach() - before[i]).square().sum().item<double>();
      });
  EXPECT_NEAR(std::sqrt(moved), 0.05, 1e-5);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(before[i].equal(t.model.weights[i])) << i;
}

}  // namespace
}  // namespace nfscale
