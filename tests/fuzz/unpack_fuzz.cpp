// Any bytes as a compressed file: refused, or content that is the same at every reading.
#include "data/unpack.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  using namespace nfscale;
  const MemoryFile file(data, size);
  expect_usage([&] {
    const std::string all = unpacked_prefix(file.path(), 1 << 22);
    if (all.size() > 1 << 22) __builtin_trap();
    if (unpacked_prefix(file.path(), 16) != all.substr(0, 16)) __builtin_trap();
  });
  return 0;
}
