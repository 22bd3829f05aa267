#include "data/loader.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

#include "data/certificate.h"
#include "data/testing.h"

namespace nfscale {
namespace {

LoaderOptions options(int64_t rows, uint64_t total, int threads) {
  LoaderOptions o;
  o.seed = 42;
  o.rows = rows;
  o.size = 8;
  o.total_slots = total;
  o.threads = threads;
  return o;
}

TEST(Loader, PixelsOfASlotDoNotDependOnThreadsBatchOrRanks) {
  const auto source = open_source({"shapes:?count=37&size=12"});
  const uint64_t total = 3 * 37;
  for (const int64_t repeat : {1, 3}) {
    std::map<uint64_t, std::vector<float>> wanted;
    for (const int threads : {1, 2, 7}) {
      for (const int64_t rows : {1, 5, 16, 200}) {
        for (const int world : {1, 3}) {
          std::map<uint64_t, int> seen;
          for (int rank = 0; rank < world; ++rank) {
            LoaderOptions o = options(rows, total, threads);
            o.rank = rank;
            o.world = world;
            o.data.augment.repeat = repeat;
            Loader loader(source, o, 0);
            for (uint64_t begin = 0; begin < total; begin += static_cast<uint64_t>(rows)) {
              const Batch& b = loader.next();
              const std::vector<uint64_t> slots = b.slots_of_rows();
              for (int64_t r = 0; r < b.count; ++r) {
                const uint64_t slot = slots[static_cast<size_t>(r)];
                ++seen[slot];
                const auto* row = b.pixels.data() + r * 8 * 8 * 3;
                std::vector<float> pixels(row, row + 8 * 8 * 3);
                const auto [at, is_new] = wanted.try_emplace(slot, pixels);
                EXPECT_TRUE(is_new || at->second == pixels) << slot;
              }
              for (int64_t r = b.count; r < b.rows; ++r)
                EXPECT_EQ(b.weights[static_cast<size_t>(r)], 0);
            }
            EXPECT_EQ(loader.next().count, 0);
          }
          EXPECT_EQ(seen.size(), total);
          for (const auto& [slot, times] : seen) EXPECT_EQ(times, 1) << slot;
        }
      }
    }
  }
}

// facebookresearch/deit#13, #95: an epoch of repeated augmentation saw a third of the pictures.
// Smith et al. and Hoffer et al.: all copies in one batch; and any range of rows holds as many
// different pictures as it can.
TEST(Loader, CopiesOfAPictureAreInOneBatchAndApart) {
  const auto source = open_source({"shapes:?count=1000&size=16"});
  LoaderOptions o = options(64, 2 * 4000, 2);
  o.data.augment.repeat = 4;
  o.data.augment.crop = "inception";
  Loader loader(source, o, 0);
  std::map<std::pair<uint64_t, uint64_t>, int> drawn;  // epoch, example
  for (const Batch* b = &loader.next(); b->count; b = &loader.next()) {
    const int64_t images = b->count / 4;
    std::set<uint64_t> first;
    for (int64_t i = 0; i < b->count; ++i) {
      const Slot& s = b->slots[static_cast<size_t>(i)];
      ++drawn[{s.epoch, s.example}];
      EXPECT_EQ(b->labels[static_cast<size_t>(b->row_of(i))], source->label(s.example));
      if (b->row_of(i) < images) first.insert(s.example);
    }
    EXPECT_EQ(std::ssize(first), images);
    std::set<std::vector<float>> crops;
    for (int64_t copy = 0; copy < 4; ++copy) {
      const float* row = b->pixels.data() + copy * images * 8 * 8 * 3;
      crops.emplace(row, row + 8 * 8 * 3);
      EXPECT_EQ(b->slots[static_cast<size_t>(copy)].example, b->slots[0].example);
    }
    EXPECT_EQ(crops.size(), 4u);
  }
  EXPECT_EQ(drawn.size(), 2000u);
  for (const auto& [slot, times] : drawn) EXPECT_EQ(times, 4) << slot.second;
}

// A batch that is looked at ahead is the next one, beside the one that was handed out.
TEST(Loader, WhatIsReadyIsWhatComesNext) {
  const auto source = open_source({"shapes:?count=37&size=12"});
  Loader loader(source, options(5, 37, 2), 0);
  while (!loader.ready()) std::this_thread::yield();
  int seen = 0;
  for (uint64_t begin = 0; begin < 37; begin += 5) {
    const Batch* ahead = loader.ready();
    const std::vector<float> pixels = ahead ? ahead->pixels : std::vector<float>();
    const Batch& b = loader.next();
    EXPECT_EQ(b.begin, begin);
    if (!ahead) continue;
    ++seen;
    EXPECT_EQ(ahead, &b);
    EXPECT_TRUE(pixels == b.pixels);
    while (begin + 5 < 37 && !loader.ready()) std::this_thread::yield();
    EXPECT_NE(loader.ready(), &b);
  }
  EXPECT_GE(seen, 1);
  EXPECT_EQ(loader.ready(), nullptr);
}

TEST(Loader, EveryExampleOnceAnEpochThroughRandomRestarts) {
  std::mt19937_64 random(1);
  const auto pick = [&](uint64_t low, uint64_t high) { return low + random() % (high - low + 1); };
  for (int trial = 0; trial < 25; ++trial) {
    const uint64_t n = pick(1, 150), k = pick(1, 4), epochs = pick(1, 4), total = n * k * epochs;
    const auto source = open_source(
        {fmt::format("shapes:?count={}&size=8&block={}&window={}", n, pick(1, 20), pick(1, 5))});
    Certificate certificate(n, static_cast<uint32_t>(k));
    DamageCount damage;
    std::map<std::array<uint64_t, 3>, int> seen;
    uint64_t g = 0;
    while (g < total) {  // each round is a process that stops somewhere
      LoaderOptions o =
          options(static_cast<int64_t>(k * pick(1, 20)), total, static_cast<int>(pick(1, 4)));
      o.data.augment.repeat = static_cast<int64_t>(k);
      o.data.order = trial % 2 ? "blocks" : "global";
      Loader loader(source, o, g);
      for (uint64_t steps = pick(1, 12); steps > 0 && g < total; --steps) {
        const Batch& b = loader.next();
        ASSERT_EQ(b.begin, g);
        for (const Slot& s : b.slots) {
          ++seen[{s.epoch, s.example, s.copy}];
          certificate.add(s.epoch, s.example, s.copy);
        }
        damage.add(b, 0);
        g += static_cast<uint64_t>(b.count);
      }
      certificate = Certificate::from_json(certificate.to_json(), n, static_cast<uint32_t>(k));
    }
    EXPECT_EQ(g, total);
    EXPECT_EQ(seen.size(), total);
    EXPECT_EQ(certificate.closed(), epochs);
    EXPECT_EQ(certificate.sum(), hex128(epochs * certificate_sum(n * k)));
  }
}

TEST(Loader, EvaluationIsInOrderEachExampleOnce) {
  const auto source = open_source({"shapes:?count=10&size=8"});
  LoaderOptions o = options(4, 0, 3);
  o.training = false;
  Loader loader(source, o, 0);
  uint64_t next = 0;
  for (const int64_t count : {4, 4, 2, 0}) {
    const Batch& b = loader.next();
    ASSERT_EQ(b.count, count);
    for (size_t r = 0; r < b.slots.size(); ++r) {
      EXPECT_EQ(b.slots[r].example, next);
      EXPECT_EQ(b.labels[r], source->label(next++));
    }
  }
  EXPECT_EQ(next, 10u);
}

// A source in which some pictures are broken and one cannot be read.
class FaultySource : public Source {
 public:
  uint64_t size() const override { return 50; }
  std::string key(uint64_t i) const override { return "k" + std::to_string(i); }
  int64_t label(uint64_t) const override { return 0; }
  std::string fingerprint() const override { return ""; }
  Example read(uint64_t i) const override {
    if (i == unreadable) fail(Exit::system, "disk: {} is gone", i);
    Example e = {.key = key(i), .label = 0, .bytes = "no picture", .picture = {}, .file = "f"};
    if (i % 5) e.picture = Picture(8, 8);
    e.offset = i;
    return e;
  }
  uint64_t unreadable = 1000;
};

TEST(Loader, BrokenPicturesKeepTheirSlotsWithWeightZero) {
  Loader loader(std::make_shared<FaultySource>(), options(25, 50, 4), 0);
  uint64_t broken = 0, last = 0;
  for (int i = 0; i < 2; ++i) {
    const Batch& b = loader.next();
    for (const Broken& x : b.broken) {
      const size_t r = x.slot - b.begin;  // one copy: rows are slots
      EXPECT_EQ(b.weights[r], 0);
      EXPECT_EQ(x.key, "k" + std::to_string(b.slots[r].example));
      EXPECT_EQ(b.slots[r].example % 5, 0u);
      EXPECT_TRUE(x.reason.starts_with("not-an-image"));
      for (size_t v = 0; v < 8 * 8 * 3; ++v) EXPECT_EQ(b.pixels[r * 8 * 8 * 3 + v], 0);
      EXPECT_TRUE(broken == 0 || x.slot > last);
      last = x.slot;
      ++broken;
    }
  }
  EXPECT_EQ(broken, 10u);
}

TEST(Loader, OnBrokenErrorEndsTheRun) {
  LoaderOptions o = options(50, 50, 2);
  o.data.on_broken = "error";
  Loader loader(std::make_shared<FaultySource>(), o, 0);
  EXPECT_NE(error_of([&] { loader.next(); }, Exit::damaged).find("not-an-image"),
            std::string::npos);
}

TEST(Loader, AWorkersErrorComesWhereItsBatchWouldHaveBeen) {
  auto source = std::make_shared<FaultySource>();
  Order order({.examples = 50, .seed = 42});
  source->unreadable = order.at(33).example;
  Loader loader(source, options(10, 50, 4), 0);
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(loader.next().begin, 10 * i);
  EXPECT_NE(error_of([&] { loader.next(); }, Exit::system).find("is gone"), std::string::npos);
}

TEST(Loader, ALoaderMayGoAtAnyTime) {
  const auto source = open_source({"shapes:?count=1000&size=64"});
  for (int i = 0; i < 20; ++i) {
    Loader loader(source, options(64, 100000, 4), static_cast<uint64_t>(i) * 17);
    if (i % 2) loader.next();
  }
}

TEST(Damage, IsJudgedFromAThousandOnAndPerEpoch) {
  DamageCount d;
  d.add(0, 999, 500, 0.001);
  EXPECT_NE(error_of([&] { d.add(0, 1, 0, 0.001); }, Exit::damaged), "");
  DamageCount e;
  e.add(0, 2000, 2, 0.001);  // exactly the share that is allowed
  e.add(1, 900, 3, 0.001);
  EXPECT_EQ(e, (DamageCount{.epoch = 1, .seen = 900, .broken = 3}));
}

}  // namespace
}  // namespace nfscale
