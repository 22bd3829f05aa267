// A picture in memory: RGB, 8 bits a channel, rows from the top, no padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nfscale {

struct Picture {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // width * height * 3

  Picture() = default;
  Picture(int64_t w, int64_t h)
      : width(w), height(h), rgb(static_cast<size_t>(w) * static_cast<size_t>(h) * 3) {}
};

struct Box {
  int64_t x = 0, y = 0, width = 0, height = 0;
  bool operator==(const Box&) const = default;
};

}  // namespace nfscale
