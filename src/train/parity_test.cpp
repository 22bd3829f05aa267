#include "train/parity.h"

#include <gtest/gtest.h>

namespace nfscale {
namespace {

std::vector<Path> golden(const std::string& prefix) {
  std::vector<Path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(Path(NFSCALE_SOURCE_DIR) / "tests/golden"))
    if (entry.path().filename().string().starts_with(prefix)) files.push_back(entry.path());
  return files;
}

TEST(Golden, EveryCaseHoldsInFloat32AndWithin1e6InFloat64) {
  for (const char* kind : {"train-", "sam-", "digest-n0", "vit_"})
    for (const Path& file : golden(kind))
      for (const bool float64 : {false, true}) {
        const ParityResult r = run_parity(file, float64);
        EXPECT_TRUE(r.ok) << r.name << ": " << r.worst.tensor << " is off by " << r.worst.error;
        EXPECT_GT(r.compared, 3) << r.name;
      }
}

TEST(Golden, TheWholeF0Holds) {
  for (const Path& file : golden("digest-f0")) EXPECT_TRUE(run_parity(file, false).ok) << file;
}

TEST(Golden, TheOppositeNumericsFails) {
  for (const Path& file : golden("train-")) {
    const std::string own = run_parity(file, false).numerics;
    EXPECT_FALSE(run_parity(file, false, own == "timm" ? "deepmind" : "timm").ok) << file;
  }
}

}  // namespace
}  // namespace nfscale
