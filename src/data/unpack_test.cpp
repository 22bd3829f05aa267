#include "data/unpack.h"

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

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
  std::string unpack(const std::string& packed, uint64_t most = UINT64_MAX) const {
    folder_.write("file.packed", packed);
    return read_file(unpacked(folder_.path / "file.packed", most));
  }
  UnpackHere cache_;
  TestFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(, Unpack, testing::Values(gzip, zstd),
                         [](const auto& i) { return i.index == 0 ? "gzip" : "zstd"; });

TEST_P(Unpack, ContentComesBackWhole) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1} << 17, (size_t{1} << 17) - 1,
                            (size_t{1} << 18) + 1, size_t{3'000'000}}) {
    EXPECT_EQ(unpack(pack(content(size))), content(size)) << size;
    EXPECT_EQ(unpack(pack(std::string(size, 'x'))), std::string(size, 'x')) << size;
  }
}

TEST_P(Unpack, FilesOneAfterAnotherAreOne) {
  EXPECT_EQ(unpack(pack(content(200'000)) + pack("end")), content(200'000) + "end");
}

TEST_P(Unpack, ADamagedFileIsRefusedAndLeavesNothing) {
  const std::string packed = pack(content(300'000));
  for (const size_t length : {size_t{5}, packed.size() / 2, packed.size() - 1})
    EXPECT_NE(error_of([&] { unpack(packed.substr(0, length)); }).find("file.packed: cannot be"),
              std::string::npos)
        << length;
  std::string flipped = packed;
  flipped[packed.size() / 2] = static_cast<char>(flipped[packed.size() / 2] ^ 0x55);
  EXPECT_NE(error_of([&] { unpack(flipped); }).find("cannot be unpacked"), std::string::npos);
  EXPECT_NE(error_of([&] { unpack(packed, 299'999); }).find("more than the 299999 bytes"),
            std::string::npos);
  for (const auto& file : fs::recursive_directory_iterator(cache_.path))
    EXPECT_FALSE(file.is_regular_file()) << file.path();
}

TEST_P(Unpack, TheSameFileIsUnpackedOnceAndAChangedOneAnew) {
  folder_.write("a.gz", pack("one"));
  const Path first = unpacked(folder_.path / "a.gz", 100);
  const auto made = fs::last_write_time(first);
  EXPECT_EQ(unpacked(folder_.path / "a.gz", 100), first);
  EXPECT_EQ(fs::last_write_time(first), made);
  folder_.write("a.gz", pack("other"));
  EXPECT_EQ(read_file(unpacked(folder_.path / "a.gz", 100)), "other");
  fs::remove_all(cache_.path);
  EXPECT_EQ(read_file(unpacked(folder_.path / "a.gz", 100)), "other");
}

// Times are coarse: a script may write a file twice within one tick of them.
TEST_P(Unpack, AFileOfTheSameSizeAndTimeIsNotTakenForTheOther) {
  const std::string one = pack("one"), two = pack("two");
  ASSERT_EQ(one.size(), two.size());
  const Path file = folder_.path / "a.gz";
  folder_.write("a.gz", one);
  const auto written = fs::last_write_time(file);
  EXPECT_EQ(read_file(unpacked(file, 100)), "one");
  folder_.write("a.gz", two);
  fs::last_write_time(file, written);
  EXPECT_EQ(read_file(unpacked(file, 100)), "two");
}

TEST_P(Unpack, APrefixNeedsNoMoreThanItself) {
  const std::string packed = pack(content(1'000'000));
  folder_.write("a.gz", packed.substr(0, packed.size() - 10));
  EXPECT_EQ(unpacked_prefix(folder_.path / "a.gz", 16), content(16));
  folder_.write("b.gz", pack("short"));
  EXPECT_EQ(unpacked_prefix(folder_.path / "b.gz", 16), "short");
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
  ::setenv("XDG_CACHE_HOME", (folder.path / "file").c_str(), 1);
  EXPECT_NE(error_of([&] { unpacked(folder.path / "a.gz", 100); }, Exit::system)
                .find("XDG_CACHE_HOME names another folder"),
            std::string::npos);
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  ::unsetenv("HOME");
  EXPECT_NE(error_of([&] { unpacked(folder.path / "a.gz", 100); }).find("set XDG_CACHE_HOME"),
            std::string::npos);
}

}  // namespace
}  // namespace nfscale
