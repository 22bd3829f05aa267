#include "data/unpack.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>

#include "base/files.h"
#include "base/hash.h"
#include "base/log.h"
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
    if (member_ended) ::inflateReset(&z);
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

}  // namespace

Path cache_folder() {
  for (const auto& [variable, inside] :
       {std::pair{"XDG_CACHE_HOME", "nfscale"}, std::pair{"HOME", ".cache/nfscale"}})
    if (const char* folder = std::getenv(variable); folder != nullptr && *folder == '/')
      return Path(folder) / inside;
  fail(Exit::usage, "no place for unpacked files: set XDG_CACHE_HOME to a folder");
}

Path unpacked(const Path& file, uint64_t most) {
  RangeFile range(file);
  const std::string head(range.at(0, kEnd));
  if (!head.starts_with(kGzip) && !head.starts_with(kZstd)) return file;

  // Times are coarse: the end of the file, where checksums stand, tells a rewritten one apart.
  const auto [size, modified_ns] = range.identity();
  const std::string tail(range.at(size - std::min<uint64_t>(size, kEnd), kEnd));
  const std::string path = std::filesystem::absolute(file).string();
  const std::string id =
      hash128(fmt::format("{}\n{}\n{}\n{}{}", path, size, modified_ns, head, tail));
  const Path folder = cache_folder() / "unpacked";
  Path kept = folder / id;
  if (std::filesystem::exists(kept)) return kept;

  std::optional<FileWriter> writer;
  try {
    files().make_folder(folder);
    writer.emplace(kept);
  } catch (const Error& e) {
    fail(e.code, "{} (XDG_CACHE_HOME names another folder for unpacked files)", e.what());
  }
  uint64_t written = 0;
  unpack(file, [&](std::string_view piece) {
    written += piece.size();
    if (written > most)
      fail(Exit::usage, "{}: holds more than the {} bytes that are declared",
           printable(file.string()), most);
    writer->write(piece);
    live(fmt::format("unpacking {} into {}", printable(file.filename().string()), folder.string()));
    return true;
  });
  writer->commit();
  end_live();
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
