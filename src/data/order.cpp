#include "data/order.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace nfscale {

Bijection::Bijection(uint64_t n, uint64_t seed, Op op, uint64_t epoch, uint64_t index) : n_(n) {
  NFSCALE_CHECK(n >= 1 && epoch >> 32 == 0);
  const int width = std::max(2, static_cast<int>(std::bit_width(n - 1)));
  low_bits_ = width / 2;
  high_bits_ = width - low_bits_;
  for (uint32_t block = 0; block < 7; ++block) {
    const Words w = words(seed, op, index, static_cast<uint32_t>(epoch), 0, block);
    const uint64_t a = w[0] | uint64_t{w[1]} << 32, b = w[2] | uint64_t{w[3]} << 32;
    if (block == 6) {
      turn_ = static_cast<uint64_t>(static_cast<unsigned __int128>(a) * n >> 64);
    } else {
      keys_[2 * block] = a;
      keys_[2 * block + 1] = b;
    }
  }
}

uint64_t Bijection::operator()(uint64_t x) const {
  x = (x + turn_) % n_;
  do {
    uint64_t low = x & ((uint64_t{1} << low_bits_) - 1), high = x >> low_bits_;
    for (size_t r = 0; r < keys_.size(); r += 2) {
      high ^= mix64(low + keys_[r]) >> (64 - high_bits_);
      low ^= mix64(high + keys_[r + 1]) >> (64 - low_bits_);
    }
    x = high << low_bits_ | low;
  } while (x >= n_);
  return x;
}

uint64_t Bijection::inverse(uint64_t y) const {
  do {
    uint64_t low = y & ((uint64_t{1} << low_bits_) - 1), high = y >> low_bits_;
    for (size_t r = keys_.size(); r > 0; r -= 2) {
      low ^= mix64(high + keys_[r - 1]) >> (64 - low_bits_);
      high ^= mix64(low + keys_[r - 2]) >> (64 - high_bits_);
    }
    y = high << low_bits_ | low;
  } while (y >= n_);
  return (y + n_ - turn_) % n_;
}

Order::Order(const OrderOptions& options) : options_(options) {
  if (options.examples == 0) fail(Exit::usage, "the data has no example");
  NFSCALE_CHECK(options.repeat >= 1 && options.block >= 1 && options.window >= 1);
  block_count_ = (options.examples - 1) / options.block + 1;
  deficit_ = block_count_ * options.block - options.examples;
}

void Order::enter_epoch(uint64_t epoch) {
  if (epoch_ == epoch) return;
  const bool blocks = options_.blocks;
  main_.emplace(blocks ? block_count_ : options_.examples, options_.seed,
                blocks ? Op::order_block : Op::order, epoch);
  if (blocks) short_at_ = main_->inverse(block_count_ - 1);
  epoch_ = epoch;
  window_number_.reset();
}

uint64_t Order::start(uint64_t j) const {
  return j * options_.block - (j > short_at_ ? deficit_ : 0);
}

uint64_t Order::window_start(uint64_t w) const {
  return start(std::min(w * options_.window, block_count_));
}

const Bijection& Order::window(uint64_t w) {
  if (window_number_ != w) {
    window_.emplace(window_start(w + 1) - window_start(w), options_.seed, Op::order_window, *epoch_,
                    w);
    window_number_ = w;
  }
  return *window_;
}

uint64_t Order::example(uint64_t epoch, uint64_t position) {
  NFSCALE_CHECK(position < options_.examples);
  enter_epoch(epoch);
  if (!options_.blocks) return (*main_)(position);
  uint64_t w = position / options_.block / options_.window;
  if (position >= window_start(w + 1)) ++w;  // windows behind the short block start earlier
  const uint64_t begin = window_start(w);
  const uint64_t t = window(w)(position - begin) + begin;
  uint64_t j = t / options_.block;
  if (t >= start(j + 1)) ++j;
  return (*main_)(j)*options_.block + (t - start(j));
}

uint64_t Order::position(uint64_t epoch, uint64_t example) {
  NFSCALE_CHECK(example < options_.examples);
  enter_epoch(epoch);
  if (!options_.blocks) return main_->inverse(example);
  const uint64_t j = main_->inverse(example / options_.block), w = j / options_.window;
  const uint64_t begin = window_start(w);
  return window(w).inverse(start(j) + example % options_.block - begin) + begin;
}

Slot Order::at(uint64_t slot) {
  const uint64_t unit = slot / options_.repeat;
  const uint64_t epoch = unit / options_.examples;
  return {epoch, example(epoch, unit % options_.examples),
          static_cast<uint32_t>(slot % options_.repeat)};
}

uint64_t Order::slot_of(const Slot& s) {
  return (s.epoch * options_.examples + position(s.epoch, s.example)) * options_.repeat + s.copy;
}

std::pair<uint64_t, uint64_t> rank_slice(uint64_t begin, uint64_t end, uint64_t rank,
                                         uint64_t world) {
  const uint64_t count = end - begin;
  return {begin + count * rank / world, begin + count * (rank + 1) / world};
}

}  // namespace nfscale
