// What every fuzzer shares. NAME_fuzz.cpp is built with libFuzzer and run by ./dev check on its
// seeds in corpus/NAME; it fails on a crash, a sanitizer's finding, and any error but "your input
// is wrong".
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"

template <class F>
void expect_usage(F&& parse) {
  try {
    parse();
  } catch (const nfscale::Error& e) {
    if (e.code != nfscale::Exit::usage && e.code != nfscale::Exit::damaged) throw;
  }
}

// The bytes as a file with a path, in memory, as long as the object lives.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) {
    const int file = ::mkstemp(path_);
    if (::write(file, data, size) != static_cast<ssize_t>(size)) __builtin_trap();
    ::close(file);
  }
  ~MemoryFile() { ::unlink(path_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  nfscale::Path path() const { return path_; }

 private:
  char path_[32] = "/dev/shm/nfscale-fuzz-XXXXXX";
};

#define FUZZ extern "C" int LLVMFuzzerTestOneInput
