// Which example a slot of training holds: a pure function of (seed, slot), without state or memory.
//
// A slot is one use of one example: slot = (epoch * N + position) * K + copy with N examples and K
// copies of each (data.augment.repeat). position -> example is a keyed bijection of [0, N) that is
// another one in every epoch, so each example comes exactly once an epoch, whatever the batch, the
// number of processes and the restarts. N < 2^47, epochs < 2^32, K < 2^16.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/random.h"

namespace nfscale {

struct Slot {
  uint64_t epoch = 0, example = 0;
  uint32_t copy = 0;
  bool operator==(const Slot&) const = default;
};

// A keyed permutation of [0, n): a Feistel network of 12 rounds on the smallest power of two that
// holds n, walked until the result lies below n, after a keyed rotation (which makes odd
// permutations reachable where nothing has to be walked).
class Bijection {
 public:
  Bijection(uint64_t n, uint64_t seed, Op op, uint64_t epoch = 0, uint64_t index = 0);
  uint64_t operator()(uint64_t x) const;
  uint64_t inverse(uint64_t y) const;
  uint64_t size() const { return n_; }

 private:
  uint64_t n_, turn_ = 0;
  int low_bits_, high_bits_;
  std::array<uint64_t, 12> keys_{};
};

// "global" mixes the whole set. "blocks" is for shards read over a network: blocks of consecutive
// examples are permuted, and examples are permuted inside windows of `window` blocks.
struct OrderOptions {
  uint64_t examples = 0, seed = 0;
  uint32_t repeat = 1;
  bool blocks = false;
  uint64_t block = 1024, window = 32;
};

// Remembers the keys of the epoch and window it was asked for last: give each thread a copy.
class Order {
 public:
  explicit Order(const OrderOptions& options);
  uint64_t example(uint64_t epoch, uint64_t position);
  uint64_t position(uint64_t epoch, uint64_t example);
  Slot at(uint64_t slot);
  uint64_t slot_of(const Slot& slot);

 private:
  void enter_epoch(uint64_t epoch);
  const Bijection& window(uint64_t w);
  uint64_t start(uint64_t j) const;         // first position of the epoch's j-th block
  uint64_t window_start(uint64_t w) const;  // first position of window w

  OrderOptions options_;
  uint64_t block_count_, deficit_;  // the last block has `deficit_` examples less
  std::optional<uint64_t> epoch_, window_number_;
  std::optional<Bijection> main_, window_;
  uint64_t short_at_ = 0;  // where in the epoch the short block stands
};

// The slots of [begin, end) that a rank computes: contiguous, sizes differ by at most one.
std::pair<uint64_t, uint64_t> rank_slice(uint64_t begin, uint64_t end, uint64_t rank,
                                         uint64_t world);

}  // namespace nfscale
