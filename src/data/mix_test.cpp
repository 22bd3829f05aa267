#include "data/mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "data/augment.h"
#include "data/loader.h"

namespace nfscale {
namespace {

AugmentConfig with(double mixup, double cutmix) {
  AugmentConfig c;
  c.mixup = mixup;
  c.cutmix = cutmix;
  return c;
}

// Mean 1/2, variance 1 / (4 (2 a + 1)).
TEST(Mix, SharesAreOfABetaDistribution) {
  for (const double a : {0.2, 0.5, 1.0}) {
    double sum = 0, squares = 0;
    constexpr int kDraws = 4000;
    for (uint64_t example = 0; example < kDraws; ++example) {
      const double share = draw_mix(with(a, 0), 1, {0, example, 0}, 32).share;
      ASSERT_TRUE(share >= 0 && share <= 1);
      sum += share / kDraws;
      squares += (share - 0.5) * (share - 0.5) / kDraws;
    }
    EXPECT_NEAR(sum, 0.5, 0.02) << a;
    EXPECT_NEAR(squares / (1 / (4 * (2 * a + 1))), 1, 0.06) << a;
  }
}

TEST(Mix, PairsAreMutualAndStayInTheirEpoch) {
  for (const uint64_t examples : {7u, 8u})
    for (const uint32_t repeat : {1u, 3u}) {
      uint64_t alone = 0;
      for (uint64_t slot = 0; slot < 6 * examples * repeat; ++slot) {
        const auto other = partner_of(slot, examples, repeat);
        if (!other) {
          ++alone;
          continue;
        }
        EXPECT_EQ(partner_of(*other, examples, repeat), slot);
        EXPECT_EQ(*other / (examples * repeat), slot / (examples * repeat));
        EXPECT_EQ(*other % repeat, slot % repeat);
        EXPECT_NE(*other, slot);
      }
      EXPECT_EQ(alone, examples % 2 ? 6u * repeat : 0u);  // one unit of each odd epoch
    }
}

Picture flat(uint8_t value, int64_t size) {
  Picture p(size, size);
  std::fill(p.rgb.begin(), p.rgb.end(), value);
  return p;
}

// 0 and 255 without mean and deviation: a value tells which picture shows.
TEST(Mix, TheShareIsWhatShows) {
  constexpr int64_t kSize = 24;
  DataConfig data;
  data.mean = {0, 0, 0};
  data.std = {1.0 / 255, 1.0 / 255, 1.0 / 255};
  data.augment.crop = "center";
  data.augment.flip = false;
  std::vector<float> row(kSize * kSize * 3);
  int pasted = 0;
  for (uint64_t example = 0; example < 300; ++example) {
    const Slot slot = {0, example, 0};
    const Mix mix = draw_mix(with(0.2, 1), 5, slot, kSize);
    mixed_row(flat(255, kSize), slot, flat(0, kSize), {0, example + 1, 0}, mix, data,
              Normalisation(data), 5, kSize, row.data());
    double own = 0;
    for (const float v : row) {
      own += static_cast<double>(v) / 255 / static_cast<double>(row.size());
      if (mix.paste) {
        EXPECT_TRUE(v == 0 || v == 255);
      }
    }
    EXPECT_NEAR(own, mix.share, 1e-5);
    pasted += mix.paste;
  }
  EXPECT_NEAR(pasted, 150, 40);  // a coin
}

// Whatever the batch and the threads; and every row's share belongs to its labels.
TEST(Mix, RowsAreFunctionsOfTheSlot) {
  DataConfig data;
  data.augment.crop = "pad";
  data.augment.mixup = 0.2;
  data.augment.cutmix = 1;
  data.augment.randaugment = {2, 5};
  data.augment.repeat = 2;
  const auto read = [&](int64_t rows, int threads) {
    std::vector<std::vector<float>> all;
    Loader loader(open_source({"shapes:?count=13&size=16"}),
                  {.seed = 3,
                   .rows = rows,
                   .size = 16,
                   .total_slots = 52,
                   .threads = threads,
                   .data = data,
                   .label_map = {}},
                  0);
    for (const Batch* b = &loader.next(); b->count > 0; b = &loader.next())
      for (int64_t slot = 0; slot < b->count; ++slot) {
        const int64_t r = b->row_of(slot);
        const auto at = b->pixels.begin() + r * 16 * 16 * 3;
        all.emplace_back(at, at + 16 * 16 * 3);
        const auto i = static_cast<size_t>(r);
        all.back().push_back(static_cast<float>(b->labels[i]));
        all.back().push_back(static_cast<float>(b->partners[i]));
        all.back().push_back(b->shares[i]);
      }
    return all;
  };
  const auto one = read(4, 1), other = read(10, 3);
  ASSERT_EQ(one.size(), 52u);
  EXPECT_EQ(one, other);
  int mixed = 0;
  for (const auto& row : one) mixed += row.back() < 1;
  EXPECT_GT(mixed, 40);  // but for the unit that is left over in an odd epoch, and a full share
}

// 31 pictures in batches of 15, 15 and 1, and one by one. The one that is left over in an odd
// epoch stays as it is.
TEST(Mix, EitherAloneMixesTheLabelsOfOddAndSingleBatches) {
  constexpr uint64_t kExamples = 31;
  for (const AugmentConfig& augment : {with(0.8, 0), with(0, 1)})
    for (const int64_t rows : {15, 1}) {
      DataConfig data;
      data.augment.crop = "pad";
      data.augment.mixup = augment.mixup;
      data.augment.cutmix = augment.cutmix;
      Loader loader(open_source({"shapes:?count=31&size=16"}),
                    {.seed = 3,
                     .rows = rows,
                     .size = 16,
                     .total_slots = kExamples,
                     .threads = 1,
                     .data = data,
                     .label_map = {}},
                    0);
      std::vector<int64_t> labels, partners;
      std::vector<float> shares;
      for (const Batch* b = &loader.next(); b->count > 0; b = &loader.next())
        for (int64_t slot = 0; slot < b->count; ++slot) {
          const auto row = static_cast<size_t>(b->row_of(slot));
          labels.push_back(b->labels[row]);
          partners.push_back(b->partners[row]);
          shares.push_back(b->shares[row]);
        }
      ASSERT_EQ(labels.size(), kExamples);
      for (uint64_t slot = 0; slot < kExamples; ++slot) {
        const auto other = partner_of(slot, kExamples, 1);
        if (other)
          EXPECT_EQ(partners[slot], labels[*other]) << slot;
        else
          EXPECT_EQ(shares[slot], 1) << slot;
      }
      const auto mixed =
          std::count_if(shares.begin(), shares.end(), [](float s) { return s > 0 && s < 1; });
      EXPECT_GT(mixed, 20);
    }
}

}  // namespace
}  // namespace nfscale
