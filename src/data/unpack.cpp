#include "data/unpack.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "data/file_range.h"

namespace nfscale {
namespace {

constexpr std::string_view kGzip("\x1F\x8B", 2), kZstd("\x28\xB5\x2F\xFD", 4);
constexpr size_t kPiece = size_t{1} << 17, kEnd = 4096;

// Takes the next piece of the content; false: no more of it is wanted.
using Take = std::function<bool(std::string_view)>;

struct Packed {
  explicit Packed(Path p) : path(std::move(p)), file(path) {}
  std::string next() {
    const uint64_t left = file.identity().size - at;
    std::string piece = file.read(at, static_cast<size_t>(std::min<uint64_t>(left, kPiece)));
    at += piece.size();
    return piece;
  }
  bool at_end() const { return at == file.identity().size; }
  [[noreturn]] void damaged(std::string_view why) const {
    fail(Exit::usage, "{}: cannot be unpacked: {}", printable(path.string()), why);
  }

  Path path;
  RangeFile file;
  uint64_t at = 0;
};

void gunzip(Packed& packed, const Take& take) {
  z_stream z{};
  if (::inflateInit2(&z, 15 + 16) != Z_OK) throw std::bad_alloc();
  const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&z, ::inflateEnd);
  std::string in, out(kPiece, '\0');
  bool member_ended = false;  // a file may hold several, one after another
  bool more_out = false;      // the output was full, and what is left may need no further input
  for (;;) {
    if (z.avail_in == 0 && !more_out) {
      if (packed.at_end()) break;
      in = packed.next();
      z.next_in = reinterpret_cast<Bytef*>(in.data());
      z.avail_in = static_cast<uInt>(in.size());
    }
    if (member_ended) {
      while (z.avail_in > 0 && *z.next_in == 0) ++z.next_in, --z.avail_in;  // padding of tapes
      if (z.avail_in == 0) continue;
      ::inflateReset(&z);
    }
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    const int result = ::inflate(&z, Z_NO_FLUSH);
    member_ended = result == Z_STREAM_END;
    more_out = z.avail_out == 0 && !member_ended;
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
      packed.damaged(z.msg ? z.msg : "damaged gzip data");
    if (!take(std::string_view(out).substr(0, out.size() - z.avail_out))) return;
  }
  if (!member_ended) packed.damaged("the gzip data ends early");
}

void unzstd(Packed& packed, const Take& take) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(::ZSTD_createDCtx(),
                                                                   ::ZSTD_freeDCtx);
  if (!context) throw std::bad_alloc();
  std::string out(kPiece, '\0');
  size_t expected = 1;  // 0 between frames
  while (!packed.at_end()) {
    const std::string in = packed.next();
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    // Behind a full output may be more of it that needs no further input.
    while (from.pos < from.size || (expected != 0 && to.pos == to.size)) {
      to.pos = 0;
      expected = ::ZSTD_decompressStream(context.get(), &to, &from);
      if (::ZSTD_isError(expected)) packed.damaged(::ZSTD_getErrorName(expected));
      if (!take(std::string_view(out).substr(0, to.pos))) return;
    }
  }
  if (expected != 0) packed.damaged("the zstd data ends early");
}

void unpack(const Path& path, const Take& take) {
  Packed packed(path);
  const std::string magic =
      packed.file.read(0, static_cast<size_t>(std::min<uint64_t>(4, packed.file.identity().size)));
  if (magic.starts_with(kGzip)) return gunzip(packed, take);
  if (magic.starts_with(kZstd)) return unzstd(packed, take);
  while (!packed.at_end())
    if (!take(packed.next())) return;
}

// Times are coarse: the end of the file, where checksums stand, tells a rewritten one apart.
std::string name_of_copy(const Path& file, RangeFile& original) {
  const auto [size, modified_ns] = original.identity();
  const std::string head(original.at(0, kEnd));
  const std::string tail(original.at(size - std::min<uint64_t>(size, kEnd), kEnd));
  return hash128(fmt::format("{}\n{}\n{}\n{}{}", std::filesystem::absolute(file).string(), size,
                             modified_ns, head, tail));
}

std::optional<uint64_t> size_of(const Path& kept) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(kept, error);
  if (!error) return size;
  if (error == std::errc::no_such_file_or_directory) return std::nullopt;
  fail_io(kept, "looking at it", error.value());
}

// What processes left that were killed; one that is at work writes all the time.
void remove_leftovers(const Path& folder) {
  const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::hours(24);
  std::error_code error;
  std::vector<Path> leftovers;
  for (std::filesystem::directory_iterator i(folder, error), end; !error && i != end;
       i.increment(error)) {
    std::error_code gone;
    const auto written = i->last_write_time(gone);
    if (!gone && i->path().extension() == ".tmp" && written < old) leftovers.push_back(i->path());
  }
  for (const Path& path : leftovers) {
    try {
      files().remove(path);
    } catch (const Error&) {
      // Somebody else's.
    }
  }
}

void write_copy(const Path& file, int64_t modified_ns, uint64_t size, const Path& kept) {
  const std::string shown = printable(file.string());
  FileWriter writer(kept);
  uint64_t written = 0;
  unpack(file, [&](std::string_view piece) {
    if (stop_requested()) fail(Exit::preempted, "stopped while {} was unpacked", shown);
    written += piece.size();
    if (written > size)
      fail(Exit::usage, "{}: holds more than the {} bytes that are declared", shown, size);
    writer.write(piece);
    live(fmt::format(
        "unpacking {} into {} {:.0f}%", printable(file.filename().string()),
        kept.parent_path().string(),
        100 * static_cast<double>(written) / static_cast<double>(std::max<uint64_t>(size, 1))));
    return true;
  });
  end_live();
  if (written < size)
    fail(Exit::usage, "{}: holds {} bytes, {} are declared", shown, written, size);
  writer.set_modified(modified_ns);
  writer.commit();
}

}  // namespace

Path cache_folder() {
  for (const auto& [variable, inside] :
       {std::pair{"XDG_CACHE_HOME", "nfscale"}, std::pair{"HOME", ".cache/nfscale"}})
    if (const char* folder = std::getenv(variable); folder != nullptr && *folder == '/')
      return Path(folder) / inside;
  fail(Exit::usage, "no place for unpacked files: set XDG_CACHE_HOME to a folder");
}

Path unpacked(const Path& file, uint64_t size) {
  RangeFile original(file);
  const std::string magic(original.at(0, 4));
  if (!magic.starts_with(kGzip) && !magic.starts_with(kZstd)) return file;
  const Path folder = cache_folder() / "unpacked";
  Path kept = folder / name_of_copy(file, original);
  try {
    if (size_of(kept) == size) return kept;
    files().make_folder(folder);
    remove_leftovers(folder);
    write_copy(file, original.identity().modified_ns, size, kept);
  } catch (const Error& e) {
    if (e.code != Exit::system) throw;
    fail(Exit::system, "unpacking {}: {} (XDG_CACHE_HOME names another folder for unpacked files)",
         printable(file.string()), e.what());
  }
  return kept;
}

std::string unpacked_prefix(const Path& file, size_t count) {
  std::string prefix;
  unpack(file, [&](std::string_view piece) {
    prefix += piece.substr(0, count - prefix.size());
    return prefix.size() < count;
  });
  return prefix;
}

}  // namespace nfscale
