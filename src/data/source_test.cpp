#include "data/source.h"

#include <gtest/gtest.h>
#include <fstream>

#include "base/testing.h"
#include "data/decode.h"
#include "data/spec.h"
#include "data/testing.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

struct Scratch : TestFolder {
  std::string file(const std::string& name, std::string_view bytes) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
};

std::string picture() {
  return read_file(test_data("corrupt/image/baseline.jpg"));
}

std::string tar(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out;
  for (const auto& [name, bytes] : members) {
    std::string block(512, '\0');
    block.replace(0, name.size(), name);
    block.replace(100, 7, "0000644");
    block.replace(124, 11, fmt::format("{:011o}", bytes.size()));
    block.replace(148, 8, "        ");
    block[156] = '0';
    block.replace(257, 8, std::string("ustar\00000", 8));
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    block.replace(148, 7, fmt::format("{:06o}", sum) + std::string(1, '\0'));
    out += block + bytes;
    out.resize((out.size() + 511) / 512 * 512);
  }
  return out + std::string(1024, '\0');
}

std::vector<std::string> keys(const Source& source) {
  std::vector<std::string> all;
  for (uint64_t i = 0; i < source.size(); ++i) all.push_back(source.key(i));
  return all;
}

TEST(Source, DamagedAndUnusualSourcesEndAsExpected) {
  const UnpackHere cache;
  int seen = 0;
  for (auto& row : test_csv("corrupt/expected.csv")) {
    const std::string kind = row["kind"], file = row["file"], expected = row["expected"];
    if (kind == "image") continue;
    ++seen;
    std::string spec = kind + ":" + test_data("corrupt/" + file);
    if (file == "wds/json-label.tar") spec += "?label=json:label";
    if (file == "mds/bad-hash") spec += "?verify=1";
    if (file == "mds/bad-offset") spec += "?verify=0";
    if (file == "wds/label-out-of-range.tar") {
      EXPECT_EQ(open_source({spec + "?label=cls"})->classes().size(), 1000001u);
      spec += "?classes=" + test_data("corrupt/cifar/good/batches.meta.txt");
    }
    if (std::isdigit(static_cast<unsigned char>(expected[0])) && expected[0] != '0' &&
        expected.find("or") == std::string::npos) {
      const auto source = open_source({spec});
      EXPECT_EQ(source->size(), std::stoull(expected)) << file;
      int broken = 0;
      for (uint64_t i = 0; i < source->size(); ++i) {
        const Example e = source->read(i);
        broken += !e.picture && !decode(e.bytes).broken.empty();
      }
      const size_t comma = expected.find(", ");
      const bool counts = expected.find("broken") != std::string::npos;
      EXPECT_EQ(broken, counts ? std::stoi(expected.substr(comma + 2)) : 0) << file;
    } else {
      const std::string message = error_of([&] { open_source({spec}); });
      EXPECT_NE(message.find(file.substr(file.find('/') + 1)), std::string::npos)
          << file << ": " << message;
      EXPECT_EQ(message.find('\n'), std::string::npos);
    }
  }
  EXPECT_EQ(seen, 47);
}

TEST(Source, AnEmptyShardBesideAGoodOneIsNoError) {
  EXPECT_EQ(open_source({"wds:" + test_data("corrupt/wds/{empty,good}.tar")})->size(), 4u);
}

TEST(Source, RefusalsNameMemberAndPlace) {
  const auto message = [](const std::string& name) {
    return error_of([&] { open_source({"wds:" + test_data("corrupt/wds/" + name)}); });
  };
  EXPECT_NE(message("hard-link.tar").find("b.jpg at byte"), std::string::npos);
  EXPECT_NE(message("gnu-sparse.tar").find("s0.jpg at byte 0"), std::string::npos);
  EXPECT_NE(message("gzipped.tar").find("unpack"), std::string::npos);
  const std::string twice = message("duplicate-key.tar");
  EXPECT_NE(twice.find("s0 at byte"), std::string::npos) << twice;
  EXPECT_NE(twice.find("first at byte 0"), std::string::npos) << twice;
}

TEST(Source, ASizeBeyondTheFileIsRefusedWithoutAllocatingIt) {
  const Scratch scratch;
  std::string bytes = tar({{"1.jpg", picture()}, {"1.cls", "1"}});
  bytes.replace(124, 12, std::string("\x80\0\0\0\0\0\x01\0\0\0\0\0", 12));  // 2^40 in base 256
  bytes.replace(148, 8, "        ");
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(bytes[i]);
  bytes.replace(148, 7, fmt::format("{:06o}", sum) + std::string(1, '\0'));
  const std::string path = scratch.file("a.tar", bytes);
  EXPECT_NE(
      error_of([&] { open_source({"wds:" + path}); }).find("1099511627776 bytes are declared"),
      std::string::npos);
}

TEST(Source, JoinedArchivesAreRefusedNotCutShort) {
  const Scratch scratch;
  const std::string one = tar({{"1.jpg", picture()}, {"1.cls", "1"}});
  const std::string path = scratch.file("a.tar", one + tar({{"2.jpg", picture()}, {"2.cls", "1"}}));
  EXPECT_NE(error_of([&] { open_source({"wds:" + path}); }).find("another archive"),
            std::string::npos);
}

TEST(Source, KeysAreBytes) {
  const auto source = open_source({"wds:" + test_data("corrupt/wds/non-utf8-name.tar")});
  EXPECT_EQ(source->key(0), "bad-\xFF\xFE");
  EXPECT_EQ(open_source({"wds:" + test_data("corrupt/wds/dots-in-name.tar")})->key(0), "dir.v2/a");
}

TEST(Source, C01ADotInANameLosesNothing) {
  const Scratch scratch;
  const std::string path = scratch.file("a.tar", tar({{"235 v2.0 (x).jpg", picture()},
                                                      {"235 v2.0 (x).cls", "3"},
                                                      {"236.jpg", picture()},
                                                      {"236.cls", "4"}}));
  const std::string message = error_of([&] { open_source({"wds:" + path}); });
  EXPECT_NE(message.find("235 v2 at byte 0"), std::string::npos) << message;
  EXPECT_NE(message.find("0 (x)."), std::string::npos) << message;
}

TEST(Source, C03RepeatedAndPartedKeysAreRefused) {
  const Scratch scratch;
  const std::string p = picture();
  using Members = std::vector<std::pair<std::string, std::string>>;
  for (const Members& members :
       {Members{{"1.jpg", p}, {"1.cls", "1"}, {"2.cls", "1"}, {"2.jpg", p}, {"1.jpg", p}},
        Members{{"1.jpg", p}, {"1.jpg", p}, {"1.cls", "1"}},
        Members{{"1.jpg", p}, {"2.jpg", p}, {"1.cls", "1"}, {"2.cls", "1"}}}) {
    const std::string path = scratch.file("a.tar", tar(members));
    EXPECT_NE(error_of([&] { open_source({"wds:" + path}); }).find("a.tar: 1 at byte"),
              std::string::npos);
  }
}

TEST(Source, C03ProblemsAreListedBesideWhatIsGood) {
  const Scratch scratch;
  const std::string p = picture();
  const std::string path = scratch.file(
      "a.tar", tar({{"1.jpg", p}, {"1.jpg", p}, {"1.cls", "1"}, {"2.jpg", p}, {"2.cls", "0"}}));
  std::vector<Problem> problems;
  const auto source = open_source({"wds:" + path}, problems);
  EXPECT_EQ(keys(*source), std::vector<std::string>{"2"});
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].key, "1");
  EXPECT_GT(problems[0].offset, 0u);
}

TEST(Source, C03TheSameKeyInTwoShardsIsTwoExamples) {
  const Scratch scratch;
  scratch.file("x.tar", tar({{"1.jpg", picture()}, {"1.cls", "1"}}));
  scratch.file("y.tar", tar({{"1.jpg", picture()}, {"1.cls", "1"}}));
  const auto source = open_source({"wds:" + (scratch.path / "*.tar").string()});
  EXPECT_EQ(source->size(), 2u);
  EXPECT_NE(source->read(0).file, source->read(1).file);
}

TEST(Source, C05MetadataOfAnotherSystemIsIgnored) {
  const Scratch scratch;
  const std::string path = scratch.file("a.tar", tar({{"a/._0001.jpg", "\x05\x16\x07"},
                                                      {"a/0001.jpg", picture()},
                                                      {"a/._0001.cls", "x"},
                                                      {"a/0001.cls", "1"},
                                                      {"__MACOSX/x", "x"},
                                                      {".DS_Store", "x"}}));
  EXPECT_EQ(keys(*open_source({"wds:" + path})), std::vector<std::string>{"a/0001"});
}

TEST(Source, C13ClassesHaveTheOrderOfTheirBytes) {
  const Scratch scratch;
  for (const char* name : {"1", "2", "10"}) scratch.file(fmt::format("{}/a.jpg", name), picture());
  const auto source = open_source({"folder:" + scratch.path.string()});
  EXPECT_EQ(source->classes(), (std::vector<std::string>{"1", "10", "2"}));
  EXPECT_EQ(match_classes(*source, {"10", "2", "x", "1"}), (std::vector<int64_t>{3, 0, 1}));
  const std::string message = error_of([&] { match_classes(*source, {"1", "10"}); });
  EXPECT_NE(message.find("the class 2 of the data"), std::string::npos) << message;
}

TEST(Source, C15AnEmptyClassKeepsItsNumberAndIsRefusedInTraining) {
  const Scratch scratch;
  scratch.file("a/1.jpg", picture());
  scratch.file("c/1.jpg", picture());
  const auto without = open_source({"folder:" + scratch.path.string()});
  fs::create_directories(scratch.path / "b");
  const auto with = open_source({"folder:" + scratch.path.string()});
  EXPECT_EQ(match_classes(*with, {"a", "b", "c"})[static_cast<size_t>(with->label(1))], 2);
  EXPECT_EQ(match_classes(*without, {"a", "b", "c"})[static_cast<size_t>(without->label(1))], 2);
  require_training_set(*without);
  EXPECT_NE(error_of([&] { require_training_set(*with); }).find("the class b"), std::string::npos);
  require_training_set(*open_source({"folder:" + scratch.path.string() + "?allow_empty=1"}));
}

TEST(Source, C17LinksAreFollowedOnce) {
  const Scratch scratch;
  for (const char* label : {"a", "b"})
    for (int i = 0; i < 3; ++i) scratch.file(fmt::format("D/{}/{}.jpg", label, i), picture());
  for (int i = 0; i < 2; ++i) scratch.file(fmt::format("other/c/{}.jpg", i), picture());
  fs::create_symlink("..", scratch.path / "D/b/up");
  fs::create_symlink("../b", scratch.path / "D/a/aside");
  fs::create_symlink("../other/c", scratch.path / "D/c");
  fs::create_symlink("nowhere.jpg", scratch.path / "D/a/gone.jpg");
  for (int i = 0; i < 2; ++i) {
    const auto source = open_source({"folder:" + (scratch.path / "D").string()});
    EXPECT_EQ(source->size(), 8u);
    EXPECT_EQ(source->classes(), (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(source->read(7).bytes, picture());
  }
}

TEST(Source, DataMayMoveWithoutBecomingOtherData) {
  const Scratch scratch;
  const std::string folder = test_data("folder-mini/test");
  fs::copy(folder, scratch.path / "moved", fs::copy_options::recursive);
  const auto here = open_source({"folder:" + folder});
  const auto moved = open_source({"folder:" + (scratch.path / "moved").string()});
  EXPECT_EQ(here->fingerprint(), moved->fingerprint());
  EXPECT_EQ(here->size(), 48u);
  fs::remove(scratch.path / "moved/hat/03.jpg");
  EXPECT_NE(open_source({"folder:" + (scratch.path / "moved").string()})->fingerprint(),
            here->fingerprint());
}

TEST(Source, AFileThatChangesWhileItIsUsedIsAnError) {
  const Scratch scratch;
  const std::string path = scratch.file("a.tar", tar({{"1.jpg", picture()}, {"1.cls", "1"}}));
  const auto source = open_source({"wds:" + path});
  EXPECT_EQ(source->read(0).bytes, picture());
  scratch.file("a.tar", tar({{"0.jpg", "x"}, {"0.cls", "1"}}));
  EXPECT_NE(error_of([&] { source->read(0); }).find("has changed"), std::string::npos);
}

TEST(Source, TheTwoSidesOfASplitAreTheWholeSet) {
  const std::string spec = "wds:" + test_data("photos-wds/photos-000.tar");
  const auto all = open_source({spec});
  const auto train = open_source({spec + "?split=train&share=0.3"});
  const auto heldout = open_source({spec + "?split=heldout&share=0.3"});
  std::vector<std::string> joined = keys(*train);
  for (const std::string& key : keys(*heldout)) joined.push_back(key);
  std::sort(joined.begin(), joined.end());
  EXPECT_EQ(joined, keys(*all));
  EXPECT_GT(heldout->size(), 4u);
  EXPECT_LT(heldout->size(), 25u);
  EXPECT_EQ(train->classes(), all->classes());
}

TEST(Source, SeveralSpecificationsAreOneSet) {
  const std::string train = "folder:" + test_data("folder-mini/train");
  const std::string test = "folder:" + test_data("folder-mini/test");
  const auto both = open_source({train, test});
  EXPECT_EQ(both->size(), 192u);
  EXPECT_EQ(both->key(144), open_source({test})->key(0));
  EXPECT_EQ(both->label(191), 5);
  EXPECT_NE(error_of([&] {
              open_source({train, "cifar:" + test_data("corrupt/cifar/good")});
            }).find("different classes"),
            std::string::npos);
}

TEST(Source, CifarGivesTheSamePixelsAsThePicturesItWasMadeOf) {
  const auto source = open_source({"cifar:" + test_data("corrupt/cifar/good")});
  const std::string bytes = read_file(test_data("corrupt/cifar/good/data_batch_1.bin"));
  const Example e = source->read(3);
  EXPECT_EQ(e.key, "data_batch_1/3");
  EXPECT_EQ(source->classes()[static_cast<size_t>(e.label)], "cat");
  const size_t record = 3 * 3073 + 1, pixel = 5 * 32 + 7;
  for (size_t k = 0; k < 3; ++k)
    EXPECT_EQ(e.picture->rgb[3 * pixel + k],
              static_cast<uint8_t>(bytes[record + k * 1024 + pixel]));
  EXPECT_EQ(open_source({"cifar:" + test_data("corrupt/cifar/good?split=test")})->size(), 2u);
}

TEST(Source, BracesAndListsExpandInOrder) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(expand_braces("a{08..11}.tar"), (Names{"a08.tar", "a09.tar", "a10.tar", "a11.tar"}));
  EXPECT_EQ(expand_braces("{a,b}{0..1}"), (Names{"a0", "a1", "b0", "b1"}));
  EXPECT_EQ(expand_braces("{x}{1..0}{"), (Names{"{x}{1..0}{"}));
  error_of([] { expand_braces("{0..999999999}"); });
  const Scratch scratch;
  const std::string list = scratch.file("list.txt", "b.tar\r\n\na.tar\n");
  EXPECT_EQ(expand_paths("@" + list), (Names{"b.tar", "a.tar"}));
}

TEST(Source, APathThatCannotBeLookedAtIsRefusedByName) {
  const std::string path = "/tmp/" + std::string(300, 'x');
  for (const std::string scheme : {"wds", "folder", "mds", "idx", "cifar"})
    for (const std::string& whole : {path, path + "/[a]"})
      EXPECT_NE(error_of([&] { open_source({scheme + ":" + whole}); }).find("xxx"),
                std::string::npos)
          << scheme;
}

TEST(Source, UnknownSchemesAndKeysNameTheNearest) {
  EXPECT_NE(error_of([] { open_source({"tfds:data"}); }).find("tfds is not a scheme"),
            std::string::npos);
  EXPECT_NE(error_of([] { open_source({"fodler:data"}); }).find("nearest: folder:"),
            std::string::npos);
  EXPECT_NE(error_of([] { open_source({"wds:/nowhere/a.tar"}); }).find("/nowhere/a.tar"),
            std::string::npos);
  EXPECT_NE(error_of([] { open_source({"folder:/nowhere"}); }).find("/nowhere"), std::string::npos);
  EXPECT_NE(error_of([] { open_source({"wds:a.tar?clases=x"}); }).find("nearest: classes"),
            std::string::npos);
}

}  // namespace
}  // namespace nfscale
