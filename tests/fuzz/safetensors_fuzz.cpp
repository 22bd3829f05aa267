// Any bytes as a safetensors file: read, or refused.
#include "base/safetensors.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  const MemoryFile file(data, size);
  expect_usage([&] {
    const nfscale::SafetensorsFile read = nfscale::read_safetensors(file.path());
    for (const nfscale::TensorView& t : read.tensors) read.numbers(t.name);
  });
  return 0;
}
