#include "data/decode.h"

#include <gtest/gtest.h>

#include "data/testing.h"

namespace nfscale {
namespace {

Decoded decode_file(const std::string& name, const DecodeOptions& options = {}) {
  return decode(read_file(test_data("corrupt/" + name)), options);
}

TEST(Decode, UnusualAndDamagedPicturesEndAsExpected) {
  int seen = 0;
  for (auto& row : test_csv("corrupt/expected.csv")) {
    if (row["kind"] != "image") continue;
    ++seen;
    const Decoded d = decode_file(row["file"]);
    if (row["expected"] == "decodes") {
      EXPECT_EQ(d.broken, "") << row["file"];
      EXPECT_EQ(fmt::format("{}x{}", d.picture.width, d.picture.height), row["size"])
          << row["file"];
      EXPECT_EQ(sha256(d.picture.rgb), row["sha256_rgb"]) << row["file"];
    } else if (row["expected"] != "any") {
      EXPECT_TRUE(d.broken.starts_with(row["expected"].substr(7)))
          << row["file"] << ": " << d.broken;
      EXPECT_TRUE(d.picture.rgb.empty());
    }
  }
  EXPECT_EQ(seen, 58);
}

// python-pillow/Pillow#2717: one rule for pictures with a missing part, so that no gray or black
// filler is trained on.
TEST(Decode, C09TruncatedProgressiveIsBrokenWhereverItIsCut) {
  const std::string whole = read_file(test_data("corrupt/image/progressive.jpg"));
  EXPECT_EQ(decode(whole).broken, "");
  EXPECT_EQ(decode(whole.substr(0, whole.size() - 2)).broken, "")
      << "only the end marker is missing";
  for (size_t size = 0; size + 16 < whole.size(); ++size)
    ASSERT_NE(decode(whole.substr(0, size)).broken, "") << size;
}

TEST(Decode, C09TruncatedBaselineIsBrokenWhereverItIsCut) {
  const std::string whole = read_file(test_data("corrupt/image/baseline.jpg"));
  EXPECT_EQ(decode(whole.substr(0, whole.size() - 2)).broken, "");
  for (size_t size = 0; size + 16 < whole.size(); ++size)
    ASSERT_NE(decode(whole.substr(0, size)).broken, "") << size;
}

TEST(Decode, C09RubbishBeforeTheEndMarkerIsNoDamage) {
  std::string whole = read_file(test_data("corrupt/image/baseline.jpg"));
  whole.insert(whole.size() - 2, std::string(100, 'x'));
  EXPECT_EQ(decode(whole).broken, "");
}

TEST(Decode, C09RestartMarkersOutOfOrderAreDamage) {
  std::string whole = read_file(test_data("corrupt/image/restart.jpg"));
  for (size_t i = 0; i + 1 < whole.size(); ++i)
    if (whole[i] == '\xFF' && whole[i + 1] == '\xD1') whole[i + 1] = '\xD5';
  EXPECT_TRUE(decode(whole).broken.starts_with("bad-data")) << decode(whole).broken;
}

// pytorch/vision#7977: applied by default, left alone if told so; a damaged block never fails a
// picture.
TEST(Decode, C11OrientationIsAppliedUnlessIgnored) {
  DecodeOptions ignore;
  ignore.exif = false;
  const Decoded plain = decode_file("image/exif-1.jpg");
  for (int i = 1; i <= 8; ++i) {
    const std::string name = fmt::format("image/exif-{}.jpg", i);
    EXPECT_EQ(decode_file(name, ignore).picture.rgb, plain.picture.rgb);
    EXPECT_EQ(decode_file(name).picture.rgb, turned(plain.picture, i).rgb);
  }
}

TEST(Decode, C11DamagedOrientationCountsAsNone) {
  const std::string good("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0", 22);
  EXPECT_EQ(exif_orientation(good), 6);
  for (size_t size = 0; size < 20; ++size) EXPECT_EQ(exif_orientation(good.substr(0, size)), 1);
  for (const size_t at : {0u, 4u, 12u, 17u}) {
    std::string bad = good;
    bad[at] = '\x7F';
    EXPECT_EQ(exif_orientation(bad), 1) << at;
  }
}

TEST(Decode, LimitsAreCheckedOnTheHeader) {
  DecodeOptions tight;
  tight.max_pixels = 64 * 48 - 1;
  for (const char* name : {"baseline.jpg", "rgba.png", "lossy.webp"})
    EXPECT_TRUE(decode_file(std::string("image/") + name, tight).broken.starts_with("too-large"));
  tight = {};
  tight.max_bytes = 100;
  EXPECT_TRUE(decode_file("image/baseline.jpg", tight).broken.starts_with("too-large"));
}

TEST(Decode, PngAndWebpAreBrokenWhereverTheyAreCut) {
  for (const char* name : {"rgba.png", "interlaced.png", "lossy.webp", "lossless.webp"}) {
    const std::string whole = read_file(test_data(std::string("corrupt/image/") + name));
    for (size_t size = 0; size + 16 < whole.size(); ++size)
      ASSERT_NE(decode(whole.substr(0, size)).broken, "") << name << " " << size;
  }
}

TEST(Decode, TurningTwiceTheOtherWayGivesThePictureBack) {
  Picture p(3, 2);
  for (size_t i = 0; i < p.rgb.size(); ++i) p.rgb[i] = static_cast<uint8_t>(i);
  for (const int self_inverse : {1, 2, 3, 4, 5, 7})
    EXPECT_EQ(turned(turned(p, self_inverse), self_inverse).rgb, p.rgb) << self_inverse;
  EXPECT_EQ(turned(turned(p, 6), 8).rgb, p.rgb);
}

}  // namespace
}  // namespace nfscale
