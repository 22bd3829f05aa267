// Any text as JSON; what is accepted is written so that it reads back to the same.
#include "base/json.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  expect_usage([&] {
    // Once around first: -0e1 is written as -0, which is the whole number 0 when read.
    const std::string first = nfscale::parse_json(text, "fuzz").dump();
    const std::string written = nfscale::parse_json(first, "again").dump();
    if (nfscale::parse_json(written, "again").dump() != written) __builtin_trap();
  });
  return 0;
}
