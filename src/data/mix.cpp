#include "data/mix.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace nfscale {
namespace {

Words words_for(uint64_t seed, Op op, const Slot& slot, uint32_t block) {
  return words(seed, op, slot.example, static_cast<uint32_t>(slot.epoch), slot.copy, block);
}

// In [0, 1), of two words.
double uniform53(uint32_t high, uint32_t low) {
  return static_cast<double>((uint64_t{high} << 21) ^ (low >> 11)) * 0x1p-53;
}

// Beta(a, a) by Johnk's rejection, attempt k from block 1 + k of the slot's words. At a = 1, the
// largest that is allowed, every second attempt is taken.
double symmetric_beta(double a, uint64_t seed, Op op, const Slot& slot) {
  for (uint32_t k = 0; k < 64; ++k) {
    const Words w = words_for(seed, op, slot, 1 + k);
    const double x = std::pow(uniform53(w[0], w[1]), 1 / a),
                 y = std::pow(uniform53(w[2], w[3]), 1 / a);
    if (x + y <= 1 && x + y > 0) return static_cast<double>(static_cast<float>(x / (x + y)));
  }
  // Of a tiny a the powers are 0, and the distribution is a coin.
  return coin(words_for(seed, op, slot, 1)[0]) ? 1 : 0;
}

}  // namespace

bool mixes(const AugmentConfig& config) {
  return config.mixup > 0 || config.cutmix > 0;
}

Mix draw_mix(const AugmentConfig& config, uint64_t seed, const Slot& slot, int64_t size) {
  Mix mix;
  mix.paste =
      config.cutmix > 0 && (config.mixup <= 0 || coin(words_for(seed, Op::mixup, slot, 0)[0]));
  if (!mix.paste) {
    mix.share = symmetric_beta(config.mixup, seed, Op::mixup, slot);
    return mix;
  }
  const Words w = words_for(seed, Op::cutmix, slot, 0);
  const double kept = config.cutmix == 1 ? double{uniform(w[0])}
                                         : symmetric_beta(config.cutmix, seed, Op::cutmix, slot);
  const auto half = static_cast<int64_t>(std::sqrt(1 - kept) * static_cast<double>(size)) / 2;
  const int64_t x = below(w[1], static_cast<uint32_t>(size)),
                y = below(w[2], static_cast<uint32_t>(size));
  const int64_t left = std::max<int64_t>(0, x - half), top = std::max<int64_t>(0, y - half);
  mix.box = {left, top, std::min(size, x + half) - left, std::min(size, y + half) - top};
  mix.share =
      1 - static_cast<double>(mix.box.width * mix.box.height) / static_cast<double>(size * size);
  return mix;
}

std::optional<uint64_t> partner_of(uint64_t slot, uint64_t examples, uint32_t repeat) {
  const uint64_t unit = slot / repeat, other = unit ^ 1;
  if (unit / examples != other / examples) return std::nullopt;
  return other * repeat + slot % repeat;
}

}  // namespace nfscale
