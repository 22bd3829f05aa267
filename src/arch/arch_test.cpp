#include "arch/arch.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace nfscale {
namespace {

Arch named(const std::string& name, int64_t classes, const std::string& rounding = "keep") {
  ModelConfig config;
  config.name = name;
  if (rounding != "keep") config.bottleneck_round = rounding;
  return make_arch(config, classes);
}

// Published: B21 table 6 gives F0 12.38 B and F6 377.28 B multiply-adds at test size, F4+ 367 B;
// A.5 527 M parameters.
TEST(Arch, CountsEqualThePublishedOnes) {
  EXPECT_EQ(named("nfnet_f0", 1000).param_count(), 71'489'284);
  EXPECT_EQ(named("nfnet_f0", 1000).macs(256, 256), 12'384'198'656);
  EXPECT_EQ(named("nfnet_f6", 1000).param_count(), 438'359'116);
  EXPECT_NEAR(static_cast<double>(named("nfnet_f6", 1000).macs(576, 576)), 377.28e9, 0.005e9);
  EXPECT_EQ(named("nfnet_f4+", 1000).param_count(), 527'033'076);
  EXPECT_EQ(named("nfnet_f4+", 1000, "floor").param_count(), 524'954'484);
  EXPECT_EQ(named("nfnet_n0", 10).macs(32, 32), 13'918'976);
}

TEST(Arch, BetaOfATransitionBelongsToItsInput) {
  const Arch f0 = named("nfnet_f0", 10);
  EXPECT_DOUBLE_EQ(f0.blocks[0].beta, 1);
  EXPECT_DOUBLE_EQ(f0.blocks[1].beta, 1 / std::sqrt(1.04));
  EXPECT_DOUBLE_EQ(f0.blocks[9].beta,
                   1 / std::sqrt(1.24));  // stage 3 block 0: six blocks of stage 2
}

TEST(Arch, TimmsNamesAreSynonymsOfF0ToF6) {
  EXPECT_EQ(named("dm_nfnet_f3", 1000).param_count(), named("nfnet_f3", 1000).param_count());
  EXPECT_THROW(named("dm_nfnet_f7", 1000), Error);
  EXPECT_THROW(named("nfnet_f8", 1000), Error);
}

TEST(Arch, F0HasTheTensorsOfTimmsFile) {
  const std::vector<Param> params = named("nfnet_f0", 1000).params();
  EXPECT_EQ(params.size(), 233u);
  EXPECT_EQ(params[12].name, "stages.0.0.skipinit_gain");
  EXPECT_TRUE(params[12].shape.empty());
  EXPECT_EQ(params.back().name, "head.fc.bias");
}

// timm's vit_{tiny,small,base,large}_patch16_224, with PyTorch's counter of operations; table 2 of
// arXiv 2106.04560 without pooling and classifier: 1011 M and 1843 M.
TEST(Arch, CountsOfVisionTransformersEqualThePublishedOnes) {
  const auto vit = [](const std::string& name, const std::string& pool, int64_t classes) {
    ModelConfig config;
    config.name = name;
    config.pool = pool;
    config.class_position = pool == "tok";
    return make_arch(config, classes);
  };
  EXPECT_EQ(vit("vit_ti16", "tok", 1000).param_count(), 5'717'416);
  EXPECT_EQ(vit("vit_s16", "tok", 1000).param_count(), 22'050'664);
  EXPECT_EQ(vit("vit_b16", "tok", 1000).param_count(), 86'567'656);
  EXPECT_EQ(vit("vit_l16", "tok", 1000).param_count(), 304'326'632);
  EXPECT_EQ(vit("vit_s16", "tok", 1000).macs(224, 224), 4'598'882'304);
  EXPECT_EQ(vit("vit_l16", "tok", 1000).macs(224, 224), 61'554'712'576);
  EXPECT_EQ(vit("vit_giant14", "map", 29593).macs(224, 224), 267'041'720'704);
  EXPECT_NEAR(static_cast<double>(vit("vit_giant14", "gap", 0 + 1).param_count()), 1011e6, 2e6);
  // Matched in multiply-adds to nfnet_n0.
  EXPECT_NEAR(static_cast<double>(named("vit_n0", 10).macs(32, 32)) / 13'918'976, 1, 0.003);
}

TEST(Arch, KeysOfOneFamilyAreNoKeysOfTheOther) {
  ModelConfig nfnet, vit;
  nfnet.name = "nfnet_n0";
  nfnet.heads = 2;
  vit.name = "vit_n0";
  vit.se_ratio = 0.5;
  EXPECT_THROW(make_arch(nfnet, 10), Error);
  EXPECT_THROW(make_arch(vit, 10), Error);
  vit.se_ratio = {};
  vit.heads = 5;  // of a width of 64
  EXPECT_THROW(make_arch(vit, 10), Error);
  vit.heads = {};
  EXPECT_THROW(make_arch(vit, 10, {32, 30}), Error);
  EXPECT_EQ(make_arch(vit, 10, {32, 24}).vit.tokens(), 48);
}

TEST(Arch, LevelsRiseFromBlockToBlock) {
  for (const char* name : {"nfnet_n0", "vit_n0"}) {
    const Arch arch = named(name, 10);
    const int64_t blocks = arch.is_vit() ? arch.vit.depth : std::ssize(arch.blocks);
    int64_t before = 0;
    for (const Param& p : arch.params()) {
      EXPECT_GE(p.level, before) << p.name;
      before = p.level;
    }
    EXPECT_EQ(arch.params().front().level, 0);
    EXPECT_EQ(before, blocks + 1);
  }
}

}  // namespace
}  // namespace nfscale
