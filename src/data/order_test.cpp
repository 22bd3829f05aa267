#include "data/order.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "data/testing.h"

namespace nfscale {
namespace {

TEST(Order, GlobalVectorsAndTheirInverse) {
  const Json vectors = test_json("order_vectors.json");
  for (const Json& v : vectors.at("bijection").items()) {
    const Bijection b(number_of(v.at("n")), number_of(v.at("seed")), Op::order,
                      number_of(v.at("epoch")), number_of(v.at("index")));
    uint64_t x = 0;
    for (const Json& y : v.at("first").items()) EXPECT_EQ(b(x++), number_of(y));
    for (const Json& p : v.at("at").items())
      EXPECT_EQ(b(number_of(p.items()[0])), number_of(p.items()[1]));
    for (const Json& p : v.at("inverse").items())
      EXPECT_EQ(b.inverse(number_of(p.items()[0])), number_of(p.items()[1]));
  }
}

TEST(Order, BlocksVectorsAndTheirInverse) {
  const Json vectors = test_json("order_vectors.json");
  for (const Json& v : vectors.at("blocks").items()) {
    Order order({.examples = number_of(v.at("n")),
                 .seed = number_of(v.at("seed")),
                 .blocks = true,
                 .block = number_of(v.at("block")),
                 .window = number_of(v.at("window"))});
    const uint64_t epoch = number_of(v.at("epoch"));
    uint64_t p = 0;
    for (const Json& e : v.at("first").items()) EXPECT_EQ(order.example(epoch, p++), number_of(e));
    for (const Json& a : v.at("at").items())
      EXPECT_EQ(order.example(epoch, number_of(a.items()[0])), number_of(a.items()[1]));
    for (const Json& a : v.at("inverse").items())
      EXPECT_EQ(order.position(epoch, number_of(a.items()[0])), number_of(a.items()[1]));
  }
}

TEST(Order, SlotVectors) {
  const Json vectors = test_json("order_vectors.json");
  for (const Json& v : vectors.at("slots").items()) {
    Order order({.examples = number_of(v.at("n")),
                 .seed = number_of(v.at("seed")),
                 .repeat = static_cast<uint32_t>(number_of(v.at("k")))});
    const Slot s = order.at(number_of(v.at("slot")));
    EXPECT_EQ(s.epoch, number_of(v.at("epoch")));
    EXPECT_EQ(s.example, number_of(v.at("example")));
    EXPECT_EQ(s.copy, number_of(v.at("copy")));
    EXPECT_EQ(order.slot_of(s), number_of(v.at("slot")));
  }
}

TEST(Order, RankSliceVectors) {
  const Json vectors = test_json("order_vectors.json");
  for (const Json& v : vectors.at("rank_slice").items()) {
    uint64_t rank = 0;
    for (const Json& s : v.at("slices").items()) {
      const auto [begin, end] = rank_slice(number_of(v.at("begin")), number_of(v.at("end")), rank++,
                                           number_of(v.at("world")));
      EXPECT_EQ(begin, number_of(s.items()[0]));
      EXPECT_EQ(end, number_of(s.items()[1]));
    }
  }
}

TEST(Order, EveryExampleOnceAnEpochForAnySize) {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{7}, ~uint64_t{0}}) {
    for (uint64_t n = 1; n <= 300; n += n < 70 ? 1 : 23) {
      for (const uint64_t block : {0u, 1u, 4u, 7u, 64u, 2000u}) {
        Order order({.examples = n,
                     .seed = seed,
                     .blocks = block > 0,
                     .block = std::max<uint64_t>(block, 1),
                     .window = 3});
        for (const uint64_t epoch : {0u, 1u, 9u}) {
          std::vector<int> seen(n);
          for (uint64_t p = 0; p < n; ++p) {
            const uint64_t e = order.example(epoch, p);
            ASSERT_LT(e, n);
            ++seen[e];
            ASSERT_EQ(order.position(epoch, e), p);
          }
          ASSERT_EQ(std::set<int>(seen.begin(), seen.end()), std::set<int>{1}) << n << " " << block;
        }
      }
    }
  }
}

TEST(Order, AWindowHoldsWholeBlocks) {
  const uint64_t n = 1000, block = 16, window = 4;
  Order order({.examples = n, .seed = 3, .blocks = true, .block = block, .window = window});
  std::set<uint64_t> blocks;
  for (uint64_t p = 0; p < block * window - 8; ++p) blocks.insert(order.example(0, p) / block);
  EXPECT_EQ(blocks.size(), window);
}

TEST(Order, AllOrdersOfFourEquallyOften) {
  std::map<std::vector<uint64_t>, int> seen;
  const int trials = 24 * 400;
  for (uint64_t seed = 0; seed < trials; ++seed) {
    const Bijection b(4, seed, Op::order);
    ++seen[{b(0), b(1), b(2), b(3)}];
  }
  ASSERT_EQ(seen.size(), 24u);
  double chi2 = 0;
  for (const auto& [order, count] : seen) chi2 += (count - 400.0) * (count - 400.0) / 400.0;
  EXPECT_LT(chi2, 23 + 4 * std::sqrt(46.0));
}

TEST(Order, EpochsAndSeedsDiffer) {
  const Bijection a(50000, 3, Op::order, 0), b(50000, 3, Op::order, 1), c(50000, 4, Op::order, 0);
  int same = 0;
  for (uint64_t x = 0; x < 50000; ++x) same += (a(x) == b(x)) + (a(x) == c(x));
  EXPECT_LT(same, 20);  // two are expected
}

}  // namespace
}  // namespace nfscale
