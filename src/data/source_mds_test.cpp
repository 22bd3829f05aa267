#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "data/decode.h"
#include "data/mds.h"
#include "data/source.h"
#include "data/testing.h"
#include "data/unpack.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

// tests/data/mds/make.py says what is in these folders.
std::string spec(const std::string& name, const std::string& query = "") {
  return "mds:" + test_data("mds/" + name) + query;
}

void expect_drawn(const Picture& p, uint64_t i, bool gray) {
  ASSERT_EQ(p.width, 5);
  ASSERT_EQ(p.height, 4);
  for (size_t y = 0; y < 4; ++y)
    for (size_t x = 0; x < 5; ++x) {
      const uint8_t* at = p.rgb.data() + 3 * (y * 5 + x);
      const size_t level = 10 * (x + y + i);
      ASSERT_EQ(at[0], gray ? level : 40 * x) << i << " " << x << " " << y;
      ASSERT_EQ(at[1], gray ? level : 50 * y);
      ASSERT_EQ(at[2], gray ? level : 30 * i);
    }
}

TEST(MdsSource, RawPicturesOfAllModes) {
  const UnpackHere cache;
  const auto source = open_source({spec("pil-gz", "?verify=1")});
  ASSERT_EQ(source->size(), 6u);
  for (uint64_t i = 0; i < 6; ++i) {
    const Example e = source->read(i);
    expect_drawn(*e.picture, i, i % 3 == 1);
    EXPECT_EQ(e.label, static_cast<int64_t>(300 * i));
    EXPECT_EQ(e.key, fmt::format("shard.{:05}/{}", i / 3, i % 3));
  }
  EXPECT_EQ(source->read(0).file, test_data("mds/pil-gz/shard.00000.mds.gz"));
}

TEST(MdsSource, EncodedPicturesAndClassesByName) {
  const UnpackHere cache;
  const auto source = open_source({spec("png-zstd", "?label=cls&verify=1")});
  ASSERT_EQ(source->size(), 6u);
  EXPECT_EQ(source->classes(), (std::vector<std::string>{"dog", "cat", "fox"}));
  for (uint64_t i = 0; i < 6; ++i) {
    const Example e = source->read(i);
    expect_drawn(decode(e.bytes).picture, i, false);
    EXPECT_EQ(e.label, (std::vector<int64_t>{1, 0, 2})[i % 3]);
  }
}

TEST(MdsSource, ColumnsAreFoundOrNamed) {
  const UnpackHere cache;
  const auto source = open_source({spec("jpeg")});
  EXPECT_EQ(source->key(5), "-5");
  EXPECT_EQ(source->label(5), 5);
  EXPECT_EQ(open_source({spec("pil-gz", "?key=i")})->key(4), "104");
  EXPECT_EQ(open_source({spec("pil-gz", "?label=i")})->label(4), 104);
  EXPECT_EQ(open_source({spec("png-zstd", "?image=thumbnail")})->read(1).bytes, "x");
  EXPECT_NE(error_of([] { open_source({spec("jpeg", "?label=lable")}); }).find("nearest: label"),
            std::string::npos);
  EXPECT_NE(
      error_of([] { open_source({spec("jpeg", "?image=label")}); }).find("no column that can"),
      std::string::npos);
  EXPECT_NE(error_of([] { open_source({spec("jpeg", "?imgae=x")}); }).find("nearest: image"),
            std::string::npos);
}

TEST(MdsSource, TheSamePicturesAsATarGiveTheSameBytes) {
  const UnpackHere cache;
  const auto tar = open_source({"wds:" + test_data("corrupt/wds/good.tar")});
  const auto plain = open_source({"mds:" + test_data("corrupt/mds/good")});
  const auto packed = open_source({"mds:" + test_data("corrupt/mds/good-zstd?verify=1")});
  for (uint64_t i = 0; i < tar->size(); ++i) {
    EXPECT_EQ(plain->read(i).bytes, tar->read(i).bytes);
    EXPECT_EQ(packed->read(i).bytes, tar->read(i).bytes);
  }
  EXPECT_EQ(plain->key(5), "m5");
  EXPECT_EQ(plain->label(5), 2);
  EXPECT_EQ(packed->fingerprint(), plain->fingerprint());
}

// A shard whose header is rewritten; the offsets move with it.
std::string with_header(std::string shard, const std::string& part, const std::string& other) {
  const size_t at = shard.find(part);
  EXPECT_NE(at, std::string::npos);
  shard.replace(at, part.size(), other);
  const auto samples = static_cast<unsigned char>(shard[0]);
  for (size_t i = 0; i <= samples; ++i) {
    uint32_t offset = 0;
    std::memcpy(&offset, shard.data() + 4 + 4 * i, 4);
    offset += static_cast<uint32_t>(other.size() - part.size());
    std::memcpy(shard.data() + 4 + 4 * i, &offset, 4);
  }
  return shard;
}

void replace_all(std::string& text, const std::string& part, const std::string& other) {
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += other.size())
    text.replace(at, part.size(), other);
}

TEST(MdsSource, APictureMayNameItsQuality) {
  const TestFolder folder;
  const auto good = open_source({spec("jpeg")});
  std::string index = read_file(test_data("mds/jpeg/index.json"));
  replace_all(index, "\"jpeg\"", "\"jpeg:90\"");
  replace_all(index, "4161", "4164");
  folder.write("index.json", index);
  folder.write("shard.00000.mds", with_header(read_file(test_data("mds/jpeg/shard.00000.mds")),
                                              "\"jpeg\"", "\"jpeg:90\""));
  const auto source = open_source({"mds:" + folder.path.string()});
  ASSERT_EQ(source->size(), good->size());
  EXPECT_EQ(source->read(3).bytes, good->read(3).bytes);
}

// As Streaming's merge_index writes it: shards of several writers, each in a folder of its own.
TEST(MdsSource, ShardsOfSeveralFoldersHaveKeysOfTheirOwn) {
  const TestFolder folder;
  std::string index = read_file(test_data("corrupt/mds/good/index.json"));
  replace_all(index, "shard.00000.mds", "0/shard.00000.mds");
  replace_all(index, "shard.00001.mds", "1/shard.00000.mds");
  folder.write("index.json", index);
  for (const char* i : {"0", "1"}) {
    fs::create_directory(folder.path / i);
    fs::copy(test_data(fmt::format("corrupt/mds/good/shard.0000{}.mds", i)),
             folder.path / i / "shard.00000.mds");
  }
  const auto source = open_source({"mds:" + folder.path.string() + "?key="});
  ASSERT_EQ(source->size(), 6u);
  EXPECT_EQ(source->key(0), "0/shard.00000/0");
  EXPECT_EQ(source->key(4), "1/shard.00000/0");
}

TEST(MdsSource, AKeyBeyondItsBitsIsToldAndNoKeyMayBeAskedFor) {
  std::vector<Problem> problems;
  EXPECT_EQ(open_source({spec("jpeg", "?key=")})->key(5), "shard.00000/5");
  const auto source = open_source({spec("jpeg", "?key=id")}, problems);
  ASSERT_EQ(problems.size(), 4u);  // 2^63 and more
  EXPECT_EQ(problems[0].key, "shard.00000/2");
  EXPECT_NE(problems[0].problem.find("the key is beyond"), std::string::npos);
  EXPECT_EQ(source->key(1), "9223372036854775807");
}

TEST(MdsSource, AnyCompressionWillDoWhereTheShardsLieUnpacked) {
  const UnpackHere cache;
  const TestFolder folder;
  const Path packed = test_data("corrupt/mds/good-zstd");
  std::string index = read_file(packed / "index.json");
  replace_all(index, "\"zstd:3\"", "\"br:11\"");
  folder.write("index.json", index);
  const std::string to = "mds:" + folder.path.string();
  for (const auto& shard : parse_mds_index(index, "index")) {
    fs::copy(packed / shard.packed, folder.path / shard.packed);
    EXPECT_NE(error_of([&] { open_source({to}); }).find("br:11 is not read, only zstd and gz"),
              std::string::npos);
    fs::copy(unpacked(packed / shard.packed, shard.bytes), folder.path / shard.name);
  }
  EXPECT_EQ(open_source({to})->fingerprint(),
            open_source({"mds:" + packed.string()})->fingerprint());
}

TEST(MdsSource, NoPlaceToUnpackIsNoDamage) {
  ::setenv("XDG_CACHE_HOME", "", 1);
  ::unsetenv("HOME");
  std::vector<Problem> problems;
  EXPECT_NE(error_of([&] {
              open_source({"mds:" + test_data("corrupt/mds/good-zstd")}, problems);
            }).find("set XDG_CACHE_HOME"),
            std::string::npos);
}

TEST(MdsSource, ADamagedCopyIsNamed) {
  const UnpackHere cache;
  const std::string packed = "mds:" + test_data("corrupt/mds/good-zstd");
  open_source({packed});
  Path copy;
  for (const auto& entry : fs::recursive_directory_iterator(cache.path))
    if (entry.is_regular_file()) copy = entry.path();
  std::string bytes = read_file(copy);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  std::ofstream(copy) << bytes;
  EXPECT_NE(error_of([&] { open_source({packed + "?verify=1"}); }).find(copy.string()),
            std::string::npos);
}

TEST(MdsSource, AnUnpackedShardIsPreferred) {
  const TestFolder folder, nowhere;
  const std::string to = (folder.path / "x").string();
  fs::copy(test_data("corrupt/mds/good"), to);
  fs::remove(folder.path / "x/index.json");
  fs::copy(test_data("corrupt/mds/good-zstd/index.json"), to + "/index.json");
  // Shards of the other set differ in their header, so their size gives them away.
  std::vector<Problem> problems;
  EXPECT_NE(error_of([&] {
              open_source({"mds:" + to}, problems);
            }).find("3597 bytes, index.json says 3601"),
            std::string::npos);
}

class MdsDamage : public testing::Test {
 protected:
  MdsDamage() { fs::copy(test_data("corrupt/mds/good"), folder_.path / "x"); }
  std::string text(const std::string& name) const {
    return read_file(test_data("corrupt/mds/good/" + name));
  }
  std::string message(const std::string& query = "") const {
    return error_of([&] { open_source({"mds:" + (folder_.path / "x").string() + query}); });
  }
  // The index with a part of it replaced, once.
  std::string with(const std::string& part, const std::string& other) {
    std::string index = text("index.json");
    EXPECT_NE(index.find(part), std::string::npos) << part;
    index.replace(index.find(part), part.size(), other);
    folder_.write("x/index.json", index);
    return message();
  }
  TestFolder folder_;
};

TEST_F(MdsDamage, AnIndexThatLiesIsRefused) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"\"shard.00000.mds\"", "\"../x/shard.00000.mds\"", "within the folder"},
      {"\"shard.00000.mds\"", "\"/etc/passwd\"", "within the folder"},
      {"\"shard.00000.mds\"", "\"\"", "within the folder"},
      {"\"shard.00001.mds\"", "\"shard.00000.mds\"", "shards[1]: shard.00000.mds comes twice"},
      {"\"shard.00001.mds\"", "\"./shard.00000.mds\"", "shards[1]: shard.00000.mds comes twice"},
      {"\"version\": 2, \"zip", "\"a\\u001b[31m\\n\": 1, \"a\\u001b[31m\\n\": 2, \"zip",
       "a\\x1b[31m"},
      {"\"shard.00001.mds\"", "\"" + std::string(300, 's') + "\"", "name too long"},
      {"\"shard.00001.mds\"", "\"shard.00007.mds\"", "shard.00007.mds: cannot be read"},
      {"\"version\": 2, \"zip", "\"version\": 1, \"zip", "only mds of version 2"},
      {"\"format\": \"mds\"", "\"format\": \"json\"", "only mds of version 2"},
      {"[null, null, 8]", "[null, null]", "2 column_sizes"},
      {"[null, null, 8]", "[null, null, 4]", "has 4 bytes, expected 8"},
      {"[null, null, 8]", "[null, null, null]", "any number of bytes, expected 8"},
      {"[null, null, 8]", "[-1, null, 8]", "is not a number of 32 bits"},
      {"\"samples\": 4", "\"samples\": -4", "samples: -4 is negative"},
      {"\"samples\": 4", "\"samples\": \"4\"", "shards[0]"},
      {"\"raw_data\"", "\"rawdata\"", "shards[0]"},
      {"3597", "4294967296", "beyond its offsets"},
      {"3597", "3598", "3597 bytes, index.json says 3598"},
      {"\"image\", \"key\"", "\"image\", \"kex\"", "not those of the first shard"},
  };
  for (const auto& [part, other, expected] : cases) {
    const std::string found = with(part, other);
    EXPECT_NE(found.find(expected), std::string::npos) << other << ": " << found;
    EXPECT_EQ(found.find('\n'), std::string::npos);
  }
}

TEST_F(MdsDamage, UnknownChecksumsAreNamed) {
  std::string index = text("index.json");
  replace_all(index, "xxh64", "shake");
  replace_all(index, "sha1", "crc9");
  folder_.write("x/index.json", index);
  EXPECT_EQ(message(), "");
  EXPECT_NE(message("?verify=1").find("no known checksum of it, only crc9, shake"),
            std::string::npos)
      << message("?verify=1");
}

TEST_F(MdsDamage, AnIndexBeyondAllMeasureIsRefused) {
  folder_.write("x/index.json", std::string(size_t{65} << 20, ' '));
  EXPECT_NE(message().find("longer than"), std::string::npos);
}

// A shard cut at every length, and every byte of its head and sizes changed: refused, or read
// without leaving the file.
TEST_F(MdsDamage, AShardCutOrChangedAnywhereIsNeverReadBeyondItsEnd) {
  const auto formats = parse_mds_index(text("index.json"), "index.json");
  const std::string whole = text("shard.00001.mds");
  const auto examine = [&](const std::string& bytes) {
    MdsShard format = formats[1];
    format.bytes = bytes.size();
    const MdsReader reader(format, bytes.size(), [&](uint64_t at, size_t count) {
      return at > bytes.size() ? std::string_view() : std::string_view(bytes).substr(at, count);
    });
    int good = 0;
    for (uint64_t i = 0; !reader.fault() && i < reader.samples(); ++i) {
      const auto sample = reader.sample(i);
      const auto* values = std::get_if<std::vector<MdsReader::Value>>(&sample);
      if (values == nullptr) continue;
      ++good;
      for (const auto& v : *values) EXPECT_LE(v.offset + v.length, bytes.size());
    }
    return good;
  };
  EXPECT_EQ(examine(whole), 2);
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_EQ(examine(whole.substr(0, length)), 0) << length;
  for (size_t i = 0; i < 300; ++i)
    for (const char mask : {'\x01', '\x80', '\xFF'}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ mask);
      examine(changed);
    }
}

TEST(MdsFormat, IntegersOfAllWidths) {
  const auto of = [](const char* encoding, std::string_view bytes) {
    return mds_integer(encoding, bytes);
  };
  using namespace std::string_view_literals;
  EXPECT_EQ(of("uint8", "\xFF"sv), 255);
  EXPECT_EQ(of("int8", "\xFF"sv), -1);
  EXPECT_EQ(of("uint16", "\x01\xFF"sv), 0xFF01);
  EXPECT_EQ(of("int16", "\x01\xFF"sv), -255);
  EXPECT_EQ(of("int32", "\0\0\0\x80"sv), INT32_MIN);
  EXPECT_EQ(of("uint32", "\0\0\0\x80"sv), int64_t{1} << 31);
  EXPECT_EQ(of("int", "\0\0\0\0\0\0\0\x80"sv), INT64_MIN);
  EXPECT_EQ(of("uint64", "\0\0\0\0\0\0\0\x80"sv), std::nullopt);
  EXPECT_EQ(of("int", "\0\0\0\0"sv), std::nullopt);
  EXPECT_EQ(of("float32", "\0\0\0\0"sv), std::nullopt);
}

TEST(MdsFormat, ARawPictureMustHaveItsPixels) {
  const auto pil = [](uint32_t w, uint32_t h, const std::string& mode, size_t pixels) {
    std::string bytes;
    for (const uint32_t n : {w, h, static_cast<uint32_t>(mode.size())})
      for (int k = 0; k < 4; ++k) bytes += static_cast<char>(n >> (8 * k));
    return bytes + mode + std::string(pixels, 'p');
  };
  const auto fault = [](const std::string& bytes, uint64_t length) {
    return mds_pil_fault(std::string_view(bytes).substr(0, kMdsPilHead), length);
  };
  EXPECT_EQ(fault(pil(2, 3, "RGB", 18), 33), "");
  EXPECT_NE(fault(pil(2, 3, "RGB", 17), 32).find("truncated"), std::string::npos);
  EXPECT_NE(fault(pil(2, 3, "P", 6), 19).find("mode \"P\""), std::string::npos);
  EXPECT_NE(fault(pil(2, 3, "RGBX;16L", 6), 26).find("unsupported"), std::string::npos);
  EXPECT_NE(fault(pil(0, 3, "L", 0), 13).find("bad-header"), std::string::npos);
  EXPECT_NE(fault(pil(UINT32_MAX, UINT32_MAX, "RGB", 3), 18).find("too-large"), std::string::npos);
  EXPECT_NE(fault("short", 5).find("bad-header"), std::string::npos);
}

}  // namespace
}  // namespace nfscale
