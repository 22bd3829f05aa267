// What every fuzzer shares. NAME_fuzz.cpp is built with libFuzzer and run by ./dev check on its seeds
// in corpus/NAME; it fails on a crash, a sanitizer's finding, and any error but "your input is wrong".
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

// The bytes as a file with a path, as long as the object lives.
class File {
 public:
  File(const uint8_t* data, size_t size) {
    const int file = ::mkstemp(path_);
    if (::write(file, data, size) != static_cast<ssize_t>(size)) __builtin_trap();
    ::close(file);
  }
  ~File() { ::unlink(path_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  nfscale::Path path() const { return path_; }

 private:
  char path_[32] = "/tmp/nfscale-fuzz-XXXXXX";
};

#define FUZZ extern "C" int LLVMFuzzerTestOneInput
