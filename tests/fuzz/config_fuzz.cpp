// Any text as a configuration file; what is accepted is written so that it reads back to the same.
#include "config/load.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  const MemoryFile file(data, size);
  expect_usage([&] {
    const nfscale::Config config = nfscale::load_config(file.path(), {}).config;
    const std::string text = nfscale::config_toml(config);
    const MemoryFile written(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    const nfscale::Config again = nfscale::load_config(written.path(), {}).config;
    if (nfscale::config_toml(again) != text) __builtin_trap();
  });
  return 0;
}
