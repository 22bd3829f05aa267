#include "data/resize.h"

#include <gtest/gtest.h>

#include "data/augment.h"
#include "data/decode.h"
#include "data/tar.h"
#include "data/testing.h"

namespace nfscale {
namespace {

// "FILE" or "TAR:MEMBER" below the test data.
std::string source_bytes(const std::string& source) {
  const size_t colon = source.find(':');
  const std::string file = read_file(test_data(source.substr(0, colon)));
  if (colon == std::string::npos) return file;
  TarReader tar(file.size(),
                [&](uint64_t at, size_t n) { return std::string_view(file).substr(at, n); });
  while (const auto member = tar.next())
    if (member->name == source.substr(colon + 1)) return file.substr(member->offset, member->size);
  ADD_FAILURE() << source << " is not there";
  return "";
}

TEST(Resize, GoldenTransformsBitForBit) {
  std::string source;
  Picture picture;
  int seen = 0;
  for (auto& row : test_csv("golden-transforms/cases.csv")) {
    if (row["source"] != source) {
      source = row["source"];
      Decoded decoded = decode(source_bytes(source));
      ASSERT_EQ(decoded.broken, "") << source;
      picture = std::move(decoded.picture);
    }
    ++seen;
    const Filter filter = row["filter"] == "bilinear" ? Filter::bilinear : Filter::bicubic;
    const int64_t size = row["size"].empty() ? 0 : std::stoll(row["size"]);
    Picture out;
    if (row["op"] == "decode")
      out = picture;
    else if (row["op"] == "center")
      out = evaluation_crop(picture, "pct:0.875", size);
    else if (row["op"] == "crop")
      out = resize(
          picture,
          {std::stoll(row["x"]), std::stoll(row["y"]), std::stoll(row["w"]), std::stoll(row["h"])},
          size, size, filter);
    else
      out = resize(picture, {0, 0, picture.width, picture.height}, size, size, filter);
    EXPECT_EQ(out.width, std::stoll(row["out_width"]));
    EXPECT_EQ(sha256(out.rgb), row["sha256_rgb"])
        << source << " " << row["op"] << " " << row["size"] << " " << row["filter"];
  }
  EXPECT_EQ(seen, 217);
}

TEST(Resize, APartEqualsThatPartOfTheWhole) {
  Picture p(37, 23);
  for (size_t i = 0; i < p.rgb.size(); ++i) p.rgb[i] = static_cast<uint8_t>(i * 7919 >> 3);
  for (const auto& [w, h] : {std::pair{50, 9}, {37, 40}, {11, 23}, {37, 23}}) {
    const Box box = {0, 0, 37, 23};
    const Picture whole = resize(p, box, w, h);
    for (const Box part : {Box{0, 0, 5, 5}, Box{3, 2, 7, 6}, Box{w - 4, h - 3, 4, 3}}) {
      const Picture out = resize_part(p, box, w, h, part);
      for (int64_t y = 0; y < part.height; ++y)
        for (int64_t x = 0; x < 3 * part.width; ++x)
          ASSERT_EQ(out.rgb[static_cast<size_t>(y * 3 * part.width + x)],
                    whole.rgb[static_cast<size_t>((part.y + y) * 3 * w + 3 * part.x + x)]);
    }
  }
}

}  // namespace
}  // namespace nfscale
