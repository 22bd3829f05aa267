// MixUp (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899) of the pictures
// of two slots. What is drawn is a function of the slot, as everything else.
#pragma once

#include <optional>

#include "config/config.h"
#include "data/order.h"
#include "data/picture.h"

namespace nfscale {

// How a slot's picture and its partner's become one.
struct Mix {
  bool paste = false;  // the partner shows in a box; else everywhere, by its part
  double share = 1;    // of the slot's own picture, and of its label
  Box box = {};
};

bool mixes(const AugmentConfig& config);

// Where both are on, a coin chooses. MixUp: share of Beta(a, a). CutMix: a box of sides sqrt(1 - l)
// of the picture's, l of Beta(a, a), around a place anywhere, cut at the borders; the share is that
// of the pixels left.
Mix draw_mix(const AugmentConfig& config, uint64_t seed, const Slot& slot, int64_t size);

// The other slot of a pair, whose picture a slot is mixed with: that of the neighbouring example in
// the order, the same copy. Nothing where it lies in another epoch.
std::optional<uint64_t> partner_of(uint64_t slot, uint64_t examples, uint32_t repeat);

}  // namespace nfscale
