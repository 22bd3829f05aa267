#include "arch/arch.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace nfscale {
namespace {

Arch named(const std::string& name, int64_t classes, const std::string& rounding = "keep") {
  ModelConfig config;
  config.name = name;
  config.bottleneck_round = rounding;
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

}  // namespace
}  // namespace nfscale
