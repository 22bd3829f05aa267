#include "train/device_times.h"

#include <gtest/gtest.h>

namespace nfscale {
namespace {

TEST(DeviceTimes, StallsDoNotMoveATypicalStep) {
  StepTimes times;
  for (int i = 0; i < 90; ++i) times.add(0.2);
  for (int i = 0; i < 40; ++i) times.add(30);
  EXPECT_EQ(times.count(), 130);
  EXPECT_NEAR(times.median(), 0.2, 0.002);
}

// 100 steps of 0.2 s on 2 cores, then 50 of 0.1 s on 4, and back: each kind has its own typical
// step, and the cores are counted.
TEST(DeviceTimes, ARunThatMovesPaysForEachDeviceByItsOwnSteps) {
  DeviceTimes times;
  for (int i = 0; i < 60; ++i) times.of("cpu", 2).add(0.2);
  for (int i = 0; i < 50; ++i) times.of("cpu", 4).add(0.1);
  for (int i = 0; i < 40; ++i) times.of("cpu", 2).add(0.2);
  ASSERT_EQ(times.all().size(), 2u);
  EXPECT_EQ(times.all()[0].times.count(), 100);
  EXPECT_NEAR(times.device_seconds(), 100 * 0.2 * 2 + 50 * 0.1 * 4, 0.6);
  const DeviceTimes again = DeviceTimes::from_json(times.to_json());
  EXPECT_EQ(again.to_json(), times.to_json());
  EXPECT_EQ(again.device_seconds(), times.device_seconds());
}

}  // namespace
}  // namespace nfscale
