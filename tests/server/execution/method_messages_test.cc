#include "server/execution/method_messages.h"

#include <gtest/gtest.h>

namespace attnprune {
namespace {

TEST(EstimateRemaining, GoesByTheStepsOfThisAttempt) {
  // 10 steps in 5 s since it was resumed after step 20; 70 steps to go.
  EXPECT_DOUBLE_EQ(EstimateRemaining({.step = 30, .steps = 100, .seconds = 5}, 20), 35);
}

TEST(EstimateRemaining, IsNothingAfterTheLastStepAndBeforeTheFirst) {
  EXPECT_EQ(EstimateRemaining({.step = 100, .steps = 100, .seconds = 5}, 0), 0);
  EXPECT_EQ(EstimateRemaining({.step = 20, .steps = 100, .seconds = 5}, 20), 0);
}

TEST(Progress, CountsTheSecondsOfEarlierAttempts) {
  const v1::Progress progress =
      MakeProgress("gd#2", {.step = 30, .steps = 100, .held_out_error = 0.25, .seconds = 5}, 20, 8);
  EXPECT_EQ(progress.method(), "gd#2");
  EXPECT_EQ(progress.elapsed_seconds(), 13);
  EXPECT_EQ(progress.remaining_seconds(), 35);
  EXPECT_FALSE(progress.has_calibration_error());
  EXPECT_EQ(progress.held_out_error(), 0.25);
}

TEST(PhaseProgress, HasNoFigureOfAStep) {
  const v1::Progress progress = MakePhaseProgress(v1::JUDGING, "gd#2", 0.25, 1.5);
  EXPECT_EQ(progress.phase().phase(), v1::JUDGING);
  EXPECT_EQ(progress.phase().method(), "gd#2");
  EXPECT_EQ(progress.phase().share(), 0.25);
  EXPECT_EQ(progress.phase().elapsed_seconds(), 1.5);
  EXPECT_EQ(progress.steps(), 0);
}

TEST(FailedMethod, HasNothingButItsNameAndWhy) {
  const v1::MethodResult result = MakeFailedMethod("gd", absl::OutOfRangeError("too large"));
  EXPECT_EQ(result.method(), "gd");
  EXPECT_EQ(result.failure().code(), 11);
  EXPECT_EQ(result.failure().message(), "too large");
  EXPECT_FALSE(result.has_relative_error());
}

}  // namespace
}  // namespace attnprune
