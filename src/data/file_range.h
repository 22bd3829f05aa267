// Bytes of files that were indexed earlier and must still be the same files.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nfscale {

struct FileIdentity {
  uint64_t size = 0;
  int64_t modified_ns = 0;
  bool operator==(const FileIdentity&) const = default;
};

// Up to `count` bytes from `offset` on, fewer at the end of the file; valid until the next call.
using ReadAt = std::function<std::string_view(uint64_t offset, size_t count)>;

// A file that is read in pieces, without mapping it: a file that shrinks is an error, not a signal.
class RangeFile {
 public:
  explicit RangeFile(Path path);  // Exit::usage where it is not there or no regular file
  ~RangeFile();
  RangeFile(const RangeFile&) = delete;
  RangeFile& operator=(const RangeFile&) = delete;

  const FileIdentity& identity() const { return identity_; }
  // Up to `count` bytes, fewer at the end; valid until the next call. Small reads share a window.
  std::string_view at(uint64_t offset, size_t count);
  std::string read(uint64_t offset, size_t count) const;  // exactly `count`, or Exit::usage

 private:
  size_t read_into(uint64_t offset, char* to, size_t count) const;

  Path path_;
  int fd_ = -1;
  FileIdentity identity_;
  std::string window_;
  uint64_t window_at_ = 0;
};

// Exit::usage where the file is not the one that was indexed.
std::string read_range(const Path& path, const FileIdentity& indexed, uint64_t offset,
                       size_t count);

}  // namespace nfscale
