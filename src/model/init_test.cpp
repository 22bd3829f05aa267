#include "model/init.h"

#include <gtest/gtest.h>

namespace nfscale {
namespace {

Model initial(const std::string& numerics, uint64_t seed) {
  ModelConfig config;
  config.name = "nfnet_n2";
  config.numerics = numerics;
  Model model = make_model(make_arch(config, 10));
  init_weights(model, seed);
  return model;
}

TEST(Init, DeviationsAreThoseOfTheReferencePrograms) {
  for (const std::string numerics : {"deepmind", "timm"}) {
    const Model model = initial(numerics, 1);
    for (size_t i = 0; i < model.params.size(); ++i) {
      const Param& p = model.params[i];
      if (!p.is_weight() || p.count() < 4000) continue;
      double wanted =
          p.kind == Layer::Kind::linear ? 0.01 : std::sqrt(1.0 / static_cast<double>(p.fan_in));
      // The standard deviation of a normal distribution cut at two sigma is 0.8796 of it.
      if (p.kind == Layer::Kind::conv && numerics == "deepmind") wanted *= 0.8796;
      const double found = model.weights[i].detach().std().item<double>();
      EXPECT_NEAR(found / wanted, 1, 5 / std::sqrt(2.0 * static_cast<double>(p.count())))
          << p.name << " " << numerics;
    }
  }
}

TEST(Init, ValuesDependOnTheSeedAlone) {
  const Model a = initial("deepmind", 1), b = initial("deepmind", 1), c = initial("deepmind", 2);
  EXPECT_TRUE(a.weights[0].equal(b.weights[0]));
  EXPECT_FALSE(a.weights[0].equal(c.weights[0]));
  EXPECT_FALSE(a.weights[13].equal(a.weights[16]));
}

}  // namespace
}  // namespace nfscale
