#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/pack.h"
#include "kernels/rows.h"

namespace nfscale {
namespace {

// Every kernel of every instruction set that this machine has, against plain loops in double.
template <class Test>
void on_every_set(const Test& test) {
  int sets = 0;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    test();
    ++sets;
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  EXPECT_GE(sets, 1);
}

float to_float(float x) {
  return x;
}
float to_float(Bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
void set(float& to, float x) {
  to = x;
}
void set(Bf16& to, float x) {  // exact for what random() makes
  to.bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
}

// Numbers with 8 significant bits, both types hold them.
template <class T>
std::vector<T> random(int64_t n, float range = 6) {
  static std::mt19937 engine(1);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& v : values) {
    const float x = std::uniform_real_distribution<float>(-range, range)(engine);
    set(v, std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0xFFFF0000u));
  }
  return values;
}

double gelu(Activation act, double x) {
  if (act == Activation::none) return x;
  if (act == Activation::gelu_erf) return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double slope(Activation act, double x) {
  constexpr double h = 1e-5;
  return (gelu(act, x + h) - gelu(act, x - h)) / (2 * h);
}
template <class T>
constexpr double kTolerance = std::is_same_v<T, float> ? 3e-6 : 5e-3;  // bfloat16: half of 2^-7

constexpr Activation kAll[] = {Activation::none, Activation::gelu_tanh, Activation::gelu_erf};
// Widths below, at and above every vector, and one in the middle of two.
constexpr int64_t kWidths[] = {1, 3, 4, 8, 15, 16, 24, 33, 64};

template <class T>
void check_elementwise() {
  const Elementwise<T> k = elementwise<T>();
  const auto near = [](T found, double expected) {
    EXPECT_NEAR(static_cast<double>(to_float(found)), expected,
                kTolerance<T> * std::max(1.0, std::abs(expected)));
  };
  for (const int64_t n : kWidths)
    for (const int64_t gap : {0, 5}) {
      const int64_t rows = 7, ld = n + gap;
      const std::vector<T> x = random<T>(rows * ld), other = random<T>(rows * ld);
      const std::vector<float> tile = random<float>(rows * ld), bias = random<float>(n);
      const auto at = [&](int64_t r, int64_t i) { return static_cast<size_t>(r * ld + i); };
      const auto each = [&](const auto& check) {
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t i = 0; i < n; ++i) check(at(r, i), static_cast<size_t>(i));
      };
      for (const Activation act : kAll) {
        std::vector<T> y(x.size());
        k.activate(act, x.data(), ld, y.data(), ld, rows, n);
        each([&](size_t p, size_t) { near(y[p], gelu(act, static_cast<double>(to_float(x[p])))); });
        k.activate_backward(act, tile.data(), ld, x.data(), ld, y.data(), ld, rows, n);
        each([&](size_t p, size_t) {
          near(y[p],
               static_cast<double>(tile[p]) * slope(act, static_cast<double>(to_float(x[p]))));
        });
        std::vector<float> sums = tile;
        k.add_activated(act, 0.5f, x.data(), ld, sums.data(), ld, rows, n);
        each([&](size_t p, size_t) {
          EXPECT_NEAR(
              static_cast<double>(sums[p]),
              static_cast<double>(tile[p]) + 0.5 * gelu(act, static_cast<double>(to_float(x[p]))),
              2 * kTolerance<T>);
        });
      }
      std::vector<T> y(x.size());
      for (const Activation act : kAll) {
        k.add_bias(act, tile.data(), ld, bias.data(), y.data(), ld, rows, n);
        each([&](size_t p, size_t i) {
          near(y[p], gelu(act, static_cast<double>(tile[p] + bias[i])));
        });
      }
      std::vector<float> sums(static_cast<size_t>(n), 1);
      k.column_sums(x.data(), ld, rows, n, sums.data());
      for (int64_t i = 0; i < n; ++i) {
        double expected = 1;
        for (int64_t r = 0; r < rows; ++r) expected += static_cast<double>(to_float(x[at(r, i)]));
        EXPECT_NEAR(static_cast<double>(sums[static_cast<size_t>(i)]), expected, 1e-5);
      }
      if (gap) continue;
      std::fill(sums.begin(), sums.end(), 0.0f);
      k.column_dots(x.data(), other.data(), rows, n, sums.data());
      for (int64_t i = 0; i < n; ++i) {
        double expected = 0;
        for (int64_t r = 0; r < rows; ++r)
          expected += static_cast<double>(to_float(x[at(r, i)]) * to_float(other[at(r, i)]));
        EXPECT_NEAR(static_cast<double>(sums[static_cast<size_t>(i)]), expected, 1e-4);
      }
      k.scale_add(other.data(), x.data(), bias.data(), y.data(), rows, n);
      each([&](size_t p, size_t i) {
        near(y[p], static_cast<double>(to_float(other[p]) + to_float(x[p]) * bias[i]));
      });
      k.scale_shift(x.data(), bias.data(), tile.data(), y.data(), rows, n);
      each([&](size_t p, size_t i) {
        near(y[p], static_cast<double>(to_float(x[p]) * bias[i] + tile[i]));
      });
    }
}

TEST(Kernels, ElementwiseEqualsPlainLoops) {
  on_every_set([] {
    check_elementwise<float>();
    check_elementwise<Bf16>();
  });
}

// The exponential has a range that it is made for; an activation has none.
TEST(Kernels, ActivationsOfExtremeNumbersAreNumbers) {
  on_every_set([] {
    for (const Activation act : {Activation::gelu_tanh, Activation::gelu_erf}) {
      const std::vector<float> x = {-3e38f, -1e20f, -500, -12, -0.0f, 12, 500, 1e20f, 3e38f};
      const std::vector<float> one(x.size(), 1.0f);
      std::vector<float> y(x.size()), d(x.size());
      const auto n = static_cast<int64_t>(x.size());
      elementwise<float>().activate(act, x.data(), n, y.data(), n, 1, n);
      elementwise<float>().activate_backward(act, one.data(), n, x.data(), n, d.data(), n, 1, n);
      for (size_t i = 0; i < x.size(); ++i) {
        if (x[i] > 0) {
          EXPECT_EQ(y[i], x[i]);
        }
        EXPECT_NEAR(static_cast<double>(d[i]), x[i] > 5 ? 1 : x[i] < -5 ? 0 : 0.5, 1e-6) << x[i];
        if (x[i] < 0) {
          EXPECT_LE(std::abs(y[i]), 1e-7f * std::abs(x[i]));
        }
      }
      const float nan = std::nanf("");
      elementwise<float>().activate(act, &nan, 1, y.data(), 1, 1, 1);
      EXPECT_TRUE(std::isnan(y[0]));
    }
  });
}

TEST(Kernels, Bfloat16RoundsToTheNearestAndTiesToEven) {
  on_every_set([] {
    const uint32_t bits[] = {0x3F800000, 0x3F807FFF, 0x3F808000, 0x3F808001, 0x3F818000,
                             0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FFFFFFF, 0xFFFFFFFF};
    const uint16_t expected[] = {0x3F80, 0x3F80, 0x3F80, 0x3F81, 0x3F82, 0x7F80, 0x7F80, 0xFF80};
    std::vector<float> x;
    for (const uint32_t b : bits) x.push_back(std::bit_cast<float>(b));
    std::vector<Bf16> y(x.size());
    const auto n = static_cast<int64_t>(x.size());
    elementwise<Bf16>().activate_backward(Activation::none, x.data(), n, nullptr, n, y.data(), n, 1,
                                          n);
    for (size_t i = 0; i < std::size(expected); ++i) EXPECT_EQ(y[i].bits, expected[i]) << i;
    EXPECT_TRUE(std::isnan(to_float(y[8])) && std::isnan(to_float(y[9])));
  });
}

TEST(Kernels, PackRearrangesEveryNumber) {
  on_every_set([] {
    for (const int64_t rows : {1, 7, 16, 35, 64})
      for (const int64_t columns : {1, 8, 19, 32, 70}) {
        const int64_t ldx = columns + 3, ldo = rows + 1;
        std::vector<uint16_t> x16(static_cast<size_t>(rows * ldx)),
            y16(static_cast<size_t>(columns * ldo));
        std::vector<uint32_t> x32(x16.size()), y32(y16.size());
        for (size_t i = 0; i < x16.size(); ++i) {
          x16[i] = static_cast<uint16_t>(i * 7 + 1);
          x32[i] = static_cast<uint32_t>(i * 65537 + 1);
        }
        pack().transpose16(x16.data(), ldx, rows, columns, y16.data(), ldo);
        pack().transpose32(x32.data(), ldx, rows, columns, y32.data(), ldo);
        std::vector<Bf16> pairs(static_cast<size_t>((rows + 1) / 2 * 2 * (columns + 2)));
        pack().interleave(reinterpret_cast<const Bf16*>(x16.data()), ldx, rows, columns,
                          pairs.data(), columns + 2);
        for (int64_t r = 0; r < (rows + 1) / 2 * 2; ++r)
          for (int64_t c = 0; c < columns; ++c) {
            const auto pair = pairs[static_cast<size_t>((r / 2 * (columns + 2) + c) * 2 + r % 2)];
            EXPECT_EQ(pair.bits, r < rows ? x16[static_cast<size_t>(r * ldx + c)] : 0);
            if (r == rows) continue;
            EXPECT_EQ(y16[static_cast<size_t>(c * ldo + r)], x16[static_cast<size_t>(r * ldx + c)]);
            EXPECT_EQ(y32[static_cast<size_t>(c * ldo + r)], x32[static_cast<size_t>(r * ldx + c)]);
          }
      }
  });
}

template <class T>
void check_rows() {
  const Rows<T> k = rows<T>();
  const double tolerance = std::is_same_v<T, float> ? 1e-6 : 1e-13;
  for (const int64_t n : {1, 5, 16, 31, 70, 1152}) {
    std::vector<T> a, x, p, m, average;
    for (const float v : random<float>(5 * n)) {
      std::vector<T>* all[] = {&a, &x, &p, &m, &average};
      for (std::vector<T>* to : all)
        if (std::ssize(*to) < n) {
          to->push_back(static_cast<T>(v));
          break;
        }
    }
    const auto d = [](T v) { return static_cast<double>(v); };
    double sum = 0, squares = 0, shifted = 0, dot = 0, sum_a = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      sum += d(x[i]);
      squares += d(x[i]) * d(x[i]);
      shifted += (d(x[i]) - 0.3) * (d(x[i]) - 0.3);
      dot += d(a[i]) * (d(x[i]) - 0.3);
      sum_a += d(a[i]);
    }
    const double scale = 1e-12 * static_cast<double>(n);
    EXPECT_NEAR(k.sums(x.data(), n).sum, sum, 40 * scale);
    EXPECT_NEAR(k.sums(x.data(), n).squares, squares, 40 * scale);
    EXPECT_NEAR(k.squares(x.data(), 0.3, n), shifted, 40 * scale);
    EXPECT_NEAR(k.dot_and_sum(a.data(), x.data(), 0.3, n).dot, dot, 40 * scale);
    EXPECT_NEAR(k.dot_and_sum(a.data(), x.data(), 0.3, n).sum, sum_a, 40 * scale);
    std::vector<T> out(x.size());
    k.scale(out.data(), x.data(), 1.7, 0.3, n);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(d(out[i]), 1.7 * (d(x[i]) - 0.3), 20 * tolerance);
    double expected_squares = 0;
    const double found = k.combine(out.data(), a.data(), 1.7, 0.1, x.data(), 0.2, 0.3, n);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = 1.7 * (d(a[i]) - 0.1) - 0.2 * (d(x[i]) - 0.3);
      EXPECT_NEAR(d(out[i]), expected, 20 * tolerance);
      expected_squares += expected * expected;
    }
    EXPECT_NEAR(found / expected_squares, 1, 10 * tolerance);
    for (const bool nesterov : {false, true}) {
      const SgdNumbers numbers{
          .decay = 0.1, .momentum = 0.9, .rate = 0.05, .ema_keep = 0.99, .nesterov = nesterov};
      std::vector<T> p2 = p, m2 = m, average2 = average;
      double new_sum = 0;
      const Sums sums = k.sgd(p2.data(), m2.data(), average2.data(), a.data(), 0.5, numbers, n);
      for (size_t i = 0; i < x.size(); ++i) {
        const double g = 0.5 * d(a[i]) + 0.1 * d(p[i]), v = 0.9 * d(m[i]) + g,
                     now = d(p[i]) - 0.05 * (nesterov ? g + 0.9 * v : v);
        EXPECT_NEAR(d(m2[i]), v, 20 * tolerance);
        EXPECT_NEAR(d(p2[i]), now, 20 * tolerance);
        EXPECT_NEAR(d(average2[i]), 0.99 * d(average[i]) + 0.01 * now, 20 * tolerance);
        new_sum += d(p2[i]);
      }
      EXPECT_NEAR(sums.sum, new_sum, 40 * scale);
    }
    {
      const AdamNumbers numbers{.decay = 0.1,
                                .beta1 = 0.8,
                                .beta2 = 0.95,
                                .eps = 1e-3,
                                .rate = 0.05,
                                .ema_keep = 0.99,
                                .correction1 = 3,
                                .correction2 = 5};
      std::vector<T> p2 = p, m2 = m, v2 = x, average2 = average;
      for (T& v : v2) v = std::abs(v);
      const std::vector<T> v1 = v2;
      k.adamw(p2.data(), m2.data(), v2.data(), average2.data(), a.data(), 0.5, numbers, n);
      for (size_t i = 0; i < x.size(); ++i) {
        const double g = 0.5 * d(a[i]), mean = 0.8 * d(m[i]) + 0.2 * g,
                     square = 0.95 * d(v1[i]) + 0.05 * g * g,
                     now = d(p[i]) -
                           0.05 * (3 * mean / (std::sqrt(5 * square) + 1e-3) + 0.1 * d(p[i]));
        EXPECT_NEAR(d(m2[i]), mean, 20 * tolerance);
        EXPECT_NEAR(d(v2[i]), square, 20 * tolerance);
        EXPECT_NEAR(d(p2[i]), now, 20 * tolerance);
        EXPECT_NEAR(d(average2[i]), 0.99 * d(average[i]) + 0.01 * now, 20 * tolerance);
      }
    }
  }
}

TEST(Kernels, RowsEqualPlainLoops) {
  on_every_set([] {
    check_rows<float>();
    check_rows<double>();
  });
}

}  // namespace
}  // namespace nfscale
