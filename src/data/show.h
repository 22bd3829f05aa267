// The pictures of some slots as training gets them, and what was done to them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/source.h"

namespace nfscale {

struct ShownSlot {
  uint64_t slot = 0;
  Slot of;
  std::string key, label;
  int64_t width = 0, height = 0;  // of the picture in the source
  RowDraw draw;
  struct Partner {
    uint64_t slot = 0;
    std::string key, label;
    Mix mix;
  };
  std::optional<Partner> partner;
  std::string broken;  // why there is no picture; the row is then grey
  Picture picture;     // the row, from what the step gets back to 0..255
};

// Slots [begin, end) of a run with a resolved configuration.
std::vector<ShownSlot> show_slots(const std::shared_ptr<const Source>& source, const Config& config,
                                  uint64_t begin, uint64_t end);

// What stands below the picture: a line each for slot and label, crop, operations, partner.
std::vector<std::string> caption_of(const ShownSlot& shown);

}  // namespace nfscale
