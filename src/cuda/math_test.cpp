// What kernels for GPUs compute for a number or a row, on a CPU.
#include "cuda/math.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "base/random.h"
#include "kernels/elementwise.h"

namespace nfscale::cuda {
namespace {

std::vector<float> uniform_numbers(size_t n, uint64_t seed) {
  std::vector<float> numbers;
  for (size_t i = 0; i < n; ++i)
    numbers.push_back(2 * uniform(words(seed, Op::generator, i)[0]) - 1);
  return numbers;
}

double exact_gelu(Activation activation, double x) {
  if (activation == Activation::gelu_erf) return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  const double u = 2 * std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-u));
}

// Against the formula in double, its difference quotient, and the kernels for CPUs.
TEST(CudaMath, GeluIsThatOfTheKernelsForCpus) {
  for (const Activation activation : {Activation::gelu_tanh, Activation::gelu_erf}) {
    for (float x = -15; x <= 15; x += 0.01f) {
      const Gelu g = activation == Activation::gelu_tanh ? gelu_tanh(x) : gelu_erf(x);
      const double exact = exact_gelu(activation, static_cast<double>(x));
      EXPECT_NEAR(static_cast<double>(x * g.share), exact, 2e-7 + 2e-6 * std::abs(exact)) << x;
      const double h = 1e-5, slope = (exact_gelu(activation, static_cast<double>(x) + h) -
                                      exact_gelu(activation, static_cast<double>(x) - h)) /
                                     (2 * h);
      EXPECT_NEAR(static_cast<double>(g.slope), slope, 1e-6) << x;
      const float one = 1;
      float y = 0, d = 0;
      elementwise<float>().activate(activation, &x, 1, &y, 1, 1, 1);
      elementwise<float>().activate_backward(activation, &one, 1, &x, 1, &d, 1, 1, 1);
      EXPECT_NEAR(x * g.share, y, 2e-6) << x;
      EXPECT_NEAR(g.slope, d, 2e-6) << x;
    }
  }
}

TEST(CudaMath, GeluOfInfinityIsAsItIsOnACpuAndNanStays) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const auto gelu : {gelu_tanh, gelu_erf}) {
    EXPECT_EQ(infinity * gelu(infinity).share, infinity);
    EXPECT_NEAR(gelu(infinity).slope, 1, 1e-6);
    EXPECT_NEAR(gelu(-infinity).slope, 0, 1e-6);
    EXPECT_TRUE(std::isnan(gelu(std::numeric_limits<float>::quiet_NaN()).slope));
  }
}

Sums sums_of(const std::vector<double>& row) {
  Sums sums{0, 0};
  for (const double w : row) {
    sums.sum += w;
    sums.squares += w * w;
  }
  return sums;
}

// sum of d * value over a row, in double.
double along(const std::vector<double>& w, const std::vector<float>& d, bool timm, double factor,
             double gain) {
  const Standardisation s = standardisation(sums_of(w), static_cast<double>(w.size()), timm);
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i)
    sum += static_cast<double>(d[i]) * factor * gain * s.scale * (w[i] - s.mean);
  return sum;
}

TEST(CudaMath, AStandardisedRowHasTheVarianceOfItsFanIn) {
  const std::vector<float> w = uniform_numbers(50, 1);
  const std::vector<double> row(w.begin(), w.end());
  for (const bool timm : {false, true}) {
    const Standardisation s = standardisation(sums_of(row), 50, timm);
    double sum = 0, squares = 0;
    for (const double x : row) {
      sum += s.scale * (x - s.mean);
      squares += s.scale * (x - s.mean) * s.scale * (x - s.mean);
    }
    EXPECT_NEAR(sum, 0, 1e-12);
    EXPECT_NEAR(squares, 1, timm ? 1e-4 : 1e-12);
    EXPECT_FALSE(s.constant);
  }
  EXPECT_TRUE(standardisation({0, 1e-6}, 50, false).constant);
  EXPECT_FALSE(standardisation({0, 1e-6}, 50, true).constant);
}

// Against difference quotients; a row in which all is nearly equal too.
TEST(CudaMath, TheGradientOfARowIsThatOfItsStandardisation) {
  for (const bool timm : {false, true})
    for (const double width : {1.0, 1e-4}) {
      const std::vector<float> numbers = uniform_numbers(30, 2), d = uniform_numbers(30, 3);
      std::vector<double> w;
      for (const float x : numbers)
        w.push_back(static_cast<double>(static_cast<float>(0.25 + width * static_cast<double>(x))));
      const double factor = 1.7, gain = 0.8;
      double d_w = 0, d_sum = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        d_w += static_cast<double>(d[i]) * w[i];
        d_sum += static_cast<double>(d[i]);
      }
      const RowGradient g = row_gradient(sums_of(w), d_w, d_sum, 30, timm, factor, gain);
      EXPECT_NEAR(g.gain, along(w, d, timm, factor, 1), 1e-9);
      for (size_t i = 0; i < w.size(); ++i) {
        const double h = 1e-3 * width;
        std::vector<double> up = w, down = w;
        up[i] += h;
        down[i] -= h;
        const double slope =
            (along(up, d, timm, factor, gain) - along(down, d, timm, factor, gain)) / (2 * h);
        EXPECT_NEAR(static_cast<double>(g.weight(d[i], static_cast<float>(w[i]))) / slope, 1, 2e-4)
            << timm << width << i;
      }
    }
}

TEST(CudaMath, AnUpdateIsThatOfTheKernelsForCpus) {
  for (const bool nesterov : {false, true}) {
    const SgdNumbers numbers{
        .decay = 0.01, .momentum = 0.9, .rate = 0.3, .ema_keep = 0.7, .nesterov = nesterov};
    std::vector<float> p = uniform_numbers(100, 4), m = uniform_numbers(100, 5),
                       average = uniform_numbers(100, 6);
    const std::vector<float> g = uniform_numbers(100, 7);
    const Update update(0.25, numbers);
    std::vector<float> own, velocity = m, own_average;
    for (size_t i = 0; i < p.size(); ++i) {
      own.push_back(update.step(p[i], g[i], velocity[i]));
      own_average.push_back(update.average(average[i], own[i]));
    }
    rows<float>().sgd(p.data(), m.data(), average.data(), g.data(), 0.25, numbers, 100);
    for (size_t i = 0; i < p.size(); ++i) {
      EXPECT_NEAR(own[i], p[i], 5e-7);
      EXPECT_NEAR(velocity[i], m[i], 5e-7);
      EXPECT_NEAR(own_average[i], average[i], 5e-7);
    }
  }
}

TEST(CudaMath, OnlyWhatIsAboveTheLimitIsClipped) {
  EXPECT_EQ(clip_factor(4, 0.01, 0.1, 1e-3), 1);         // norm 0.1, limit 0.2
  EXPECT_DOUBLE_EQ(clip_factor(4, 1, 0.1, 1e-3), 0.2);   // norm 1, limit 0.2
  EXPECT_DOUBLE_EQ(clip_factor(0, 1, 0.1, 1e-3), 1e-4);  // eps in place of the weights' norm
  EXPECT_EQ(clip_factor(4, std::numeric_limits<double>::quiet_NaN(), 0.1, 1e-3), 1);
}

}  // namespace
}  // namespace nfscale::cuda
