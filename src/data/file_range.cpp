#include "data/file_range.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace nfscale {

RangeFile::RangeFile(Path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) {
    const int error = errno;
    if (error != ENOENT && error != ENOTDIR && error != EACCES && error != ENAMETOOLONG)
      fail_io(path_, "opening", error);
    fail(Exit::usage, "{}: cannot be read: {}", printable(path_.string()), std::strerror(error));
  }
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    fail(Exit::usage, "{}: not a regular file", printable(path_.string()));
  }
  identity_ = {static_cast<uint64_t>(info.st_size),
               info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
}

RangeFile::~RangeFile() {
  ::close(fd_);
}

size_t RangeFile::read_into(uint64_t offset, char* to, size_t count) const {
  size_t done = 0;
  while (done < count) {
    const ssize_t n = ::pread(fd_, to + done, count - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(path_, "reading", errno);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

std::string_view RangeFile::at(uint64_t offset, size_t count) {
  constexpr size_t window = 4096;  // a header, a label and the next header
  if (offset < window_at_ || offset + count > window_at_ + window_.size()) {
    window_.resize(std::max(count, window));
    window_.resize(read_into(offset, window_.data(), window_.size()));
    window_at_ = offset;
  }
  return std::string_view(window_).substr(offset - window_at_, count);
}

std::string RangeFile::read(uint64_t offset, size_t count) const {
  std::string bytes(count, '\0');
  if (read_into(offset, bytes.data(), count) != count)
    fail(Exit::usage, "{}: ends before byte {}", printable(path_.string()), offset + count);
  return bytes;
}

std::string read_range(const Path& path, const FileIdentity& indexed, uint64_t offset,
                       size_t count) {
  const RangeFile file(path);
  if (file.identity() != indexed)
    fail(Exit::usage, "{}: has changed since it was indexed", printable(path.string()));
  return file.read(offset, count);
}

}  // namespace nfscale
