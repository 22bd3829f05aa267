// Any bytes as a safetensors file: read, or refused.
#include "base/safetensors.h"
#include "fuzz.h"

FUZZ(const uint8_t* data, size_t size) {
  const MemoryFile memory(data, size);
  expect_usage([&] {
    const nfscale::SafetensorsFile file = nfscale::read_safetensors(memory.path());
    for (const nfscale::TensorView& t : file.tensors) file.numbers(t.name);
  });
  return 0;
}
