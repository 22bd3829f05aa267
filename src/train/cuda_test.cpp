// Needs a GPU: each test skips itself, with the reason, where there is none.
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "cuda/devices.h"
#include "model/cuda.h"
#include "model/ops.h"
#include "train/cuda_step.h"
#include "train/device.h"
#include "train/testing.h"

namespace nfscale {
namespace {

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    const cuda::Devices found = cuda::find_devices();
    if (!found.missing.empty()) GTEST_SKIP() << found.missing;
    if (!found.by_number[0].fault.empty()) GTEST_SKIP() << found.by_number[0].fault;
    device_ = open_device("cuda");
    at::manual_seed(0);
  }
  at::Device device_ = at::kCPU;
};

double largest(const at::Tensor& t) {
  return t.abs().max().item<double>();
}
double distance(const at::Tensor& a, const at::Tensor& b) {
  return largest(a.detach().cpu().to(at::kDouble) - b.detach().cpu().to(at::kDouble));
}

// ---------------------------------------------------------------- kernels
// Sizes with a rest behind the last vector.
TEST_F(Gpu, GeluAndItsGradientAreThoseOfDoubles) {
  at::manual_seed(0);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const Numerics numerics : {Numerics::deepmind, Numerics::timm}) {
      const at::Tensor x = (4 * at::randn({3, 5, 7, 9})).to(type),
                       d = at::randn({3, 5, 7, 9}).to(type);
      const at::Tensor exact = x.to(at::kDouble).requires_grad_();
      const at::Tensor y = gelu(exact, numerics);
      (y * d).sum().backward();
      const at::Tensor own = x.to(device_).requires_grad_();
      const at::Tensor result = activate_on_gpu(
          numerics == Numerics::timm ? Activation::gelu_erf : Activation::gelu_tanh, own);
      (result * d.to(device_)).sum().backward();
      const double tolerance = type == at::kFloat ? 2e-6 : 5e-3;
      EXPECT_LT(distance(result, y), tolerance * largest(y));
      EXPECT_LT(distance(own.grad(), exact.grad()), tolerance * largest(exact.grad()));
    }
}

TEST_F(Gpu, GeluOfNumbersThatAreNotAligned) {
  at::manual_seed(0);
  const at::Tensor x = at::randn({1001}).to(device_), y = at::zeros({1001}, x.options());
  cuda::gelu_forward(cuda::Type::f32, Activation::gelu_erf, x.const_data_ptr<float>() + 1,
                     y.mutable_data_ptr<float>() + 1, 1000, nullptr);
  wait_for(device_);
  EXPECT_LT(distance(y.narrow(0, 1, 1000), gelu(x.narrow(0, 1, 1000), Numerics::timm)), 2e-6);
  EXPECT_EQ(y[0].item<float>(), 0);
}

TEST_F(Gpu, FiltersEqualTheComposition) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Toy t = toy(1);
    const Filters filters = make_filters(on_device(t.model, device_), type, false);
    const std::vector<double> factors = input_factors(t.model.arch);
    ASSERT_FALSE(filters.of_layer.empty());
    for (size_t i = 0; i < filters.of_layer.size(); ++i) {
      const Filter& f = filters.of_layer[i];
      if (!f.value.defined()) continue;
      const at::Tensor exact =
          standardize(t.model.weights[f.weight].detach().to(at::kDouble),
                      t.model.weights[f.gain].detach().to(at::kDouble), f.numerics, factors[i]);
      EXPECT_LT(distance(f.value.permute({0, 3, 1, 2}), exact),
                (type == at::kFloat ? 1e-6 : 4e-3) * largest(exact))
          << t.model.arch.layers[i].name;
    }
  }
}

// Rows of ordinary weights, of nearly equal ones, and of a mean far above the deviation.
TEST_F(Gpu, TheGradientOfFiltersEqualsThatOfTheComposition) {
  at::manual_seed(0);
  for (const Numerics numerics : {Numerics::deepmind, Numerics::timm}) {
    at::Tensor w = at::randn({6, 21, 3, 3}), gain = at::randn({6, 1, 1, 1});
    const at::Tensor d = at::randn({6, 21, 3, 3});
    w[1] *= 1e-4;
    w[2] += 5;
    const at::Tensor a = w.to(at::kDouble).requires_grad_(),
                     b = gain.to(at::kDouble).requires_grad_();
    (standardize(a, b, numerics, 1.7) * d).sum().backward();

    const at::Tensor own = w.to(device_), own_gain = gain.to(device_),
                     d_value = d.permute({0, 2, 3, 1}).contiguous().to(device_);
    at::Tensor d_w = at::empty_like(own), d_gain = at::empty_like(own_gain),
               squares = at::zeros({6, 2}, own.options().dtype(at::kDouble));
    cuda::Parameter of_weight{}, of_gain{};
    of_weight.gradient = d_w.mutable_data_ptr<float>();
    of_gain.gradient = d_gain.mutable_data_ptr<float>();
    const std::vector<cuda::Filter> filter = {{.weight = own.const_data_ptr<float>(),
                                               .gain = own_gain.const_data_ptr<float>(),
                                               .value = nullptr,
                                               .factor = 1.7,
                                               .in = 21,
                                               .taps = 9,
                                               .timm = numerics == Numerics::timm,
                                               .d_value = d_value.const_data_ptr<float>(),
                                               .parameter = 0,
                                               .gain_parameter = 1}};
    std::vector<cuda::Unit> rows;
    for (int32_t row = 0; row < 6; ++row) rows.push_back({0, 0, row});
    const at::Tensor parameters = table_on_gpu(std::vector{of_weight, of_gain}, device_),
                     filters = table_on_gpu(filter, device_), units = table_on_gpu(rows, device_);
    cuda::standardize_backward({static_cast<const cuda::Parameter*>(parameters.data_ptr()),
                                static_cast<const cuda::Filter*>(filters.data_ptr()),
                                static_cast<const cuda::Unit*>(units.data_ptr()), 6, 0, 0,
                                static_cast<cuda::Squares*>(squares.data_ptr())},
                               cuda::Type::f32, nullptr);
    wait_for(device_);
    for (int64_t r = 0; r < 6; ++r) {
      EXPECT_LT(distance(d_w[r], a.grad()[r]), 1e-5 * largest(a.grad()[r])) << r;
      EXPECT_NEAR(squares[r][1].item<double>() / d_w[r].square().sum().item<double>(), 1, 1e-5);
      EXPECT_NEAR(squares[r][0].item<double>() / w[r].square().sum().item<double>(), 1, 1e-5);
    }
    EXPECT_LT(distance(d_gain, b.grad()), 1e-6 * largest(b.grad()));
  }
}

// ---------------------------------------------------------------- steps
OptimizerSettings usual_settings() {
  OptimizerSettings o;
  o.weight_decay = 1e-3;
  o.head_weight_decay = 1e-2;
  o.agc_exclude = {"head.fc.*"};
  return o;
}

// A model in training, with its state on a CPU.
struct Training {
  Toy t;
  Ema ema;
  StepSettings settings;

  explicit Training(const StepSettings& s, const OptimizerSettings& o = usual_settings())
      : t(toy(10, 0.3)), ema{{}, 0.99}, settings(s) {
    t.optimizer = Optimizer(t.model.params, t.model.weights, o);
    for (const at::Tensor& w : t.model.weights) ema.average.push_back(w.detach().clone());
  }
  std::unique_ptr<Stepper> on_gpu(at::Device device, at::ScalarType compute = at::kFloat,
                                  int eager_steps = kEagerSteps) {
    return make_cuda_stepper(device, t.model, t.optimizer, ema, compute, settings, eager_steps);
  }
  // Batches that differ in their pictures and draws.
  Batch batch(uint64_t step) const {
    Batch b = t.batch;
    b.begin = step * 10;
    for (size_t i = 0; i < b.pixels.size(); ++i)
      b.pixels[i] = 2 * uniform(words(step, Op::generator, i)[0]) - 1;
    return b;
  }
  std::vector<at::Tensor> state() const {
    std::vector<at::Tensor> all;
    for (const auto* tensors : {&t.model.weights, &t.optimizer.momentum, &ema.average})
      for (const at::Tensor& x : *tensors) all.push_back(x.detach().clone());
    return all;
  }
};

void expect_same_bits(const Training& a, const Training& b) {
  const std::vector<at::Tensor> x = a.state(), y = b.state();
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_TRUE(x[i].equal(y[i])) << i << ": " << distance(x[i], y[i]);
}

// Against the reference on a CPU, over eager steps, the captured one and a replay; the last part is
// smaller than the others.
void compare_with_cpu(at::Device device, at::ScalarType compute, const OptimizerSettings& o,
                      double tolerance) {
  Training cpu({{}, 4, 7}, o), gpu({{}, 4, 7}, o);
  const auto stepper = gpu.on_gpu(device, compute);
  Filters reference;
  for (uint64_t step = 0; step < 5; ++step) {
    const Batch batch = cpu.batch(step);
    const StepResult a = train_step(cpu.t.model, reference, cpu.t.optimizer, cpu.ema, batch,
                                    cpu.settings, 0.1, step);
    const StepResult b = stepper->step(batch, nullptr, 0.1, step);
    EXPECT_TRUE(b.finite && !b.empty);
    EXPECT_NEAR(b.loss / a.loss, 1, tolerance);
    EXPECT_NEAR(b.stats.grad_norm / a.stats.grad_norm, 1, 20 * tolerance);
    EXPECT_NEAR(b.stats.agc_clipped, a.stats.agc_clipped, 20 * tolerance);
    if (compute == at::kFloat) {
      EXPECT_NEAR(b.top1, a.top1, 1e-6);
    }
  }
  stepper->to_host();
  const std::vector<at::Tensor> x = cpu.state(), y = gpu.state();
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_LE(distance(x[i], y[i]), 100 * tolerance * largest(x[i]) + 1e-7)
        << cpu.t.model.params[i % cpu.t.model.params.size()].name << " of part "
        << i / cpu.t.model.params.size();
}

TEST_F(Gpu, StepsAreThoseOfTheCpu) {
  compare_with_cpu(device_, at::kFloat, usual_settings(), 1e-5);
}

TEST_F(Gpu, StepsByTimmsRulesAndWithAGlobalLimitAreThoseOfTheCpu) {
  OptimizerSettings o = usual_settings();
  o.agc = 2e-4;  // clips gains too
  o.clip_norm = 2e-3;
  o.nesterov = false;
  o.agc_rule = "timm";
  compare_with_cpu(device_, at::kFloat, o, 1e-5);
}

TEST_F(Gpu, StepsInBfloat16AreCloseToThoseOfTheCpu) {
  compare_with_cpu(device_, at::kBFloat16, usual_settings(), 5e-3);
}

TEST_F(Gpu, AGraphComputesTheBitsOfItsOperations) {
  for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
    Training eager({{}, 4, 7}), graph({{}, 4, 7});
    const auto a = eager.on_gpu(device_, compute, 100), b = graph.on_gpu(device_, compute);
    for (uint64_t step = 0; step < 8; ++step) {
      const Batch batch = eager.batch(step);
      const StepResult x = a->step(batch, nullptr, 0.1, step),
                       y = b->step(batch, nullptr, 0.1, step);
      EXPECT_EQ(x.loss, y.loss);
      EXPECT_EQ(x.stats.grad_norm, y.stats.grad_norm);
    }
    a->to_host();
    b->to_host();
    expect_same_bits(eager, graph);
  }
}

// The copy of a batch beside the step before it.
TEST_F(Gpu, ABatchThatIsUploadedAheadIsTheSame) {
  Training ahead({{}, 10, 7}), each({{}, 10, 7});
  const auto a = ahead.on_gpu(device_), b = each.on_gpu(device_);
  std::vector<Batch> batches;
  for (uint64_t step = 0; step < 8; ++step) batches.push_back(ahead.batch(step));
  for (uint64_t step = 0; step < 8; ++step) {
    a->step(batches[step], step < 7 ? &batches[step + 1] : nullptr, 0.1, step);
    b->step(batches[step], nullptr, 0.1, step);
  }
  a->to_host();
  b->to_host();
  expect_same_bits(ahead, each);
}

TEST_F(Gpu, ARunGoesOnFromItsHostCopies) {
  Training whole({{}, 4, 7}), parts({{}, 4, 7});
  const auto a = whole.on_gpu(device_);
  for (uint64_t step = 0; step < 8; ++step) a->step(whole.batch(step), nullptr, 0.1, step);
  a->to_host();
  for (uint64_t step = 0; step < 8;) {
    const auto b = parts.on_gpu(device_);
    for (int i = 0; i < 4; ++i, ++step) b->step(parts.batch(step), nullptr, 0.1, step);
    b->to_host();
  }
  expect_same_bits(whole, parts);
}

TEST_F(Gpu, NotANumberEndsAStepWithoutAnUpdate) {
  Training training({{}, 4, 7}), before({{}, 4, 7});
  const auto stepper = training.on_gpu(device_);
  for (uint64_t step = 0; step < 6; ++step) {
    Batch batch = training.batch(step);
    batch.pixels[0] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(stepper->step(batch, nullptr, 0.1, step).finite);
  }
  stepper->to_host();
  expect_same_bits(training, before);
  EXPECT_TRUE(stepper->step(training.batch(6), nullptr, 0.1, 6).finite);
}

TEST_F(Gpu, AStepWithoutAWholePictureChangesNothing) {
  Training training({{}, 4, 7}), before({{}, 4, 7});
  const auto stepper = training.on_gpu(device_);
  Batch batch = training.batch(0);
  std::fill(batch.weights.begin(), batch.weights.end(), 0.0f);
  EXPECT_TRUE(stepper->step(batch, nullptr, 0.1, 0).empty);
  stepper->to_host();
  expect_same_bits(training, before);
}

// The logits of an evaluation, by the same forward pass.
TEST_F(Gpu, EvaluationEqualsThatOfTheCpu) {
  at::manual_seed(0);
  const at::NoGradGuard no_grad;
  const Toy t = toy(4);
  const at::Tensor images = at::randn({4, 3, 16, 16});
  Filters none, filters = make_filters(on_device(t.model, device_), at::kFloat, false);
  const at::Tensor cpu = forward(t.model, none, images);
  const Model model = on_device(t.model, device_);
  EXPECT_LT(distance(forward(model, filters, images.to(device_)), cpu), 1e-4 * largest(cpu));
}

}  // namespace
}  // namespace nfscale
