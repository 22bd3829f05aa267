#include "data/unpack.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <chrono>
#include <functional>

#include "base/process.h"
#include "data/file_range.h"
#include "data/testing.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

// What is hard to get right: content that fills buffers exactly, and content without end.
std::string content(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * i >> 7);
  return text;
}

std::string gzip(const std::string& text) {
  z_stream z{};
  ::deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(::deflateBound(&z, text.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(packed.data());
  z.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(::deflate(&z, Z_FINISH), Z_STREAM_END);
  packed.resize(z.total_out);
  ::deflateEnd(&z);
  return packed;
}

std::string zstd(const std::string& text) {
  ZSTD_CCtx* context = ::ZSTD_createCCtx();
  ::ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string packed(::ZSTD_compressBound(text.size()), '\0');
  packed.resize(::ZSTD_compress2(context, packed.data(), packed.size(), text.data(), text.size()));
  ::ZSTD_freeCCtx(context);
  return packed;
}

class Unpack : public testing::TestWithParam<std::string (*)(const std::string&)> {
 protected:
  std::string pack(const std::string& text) const { return GetParam()(text); }
  std::string unpack(const std::string& packed, uint64_t size) const {
    folder_.write("file.packed", packed);
    return read_file(unpacked(folder_.path / "file.packed", size));
  }
  std::vector<Path> cached() const {
    std::vector<Path> paths;
    for (const auto& entry : fs::recursive_directory_iterator(cache_.path))
      if (entry.is_regular_file()) paths.push_back(entry.path());
    return paths;
  }
  UnpackHere cache_;
  TestFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(, Unpack, testing::Values(gzip, zstd),
                         [](const auto& i) { return i.index == 0 ? "gzip" : "zstd"; });

TEST_P(Unpack, ContentComesBackWhole) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1} << 17, (size_t{1} << 17) - 1,
                            (size_t{1} << 18) + 1, size_t{3'000'000}}) {
    EXPECT_EQ(unpack(pack(content(size)), size), content(size)) << size;
    EXPECT_EQ(unpack(pack(std::string(size, 'x')), size), std::string(size, 'x')) << size;
  }
}

TEST_P(Unpack, FilesOneAfterAnotherAreOne) {
  EXPECT_EQ(unpack(pack(content(200'000)) + pack("end"), 200'003), content(200'000) + "end");
}

TEST_P(Unpack, ADamagedFileIsRefusedAndLeavesNothing) {
  const std::string packed = pack(content(300'000));
  for (const size_t length : {size_t{5}, packed.size() / 2, packed.size() - 1})
    EXPECT_NE(
        error_of([&] { unpack(packed.substr(0, length), 300'000); }).find("file.packed: cannot be"),
        std::string::npos)
        << length;
  std::string flipped = packed;
  flipped[packed.size() / 2] = static_cast<char>(flipped[packed.size() / 2] ^ 0x55);
  EXPECT_NE(error_of([&] { unpack(flipped, 300'000); }).find("cannot be unpacked"),
            std::string::npos);
  EXPECT_NE(error_of([&] { unpack(packed, 299'999); }).find("more than the 299999 bytes"),
            std::string::npos);
  EXPECT_NE(error_of([&] { unpack(packed, 300'001); }).find("300000 bytes, 300001 are declared"),
            std::string::npos);
  EXPECT_EQ(cached(), std::vector<Path>());
}

TEST_P(Unpack, TheSameFileIsUnpackedOnceAndAChangedOneAnew) {
  folder_.write("a.gz", pack("one"));
  const Path first = unpacked(folder_.path / "a.gz", 3);
  const auto made = fs::last_write_time(first);
  EXPECT_EQ(unpacked(folder_.path / "a.gz", 3), first);
  EXPECT_EQ(fs::last_write_time(first), made);
  folder_.write("a.gz", pack("other"));
  EXPECT_EQ(read_file(unpacked(folder_.path / "a.gz", 5)), "other");
  fs::remove_all(cache_.path);
  EXPECT_EQ(read_file(unpacked(folder_.path / "a.gz", 5)), "other");
}

// Times are coarse: a script may write a file twice within one tick of them.
TEST_P(Unpack, AFileOfTheSameSizeAndTimeIsNotTakenForTheOther) {
  const std::string one = pack("one"), two = pack("two");
  ASSERT_EQ(one.size(), two.size());
  const Path file = folder_.path / "a.gz";
  folder_.write("a.gz", one);
  const auto written = fs::last_write_time(file);
  EXPECT_EQ(read_file(unpacked(file, 3)), "one");
  folder_.write("a.gz", two);
  fs::last_write_time(file, written);
  EXPECT_EQ(read_file(unpacked(file, 3)), "two");
}

TEST_P(Unpack, ACopyThatWasCutIsMadeAnew) {
  folder_.write("a.gz", pack(content(300'000)));
  const Path copy = unpacked(folder_.path / "a.gz", 300'000);
  for (const size_t left : {size_t{0}, size_t{1000}}) {
    fs::resize_file(copy, left);
    EXPECT_EQ(read_file(unpacked(folder_.path / "a.gz", 300'000)), content(300'000));
  }
}

// Does something else once, while a file is about to take its name.
class Interrupted : public FastFiles {
 public:
  std::function<void()> between;
  void rename(const Path& from, const Path& to) override {
    if (const auto now = std::exchange(between, nullptr)) now();
    FastFiles::rename(from, to);
  }
};

// In containers both may have the same process number.
TEST_P(Unpack, ProcessesThatDoItAtTheSameTimeDoNotDisturbEachOther) {
  const Path file = folder_.path / "a.gz";
  folder_.write("a.gz", pack(content(300'000)));
  Interrupted door;
  const ScopedFiles scope(door);
  FileIdentity indexed;
  door.between = [&] { indexed = RangeFile(unpacked(file, 300'000)).identity(); };
  const Path copy = unpacked(file, 300'000);
  EXPECT_EQ(read_range(copy, indexed, 0, 300'000), content(300'000));
  EXPECT_EQ(cached(), std::vector{copy});
}

class FullDisk : public FastFiles {
 public:
  void write(int, std::span<const std::byte>, const Path& path) override {
    fail_io(path, "writing", ENOSPC);
  }
};

TEST_P(Unpack, AFullDiskIsToldWithTheFileAndTheWayOut) {
  folder_.write("a.gz", pack("text"));
  FullDisk door;
  const ScopedFiles scope(door);
  const std::string message = error_of([&] { unpacked(folder_.path / "a.gz", 4); }, Exit::system);
  for (const char* part : {"unpacking ", "a.gz: ", "No space left", "XDG_CACHE_HOME"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(cached(), std::vector<Path>());
}

TEST_P(Unpack, WhatKilledProcessesLeftGoesAndWhatIsBeingWrittenStays) {
  fs::create_directories(cache_.path / "nfscale/unpacked");
  const Path left = cache_.path / "nfscale/unpacked/a.tmp",
             written = cache_.path / "nfscale/unpacked/b.tmp";
  for (const Path& path : {left, written}) write_file(path, "part");
  fs::last_write_time(left, fs::file_time_type::clock::now() - std::chrono::hours(25));
  EXPECT_EQ(unpack(pack("text"), 4), "text");
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(written));
}

TEST_P(Unpack, ASignalToStopIsHeard) {
  folder_.write("a.gz", pack(content(300'000)));
  EXPECT_EXIT(
      {
        catch_stop_signals();
        ::raise(SIGTERM);
        try {
          unpacked(folder_.path / "a.gz", 300'000);
        } catch (const Error& e) {
          std::fprintf(stderr, "%s", e.what());
          ::_exit(static_cast<int>(e.code));
        }
      },
      testing::ExitedWithCode(75), "stopped while .*a.gz was unpacked");
  EXPECT_EQ(cached(), std::vector<Path>());
}

TEST_P(Unpack, APrefixNeedsNoMoreThanItself) {
  const std::string packed = pack(content(1'000'000));
  folder_.write("a.gz", packed.substr(0, packed.size() - 10));
  EXPECT_EQ(unpacked_prefix(folder_.path / "a.gz", 16), content(16));
  folder_.write("b.gz", pack("short"));
  EXPECT_EQ(unpacked_prefix(folder_.path / "b.gz", 16), "short");
}

// As tapes and some disks pad, and gzip itself reads.
TEST(UnpackGzip, ZerosBehindItsEndAreNoContent) {
  const UnpackHere cache;
  const TestFolder folder;
  const Path file = folder.path / "a.gz";
  for (const size_t zeros : {size_t{1}, size_t{512}, size_t{1} << 18}) {
    const std::string padded = gzip(content(1000)) + std::string(zeros, '\0');
    folder.write("a.gz", padded);
    EXPECT_EQ(read_file(unpacked(file, 1000)), content(1000)) << zeros;
    folder.write("a.gz", padded + gzip("end"));
    EXPECT_EQ(read_file(unpacked(file, 1003)), content(1000) + "end") << zeros;
    folder.write("a.gz", padded + "x");
    EXPECT_NE(error_of([&] { unpacked(file, 1000); }).find("cannot be unpacked"),
              std::string::npos);
  }
}

TEST(UnpackPlain, IsTheFileItself) {
  const TestFolder folder;
  folder.write("a", "plain");
  EXPECT_EQ(unpacked(folder.path / "a", 1), folder.path / "a");
  EXPECT_EQ(unpacked_prefix(folder.path / "a", 3), "pla");
}

TEST(UnpackCache, AFolderThatCannotBeWrittenIsTheSystemsFault) {
  const TestFolder folder;
  folder.write("a.gz", gzip("text"));
  folder.write("file", "");
  for (const Path& bad : {folder.path / "file", folder.path / std::string(300, 'x')}) {
    ::setenv("XDG_CACHE_HOME", bad.c_str(), 1);
    EXPECT_NE(error_of([&] { unpacked(folder.path / "a.gz", 4); }, Exit::system)
                  .find("XDG_CACHE_HOME names another folder"),
              std::string::npos);
  }
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  ::unsetenv("HOME");
  EXPECT_NE(error_of([&] { unpacked(folder.path / "a.gz", 4); }).find("set XDG_CACHE_HOME"),
            std::string::npos);
}

}  // namespace
}  // namespace nfscale
