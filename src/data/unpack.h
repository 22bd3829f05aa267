// Compressed files of a data set (gzip, zstd), unpacked once and kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"

namespace nfscale {

// $XDG_CACHE_HOME/nfscale, by default ~/.cache/nfscale; may be deleted whenever nothing runs.
Path cache_folder();

// The file itself where its first bytes are of no known compression; else a file in the cache
// folder with its content, made at the first use and known by path, size, time and ends of the
// original. Exit::usage naming the file where it is damaged or holds more than `most` bytes,
// Exit::system where the cache cannot be written.
Path unpacked(const Path& file, uint64_t most);

// The first `count` bytes of the content, fewer where it is shorter.
std::string unpacked_prefix(const Path& file, size_t count);

}  // namespace nfscale
