// What every fuzzer shares. NAME_fuzz.cpp is built with libFuzzer and run by ./dev check on its seeds
// in corpus/NAME; it fails on a crash, a sanitizer's finding, and any error but "your input is wrong".
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
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

// The bytes as a file with a path, on no disk.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : file_(::memfd_create("fuzz", 0)) {
    if (::write(file_, data, size) != static_cast<ssize_t>(size)) __builtin_trap();
  }
  ~MemoryFile() { ::close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  nfscale::Path path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  int file_;
};

#define FUZZ extern "C" int LLVMFuzzerTestOneInput
