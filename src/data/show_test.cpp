#include "data/show.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "config/load.h"
#include "data/decode.h"
#include "data/resize.h"
#include "data/sheet.h"

namespace nfscale {
namespace {

Config config_of(const std::vector<std::string>& more) {
  std::vector<std::string> sets = {"data.train=shapes:?count=40&size=48&classes=10",
                                   "train.image_size=32", "train.batch=8"};
  sets.insert(sets.end(), more.begin(), more.end());
  Config config = load_config(std::nullopt, sets).config;
  resolve(config);
  return config;
}

std::vector<ShownSlot> shown(const Config& config, uint64_t begin, uint64_t end) {
  return show_slots(open_source(config.data.train), config, begin, end);
}

int largest_difference(const Picture& a, const Picture& b) {
  EXPECT_EQ(a.rgb.size(), b.rgb.size());
  int most = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) most = std::max(most, std::abs(a.rgb[i] - b.rgb[i]));
  return most;
}

Picture mirrored(const Picture& p) {
  Picture m = p;
  for (int64_t y = 0; y < p.height; ++y)
    for (int64_t x = 0; x < p.width; ++x)
      std::copy_n(p.rgb.begin() + 3 * (y * p.width + p.width - 1 - x), 3,
                  m.rgb.begin() + 3 * (y * p.width + x));
  return m;
}

// The box and the mirror that are told make the picture that is shown.
TEST(Show, WhatIsToldMakesWhatIsShown) {
  const Config config = config_of({"data.augment.crop=inception", "data.augment.flip=true"});
  const auto source = open_source(config.data.train);
  int flips = 0;
  for (const ShownSlot& s : shown(config, 37, 47)) {  // over the end of an epoch
    const Picture whole = *source->read(s.of.example).picture;
    ASSERT_TRUE(s.draw.box);
    Picture part = resize(whole, *s.draw.box, 32, 32);
    if (s.draw.mirrored) part = mirrored(part);
    EXPECT_LE(largest_difference(part, s.picture), 1) << s.slot;
    EXPECT_EQ(s.key, source->key(s.of.example));
    EXPECT_EQ(s.of.epoch, s.slot < 40 ? 0u : 1u);
    flips += s.draw.mirrored;
  }
  EXPECT_GT(flips, 0);
  EXPECT_LT(flips, 10);
}

TEST(Show, OperationsAndPartnersAreThoseOfTheRow) {
  const Config plain = config_of({"data.augment.crop=center", "data.augment.flip=false"});
  const auto raw = shown(plain, 0, 8);
  const auto operated = shown(config_of({"data.augment.crop=center", "data.augment.flip=false",
                                         "data.augment.randaugment=[2, 5]"}),
                              0, 8);
  for (size_t i = 0; i < raw.size(); ++i) {
    ASSERT_EQ(operated[i].draw.operations.size(), 2u);
    Picture p = raw[i].picture;
    for (const AugmentationDraw& d : operated[i].draw.operations) augment(p, d);
    EXPECT_LE(largest_difference(p, operated[i].picture), 1) << i;
  }
  const auto mixed = shown(
      config_of({"data.augment.crop=center", "data.augment.flip=false", "data.augment.cutmix=1"}),
      0, 8);
  for (size_t i = 0; i < raw.size(); ++i) {
    ASSERT_TRUE(mixed[i].partner);
    const Box& box = mixed[i].partner->mix.box;
    Picture p = raw[i].picture;
    const Picture& other = raw.at(mixed[i].partner->slot).picture;
    for (int64_t y = box.y; y < box.y + box.height; ++y)
      std::copy_n(other.rgb.begin() + 3 * (y * 32 + box.x), 3 * box.width,
                  p.rgb.begin() + 3 * (y * 32 + box.x));
    EXPECT_LE(largest_difference(p, mixed[i].picture), 1) << i;
    EXPECT_EQ(mixed[i].partner->label, raw.at(mixed[i].partner->slot).label);
  }
}

TEST(Show, AugmentationsAreTold) {
  EXPECT_EQ(augmentation_text({Augmentation::rotate, 0.5, true, 0, 0}), "rotate -15");
  EXPECT_EQ(augmentation_text({Augmentation::equalize, 0.5, true, 0, 0}), "equalize");
  EXPECT_EQ(augmentation_text({Augmentation::color, 0.5, true, 0, 0}), "color 1");
  EXPECT_EQ(augmentation_text({Augmentation::solarize_add, 1, false, 0, 0}), "solarize add 110");
}

TEST(Show, ASheetIsAPngWithItsPicturesAndItsText) {
  const auto slots = shown(config_of({"data.augment.crop=pad"}), 0, 5);
  std::vector<CaptionedPicture> pictures;
  for (const ShownSlot& s : slots) pictures.push_back({s.picture, caption_of(s)});
  pictures[0].lines.push_back(std::string(5000, 'W'));  // is cut
  std::string any;
  for (int c = 255; c > 0; --c) any += static_cast<char>(c);
  pictures[1].lines.insert(pictures[1].lines.begin(), any);
  const Picture sheet = contact_sheet(pictures);
  const Decoded read = decode(png_bytes(sheet));
  ASSERT_EQ(read.broken, "");
  EXPECT_EQ(read.picture.rgb, sheet.rgb);
  // 32 pixels become 128; the first stands at the margin.
  for (int64_t y = 0; y < 128; ++y)
    for (int64_t x = 0; x < 128; ++x)
      for (int64_t c = 0; c < 3; ++c)
        ASSERT_EQ(sheet.rgb[static_cast<size_t>(3 * ((8 + y) * sheet.width + 8 + x) + c)],
                  slots[0].picture.rgb[static_cast<size_t>(3 * (y / 4 * 32 + x / 4) + c)]);
  int64_t ink = 0;
  for (int64_t x = 8; x < 8 + 176; ++x)
    for (int64_t y = 8 + 128; y < 8 + 128 + 60; ++y)
      ink += sheet.rgb[static_cast<size_t>(3 * (y * sheet.width + x))] == 0;
  EXPECT_GT(ink, 200);
  // Between two cells nothing is written.
  for (int64_t y = 0; y < sheet.height; ++y)
    for (int64_t x = 8 + 176; x < 8 + 184; ++x)
      ASSERT_EQ(sheet.rgb[static_cast<size_t>(3 * (y * sheet.width + x))], 255) << x << " " << y;
}

}  // namespace
}  // namespace nfscale
