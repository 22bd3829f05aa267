#include "data/shapes.h"

#include <gtest/gtest.h>

#include "data/source.h"
#include "data/testing.h"

namespace nfscale {
namespace {

ShapesOptions options_of(const Json& v) {
  return {.classes = v.at("classes").as_int(),
          .size = v.at("size").as_int(),
          .clutter = v.at("clutter").as_int(),
          .noise = v.at("noise").as_double(),
          .seed = number_of(v.at("seed"))};
}

TEST(Shapes, PicturesOfTheVectors) {
  const Json vectors = test_json("shapes_vectors.json");
  for (const Json& v : vectors.at("picture").items()) {
    const ShapesOptions o = options_of(v);
    const uint64_t example = number_of(v.at("example"));
    EXPECT_EQ(shapes_label(o, example).label, v.at("label").as_int());
    EXPECT_EQ(shapes_label(o, example).true_class, v.at("class").as_int());
    EXPECT_EQ(sha256(draw_shapes(o, example).rgb), v.at("sha256").as_string()) << v.dump();
  }
}

TEST(Shapes, RangesOfTheVectors) {
  const Json vectors = test_json("shapes_vectors.json");
  for (const Json& v : vectors.at("range").items()) {
    const ShapesOptions o = options_of(v);
    std::vector<uint8_t> pictures, labels;
    for (uint64_t i = 0; i < number_of(v.at("count")); ++i) {
      const uint64_t example = number_of(v.at("first_example")) + i;
      const Picture p = draw_shapes(o, example);
      pictures.insert(pictures.end(), p.rgb.begin(), p.rgb.end());
      labels.push_back(static_cast<uint8_t>(shapes_label(o, example).label));
    }
    EXPECT_EQ(sha256(pictures), v.at("pictures_sha256").as_string()) << v.dump();
    EXPECT_EQ(sha256(labels), v.at("labels_sha256").as_string()) << v.dump();
  }
}

TEST(Shapes, HeldOutPicturesAreOthers) {
  const auto train = open_source({"shapes:?count=3&size=16"});
  const auto heldout = open_source({"shapes:?count=3&size=16&split=heldout"});
  EXPECT_EQ(train->key(0), "0");
  EXPECT_EQ(heldout->key(0), "1099511627776");
  EXPECT_NE(train->fingerprint(), heldout->fingerprint());
  EXPECT_NE(train->read(0).picture->rgb, heldout->read(0).picture->rgb);
}

TEST(Shapes, MisspeltQueriesNameTheNearest) {
  EXPECT_NE(error_of([] { open_source({"shapes:?cluter=3"}); }).find("nearest: clutter"),
            std::string::npos);
  EXPECT_NE(error_of([] { open_source({"shape:"}); }).find("nearest: shapes:"), std::string::npos);
  EXPECT_NE(error_of([] { open_source({"shapes:?size=7"}); }).find("from 8 to 512"),
            std::string::npos);
  EXPECT_NE(error_of([] { open_source({"fractal:?clases=3"}); }).find("classes"),
            std::string::npos);
  EXPECT_NE(error_of([] { open_source({"wds:https://host/a.tar"}); }).find("not supported yet"),
            std::string::npos);
}

}  // namespace
}  // namespace nfscale
