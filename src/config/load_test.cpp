#include "config/load.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/files.h"
#include "base/hash.h"

namespace nfscale {
namespace {

std::string error_of(const std::vector<std::string>& sets) {
  try {
    load_config(std::nullopt, sets);
  } catch (const Error& e) {
    EXPECT_EQ(e.code, Exit::usage);
    return e.what();
  }
  return "accepted";
}

TEST(Config, MisspeltKeysNameTheNearest) {
  EXPECT_EQ(error_of({"optim.lrr=1"}), "--set: optim.lrr is not a key (nearest: optim.lr)");
  EXPECT_EQ(error_of({"lr=1"}), "--set: lr is not a key (nearest: optim.lr)");
  EXPECT_EQ(error_of({"train.momentum=1"}),
            "--set: train.momentum is not a key (nearest: optim.momentum)");
}

TEST(Config, ValuesOfAnotherKindAreRefused) {
  EXPECT_EQ(error_of({"train.batch=\"32\""}),
            "--set: train.batch: expected a whole number, found \"32\"");
  EXPECT_EQ(error_of({"train.batch=0"}), "--set: train.batch: expected at least 1, found 0");
  EXPECT_EQ(
      error_of({"train.precision=bf61"}),
      "--set: train.precision: expected one of auto, bf16, f32, found \"bf61\" (nearest: bf16)");
  EXPECT_NE(error_of({"train.duration=8"}).find("\"8ep\""), std::string::npos);
}

TEST(Config, TheResolvedFileReadsBackToTheSameIdentity) {
  Config c =
      load_config(std::nullopt, {"optim.lr=0.1", "train.duration=0.25ep", "data.train=shapes:"})
          .config;
  resolve(c);
  const Path file =
      std::filesystem::temp_directory_path() / fmt::format("nfscale-{}.toml", ::getpid());
  write_file(file, config_toml(c));
  const Config again = load_config(file, {}).config;
  std::filesystem::remove(file);
  EXPECT_EQ(config_hash(c, "a", "b"), config_hash(again, "a", "b"));
  EXPECT_NE(config_hash(c, "a", "b"), config_hash(c, "x", "b"));
  Config logged = c;
  logged.log.every = {99, Duration::Unit::steps};
  EXPECT_EQ(config_hash(c, "a", "b"), config_hash(logged, "a", "b"));
}

// What is at its default is not in the hash: a key that a later version adds makes no run another
// one, and no study loses its trials to an upgrade.
TEST(Config, IdentityIsMadeOfWhatIsSet) {
  const Config c =
      load_config(std::nullopt, {"model.name=nfnet_n0", "data.train=wds:a.tar", "train.batch=64",
                                 "optim.lr=0.5", "log.every=7st", "train.seed=0"})
          .config;
  Hasher hasher;
  for (const char* line : {"model.name=\"nfnet_n0\"\n", "data.train=one\n", "data.heldout=two\n",
                           "train.batch=64\n", "optim.lr=0.5\n"})
    hasher.add(line);
  EXPECT_EQ(config_hash(c, "one", "two"), hasher.digest());
}

TEST(Duration, EveryUnitIsReadAndConverted) {
  const Horizon h = {.examples = 1000, .batch = 10, .total_slots = 2000};
  EXPECT_DOUBLE_EQ(in_steps(parse_duration("5%"), h), 10);
  EXPECT_DOUBLE_EQ(in_steps(parse_duration("0.5ep"), h), 50);
  EXPECT_DOUBLE_EQ(in_steps(parse_duration("1e3ex"), h), 100);
  EXPECT_EQ(total_slots(parse_duration("0.3ep"), h), 300u);
  EXPECT_EQ(total_slots(parse_duration("0.3333ep"), h), 334u);
  EXPECT_EQ(total_slots(parse_duration("7st"), h), 70u);
  EXPECT_DOUBLE_EQ(parse_duration("10min").value, 600);
  for (const char* bad : {"", "8", "ep", "-1ep", "8 ep", "infep", "8eps"})
    EXPECT_THROW(parse_duration(bad), Error) << bad;
}

}  // namespace
}  // namespace nfscale
