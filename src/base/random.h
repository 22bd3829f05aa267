// Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). There is no state: what is drawn is a function of what it is drawn for, so
// threads, processes and restarts change no bit.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

namespace nfscale {

// What a draw is for. The numbers are part of every run's results: never reuse or change one.
enum class Op : uint32_t {
  order = 1,
  order_block = 2,
  order_window = 3,
  mixture = 4,
  crop = 16,
  flip = 17,
  randaugment = 18,
  mixup = 19,
  cutmix = 20,
  erase = 21,
  generator = 32,
  init = 64,
  dropout = 65,
  stochastic_depth = 66,
  sam = 67,
  study = 96,
  retry = 112,
};

using Words = std::array<uint32_t, 4>;

Words philox4x32(Words counter, std::array<uint32_t, 2> key);

// Four words for (seed, op, example, epoch, copy); block = 0, 1, ... gives more of them.
// example < 2^48, copy, op, block < 2^16.
Words words(uint64_t seed, Op op, uint64_t example = 0, uint32_t epoch = 0, uint32_t copy = 0,
            uint32_t block = 0);

inline float uniform(uint32_t w) {
  return static_cast<float>(w >> 8) * 0x1p-24f;
}  // [0, 1)
inline uint32_t below(uint32_t w, uint32_t n) {  // [0, n), n <= 2^16
  return static_cast<uint32_t>((static_cast<uint64_t>(w) * n) >> 32);
}
inline bool coin(uint32_t w) {
  return w >> 31;
}

// Two independent standard normal numbers from two words (Box-Muller, in double).
std::pair<double, double> normal_pair(uint32_t a, uint32_t b);

uint64_t mix64(uint64_t z);  // the finaliser of SplitMix64

}  // namespace nfscale
