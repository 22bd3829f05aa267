#include <gtest/gtest.h>

#include "data/source.h"
#include "data/testing.h"

namespace nfscale {
namespace {

namespace fs = std::filesystem;

const std::string kGood = test_data("corrupt/idx/good");

TEST(IdxSource, PicturesAreTheBytesOfTheFileAndLabelsBesideThem) {
  const auto source = open_source({"idx:" + kGood});
  const std::string bytes = read_file(kGood + "/train-images-idx3-ubyte");
  ASSERT_EQ(source->size(), 5u);
  for (uint64_t i = 0; i < 5; ++i) {
    const Example e = source->read(i);
    EXPECT_EQ(e.label, static_cast<int64_t>(i));
    EXPECT_EQ(e.key, fmt::format("train/{}", i));
    ASSERT_EQ(e.picture->width, 28);
    ASSERT_EQ(e.picture->height, 28);
    for (size_t k = 0; k < e.picture->rgb.size(); ++k)
      ASSERT_EQ(e.picture->rgb[k], static_cast<uint8_t>(bytes[16 + 784 * i + k / 3]));
  }
}

TEST(IdxSource, RowsAreTheSecondSizeAndColumnsTheThird) {
  const TestFolder folder;
  folder.write("t10k-images.idx3-ubyte",
               std::string("\0\0\x08\x03\0\0\0\1\0\0\0\2\0\0\0\3abcdef", 22));
  folder.write("t10k-labels.idx1-ubyte", std::string("\0\0\x08\x01\0\0\0\1\7", 9));
  const auto source = open_source({"idx:" + folder.path.string() + "?split=test"});
  const Example e = source->read(0);
  EXPECT_EQ(e.picture->height, 2);
  EXPECT_EQ(e.picture->width, 3);
  EXPECT_EQ(e.picture->rgb[3 * 3], 'd');  // the first of the second row
  EXPECT_EQ(e.key, "t10k/0");
  EXPECT_EQ(source->classes().size(), 8u);
}

TEST(IdxSource, CompressedFilesAreTheSameData) {
  const UnpackHere cache;
  const auto plain = open_source({"idx:" + kGood});
  const auto packed = open_source({"idx:" + test_data("corrupt/idx/good-gz")});
  EXPECT_EQ(packed->fingerprint(), plain->fingerprint());
  for (uint64_t i = 0; i < plain->size(); ++i)
    EXPECT_EQ(packed->read(i).picture->rgb, plain->read(i).picture->rgb);
  // Messages name the file of the user.
  EXPECT_EQ(packed->read(0).file, test_data("corrupt/idx/good-gz/train-images-idx3-ubyte.gz"));
}

TEST(IdxSource, NamesOfClassesComeFromAListAndBoundTheLabels) {
  const TestFolder folder;
  fs::copy(kGood, folder.path / "mnist");
  folder.write("names.txt", "zero\none\ntwo\n");
  const std::string spec = "idx:" + (folder.path / "mnist").string();
  std::vector<Problem> problems;
  const auto source =
      open_source({spec + "?classes=" + (folder.path / "names.txt").string()}, problems);
  EXPECT_EQ(source->classes(), (std::vector<std::string>{"zero", "one", "two"}));
  EXPECT_EQ(source->size(), 3u);
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_NE(problems[0].text().find("train/3 at byte 11: the label 3 is not in 0 .. 2"),
            std::string::npos)
      << problems[0].text();
  folder.write("mnist/classes.txt", "a\nb\nc\nd\ne\n");
  EXPECT_EQ(open_source({spec})->classes()[4], "e");
}

// Every byte of the two headers raised by one, and every length of a file cut in its header.
TEST(IdxSource, ADamagedHeaderIsRefused) {
  const TestFolder folder;
  for (const auto& [name, header] :
       {std::pair{"train-images-idx3-ubyte", 16}, std::pair{"train-labels-idx1-ubyte", 8}}) {
    fs::remove_all(folder.path / "x");
    fs::copy(kGood, folder.path / "x");
    fs::permissions(folder.path / "x" / name, fs::perms::owner_write, fs::perm_options::add);
    const std::string bytes = read_file(kGood + "/" + name);
    for (int i = 0; i < header; ++i) {
      std::string damaged = bytes;
      damaged[static_cast<size_t>(i)] = static_cast<char>(damaged[static_cast<size_t>(i)] + 1);
      for (const std::string& text : {damaged, bytes.substr(0, static_cast<size_t>(i))}) {
        folder.write(fmt::format("x/{}", name), text);
        const std::string message =
            error_of([&] { open_source({"idx:" + (folder.path / "x").string()}); });
        EXPECT_NE(message.find(name), std::string::npos) << i << " " << message;
      }
    }
  }
}

}  // namespace
}  // namespace nfscale
