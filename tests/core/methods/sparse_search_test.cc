// The schedule of a search.
#include "core/methods/sparse_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace attnprune {
namespace {

constexpr SearchPlan kPlan = {.steps = 100, .rise = 60, .freeze = 60};

TEST(RisingFraction, RunsAlongACubicFromNothingToAll) {
  EXPECT_EQ(RisingFraction(kPlan, 0), 0);
  EXPECT_DOUBLE_EQ(RisingFraction(kPlan, 30), 1 - 0.125);
  for (int t = 1; t <= 60; ++t) EXPECT_GT(RisingFraction(kPlan, t), RisingFraction(kPlan, t - 1));
  EXPECT_EQ(RisingFraction(kPlan, 60), 1);
  EXPECT_EQ(RisingFraction(kPlan, 99), 1);
}

TEST(RisingFraction, IsAllFromTheStartWithoutARise) {
  EXPECT_EQ(RisingFraction({.steps = 10, .rise = 0}, 0), 1);
}

TEST(RateFactor, IsOneWhileTheSparsityRisesAndThenFallsAlongACosine) {
  EXPECT_EQ(RateFactor(kPlan, 0), 1);
  EXPECT_EQ(RateFactor(kPlan, 59), 1);
  EXPECT_EQ(RateFactor(kPlan, 60), 1);
  EXPECT_NEAR(RateFactor(kPlan, 80), 0.5, 1e-15);
  EXPECT_GT(RateFactor(kPlan, 99), 0);
  EXPECT_LT(RateFactor(kPlan, 99), 0.01);
}

}  // namespace
}  // namespace attnprune
