#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "base/text.h"

namespace nfscale {

int Files::open(const Path& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (fd < 0) fail_io(path, "opening", errno);
  return fd;
}

void Files::write(int fd, std::span<const std::byte> bytes, const Path& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(path, "writing", errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void Files::sync(int fd, const Path& path) {
  if (::fsync(fd) != 0) fail_io(path, "syncing", errno);
}

void Files::truncate(int fd, size_t size, const Path& path) {
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) fail_io(path, "cutting", errno);
}

void Files::rename(const Path& from, const Path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_io(to, "renaming to it", errno);
}

void Files::sync_folder(const Path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_io(folder, "opening", errno);
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems refuse to sync folders; their renames are durable by themselves.
  if (result != 0 && error != EINVAL && error != ENOTSUP) fail_io(folder, "syncing", error);
}

void Files::make_folder(const Path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_io(folder, "making the folder", error.value());
}

void Files::remove(const Path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) fail_io(path, "removing", error.value());
}

namespace {
Files real_files;
Files* current_files = &real_files;

Path folder_of(const Path& path) {
  return path.has_parent_path() ? path.parent_path() : Path(".");
}
}  // namespace

Files& files() {
  return *current_files;
}
ScopedFiles::ScopedFiles(Files& door) : before_(std::exchange(current_files, &door)) {}
ScopedFiles::~ScopedFiles() {
  current_files = before_;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

bool is_there(const Path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  fail(Exit::usage, "{}: cannot be looked at: {}", printable(path.string()), std::strerror(errno));
}

// Processes in containers share folders and process numbers.
Path temporary_beside(const Path& path) {
  std::random_device random;
  Path temporary = path;
  temporary += fmt::format(".{:08x}{:08x}.tmp", random(), random());
  return temporary;
}

FileWriter::FileWriter(Path path) : path_(std::move(path)), temporary_(temporary_beside(path_)) {
  fd_ = files().open(temporary_, O_WRONLY | O_CREAT | O_EXCL);
}

FileWriter::~FileWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void FileWriter::write(std::span<const std::byte> bytes) {
  files().write(fd_, bytes, path_);
}

void FileWriter::set_modified(int64_t modified_ns) {
  constexpr int64_t second = 1'000'000'000;
  const int64_t ns = (modified_ns % second + second) % second;
  const timespec time{.tv_sec = (modified_ns - ns) / second, .tv_nsec = ns};
  const timespec times[] = {time, time};
  if (::futimens(fd_, times) != 0) fail_io(path_, "setting its time", errno);
}

void FileWriter::commit() {
  files().sync(fd_, path_);
  files().rename(temporary_, path_);
  ::close(std::exchange(fd_, -1));
  files().sync_folder(folder_of(path_));
}

void write_file(const Path& path, std::string_view text) {
  FileWriter writer(path);
  writer.write(text);
  writer.commit();
}

AppendLog::AppendLog(Path path) : path_(std::move(path)) {
  fd_ = files().open(path_, O_WRONLY | O_CREAT | O_APPEND);
}

AppendLog::~AppendLog() {
  if (fd_ >= 0) ::close(fd_);
}

AppendLog::AppendLog(AppendLog&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

AppendLog& AppendLog::operator=(AppendLog&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

void AppendLog::append(std::string_view record, bool sync) {
  files().write(fd_, bytes_of(record), path_);
  if (sync) files().sync(fd_, path_);
}

void AppendLog::cut(size_t size) {
  files().truncate(fd_, size, path_);
}

std::string read_file(const Path& path, size_t most) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::usage, "{}: cannot be read: {}", path.string(), std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = errno;
      ::close(fd);
      if (n < 0) fail(Exit::usage, "{}: cannot be read: {}", path.string(), std::strerror(error));
      return text;
    }
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > most) {
      ::close(fd);
      fail(Exit::usage, "{}: longer than {} bytes", path.string(), most);
    }
  }
}

MappedFile::MappedFile(const Path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::usage, "{}: cannot be read: {}", path.string(), std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail(Exit::usage, "{}: not a regular file", path.string());
  }
  if (info.st_size == 0) {
    ::close(fd);
    return;
  }
  const size_t size = static_cast<size_t>(info.st_size);
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (at == MAP_FAILED) fail_io(path, "mapping", error);
  bytes_ = {static_cast<const std::byte*>(at), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

void see_anew(const Path& folder) {
  std::error_code error;
  const std::filesystem::directory_iterator opened(folder, error);
}

size_t free_space(const Path& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) fail_io(path, "asking for free space", errno);
  return static_cast<size_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace nfscale
