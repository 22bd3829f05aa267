// Every write of the program goes through this door, so that tests can fail or drop each of them.
//
// Nothing is written in place: write_file and FileWriter make a new file beside the old one, sync
// it, rename it and sync the folder. AppendLog is the exception, for logs that are cut back to
// their last whole record. All functions throw Error{Exit::system} with the path and the system's
// words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace nfscale {

// The system calls that change files. The real one is the default; tests install others.
class Files {
 public:
  virtual ~Files() = default;
  virtual int open(const Path& path, int flags);  // a file descriptor, closed on exec
  virtual void write(int fd, std::span<const std::byte> bytes, const Path& path);
  virtual void sync(int fd, const Path& path);
  virtual void truncate(int fd, size_t size, const Path& path);
  virtual void rename(const Path& from, const Path& to);
  virtual void sync_folder(const Path& folder);
  virtual void make_folder(const Path& folder);  // and its parents
  virtual void remove(const Path& path);  // a file or a whole folder; nothing if it is not there
};

Files& files();
// Replaces the door until the returned value goes; for tests.
class ScopedFiles {
 public:
  explicit ScopedFiles(Files& door);
  ~ScopedFiles();
  ScopedFiles(const ScopedFiles&) = delete;
  ScopedFiles& operator=(const ScopedFiles&) = delete;

 private:
  Files* before_;
};

std::span<const std::byte> bytes_of(std::string_view text);

// False where nothing is there; Exit::usage with the path where that cannot be told.
bool is_there(const Path& path);

// A name beside `path` that no process of any machine uses, ending in ".tmp".
Path temporary_beside(const Path& path);

// A new file that takes its name only when it is complete. Without commit() nothing is left.
class FileWriter {
 public:
  explicit FileWriter(Path path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(bytes_of(text)); }
  void set_modified(int64_t modified_ns);  // since 1970; before commit(), after what is written
  void commit();

 private:
  Path path_, temporary_;
  int fd_ = -1;
};

void write_file(const Path& path, std::string_view text);

// A log of records, one write each. `sync` waits until the record is on the disk.
class AppendLog {
 public:
  AppendLog() = default;
  explicit AppendLog(Path path);
  ~AppendLog();
  AppendLog(AppendLog&& other) noexcept;
  AppendLog& operator=(AppendLog&& other) noexcept;
  explicit operator bool() const { return fd_ >= 0; }
  void append(std::string_view record, bool sync = false);
  void cut(size_t size);  // keeps the first `size` bytes

 private:
  Path path_;
  int fd_ = -1;
};

// Missing or unreadable: Exit::usage with the path; longer than `most` bytes: Exit::usage.
std::string read_file(const Path& path, size_t most = size_t{1} << 30);

// A whole file in memory as the system maps it; an empty file is an empty span.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const Path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

// Opens the folder, so that a network file system asks its server what is in it.
void see_anew(const Path& folder);

// Bytes that a user may still write on the file system of `path`.
size_t free_space(const Path& path);

}  // namespace nfscale
