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
// folder with its content of `size` bytes, made at the first use and known by path, size, time and
// ends of the original. It has the time of the original, so that processes that unpack the same
// file at once and replace each other's copy change nothing. Exit::usage naming the file where it
// is damaged or holds another number of bytes, Exit::system where the cache cannot be written,
// Exit::preempted where the process is asked to stop.
Path unpacked(const Path& file, uint64_t size);

// The first `count` bytes of the content, fewer where it is shorter.
std::string unpacked_prefix(const Path& file, size_t count);

}  // namespace nfscale
