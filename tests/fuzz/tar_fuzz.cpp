// Any bytes as a tar: members lie within the file and follow each other, and a source on it is
// either refused or gives examples that can be read.
#include "base/log.h"
#include "data/source.h"
#include "data/tar.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  using namespace nfscale;
  set_log_level(LogLevel::quiet);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  TarReader tar(size, [&](uint64_t at, size_t count) { return bytes.substr(at, count); });
  uint64_t before = 0;
  while (const auto m = tar.next()) {
    if (m->header < before || m->offset > size || m->size > size - m->offset) __builtin_trap();
    before = m->offset;
  }
  const MemoryFile file(data, size);
  expect_usage([&] {
    const auto source = open_source({"wds:" + file.path().string()});
    for (uint64_t i = 0; i < source->size(); ++i)
      if (source->read(i).key != source->key(i)) __builtin_trap();
  });
  return 0;
}
