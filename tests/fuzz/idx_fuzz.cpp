// Any bytes as the two files of an idx: source; the first two say how long the file of pictures is.
// Refused, or examples that can be read.
#include <filesystem>

#include "base/log.h"
#include "data/source.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  using namespace nfscale;
  namespace fs = std::filesystem;
  if (size < 2) return 0;
  set_log_level(LogLevel::quiet);
  const size_t most = size - 2, wanted = size_t{data[0]} << 8 | data[1];
  const size_t pictures = wanted < most ? wanted : most;
  const std::string folder = fmt::format("/dev/shm/nfscale-fuzz-idx-{}", ::getpid());
  fs::create_directories(folder);
  ::setenv("XDG_CACHE_HOME", folder.c_str(), 1);
  fs::rename(MemoryFile(data + 2, pictures).path(), folder + "/train-images-idx3-ubyte");
  fs::rename(MemoryFile(data + 2 + pictures, most - pictures).path(),
             folder + "/train-labels-idx1-ubyte");
  expect_usage([&] {
    const auto source = open_source({"idx:" + folder});
    for (uint64_t i = 0; i < source->size(); ++i) {
      const Example e = source->read(i);
      if (!e.picture || e.picture->rgb.empty() || e.label >= 256) __builtin_trap();
    }
  });
  fs::remove_all(folder);
  return 0;
}
