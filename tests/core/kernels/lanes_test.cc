#include "core/kernels/lanes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace attnprune {
namespace {

// Error of a float in units of the last place of the exact value.
double UlpsOff(float got, double exact) {
  const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
  return std::abs(static_cast<double>(got) - exact) / ulp;
}

// Worst error of ExpNonPositive at first, first + step, ... (kLanes * vectors arguments).
double WorstUlps(double first, double step, Index vectors) {
  double worst = 0;
  for (Index v = 0; v < vectors; ++v) {
    Lanes x{};
    for (Index lane = 0; lane < kLanes; ++lane) {
      x[lane] = static_cast<float>(first + step * static_cast<double>(v * kLanes + lane));
    }
    const Lanes y = ExpNonPositive(x);
    for (Index lane = 0; lane < kLanes; ++lane) {
      worst = std::max(worst, UlpsOff(y[lane], std::exp(static_cast<double>(x[lane]))));
    }
  }
  return worst;
}

// `x` in every lane in turn, -1 in the others.
template <typename Expectation>
void InEveryLane(float x, Expectation expect) {
  for (Index lane = 0; lane < kLanes; ++lane) {
    SCOPED_TRACE(lane);
    Lanes v = Broadcast(-1.0f);
    v[lane] = x;
    const Lanes y = ExpNonPositive(v);
    expect(y[lane]);
    const Index other = (lane + 1) % kLanes;
    EXPECT_NEAR(y[other], std::exp(-1.0), 1e-7);
  }
}

constexpr double kClaimedUlps = 1.25;  // lanes.h

TEST(ExpNonPositive, IsWithinItsClaimFromMinus87ToZero) {
  constexpr double kStep = 0x1p-14;
  EXPECT_LE(WorstUlps(-87, kStep, static_cast<Index>(87 / kStep) / kLanes), kClaimedUlps);
}

// Every float just below 0 and the ones around the border of two exponents, -ln 2 / 2.
TEST(ExpNonPositive, IsWithinItsClaimOnNeighbouringFloats) {
  constexpr Index kVectors = 1 << 12;
  EXPECT_LE(WorstUlps(-0.3466, 0x1p-25, kVectors), kClaimedUlps);
  EXPECT_LE(WorstUlps(-1.0, 0x1p-24, kVectors), kClaimedUlps);
  EXPECT_LE(WorstUlps(-87.0, 0x1p-17, kVectors), kClaimedUlps);
  for (double tiny = -0.25; tiny < -1e-40; tiny /= 8) {
    EXPECT_LE(WorstUlps(tiny, -tiny * 0x1p-24, 4), kClaimedUlps) << tiny;
  }
}

TEST(ExpNonPositive, IsExactlyOneAtZero) {
  for (float zero : {0.0f, -0.0f}) {
    InEveryLane(zero, [](float y) { EXPECT_EQ(y, 1.0f); });
  }
}

TEST(ExpNonPositive, IsCutToZeroBelowMinus87) {
  InEveryLane(-87.0f, [](float y) { EXPECT_LE(UlpsOff(y, std::exp(-87.0)), kClaimedUlps); });
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (float below : {std::nextafter(-87.0f, -kInfinity), -88.0f, -104.0f, -1e4f, -1e30f,
                      std::numeric_limits<float>::lowest(), -kInfinity}) {
    SCOPED_TRACE(below);
    InEveryLane(below, [](float y) { EXPECT_EQ(y, 0.0f); });
  }
}

TEST(ExpNonPositive, KeepsNaN) {
  InEveryLane(std::numeric_limits<float>::quiet_NaN(),
              [](float y) { EXPECT_TRUE(std::isnan(y)) << y; });
}

TEST(Lanes, ArePaddedUpAndFlooredDown) {
  EXPECT_EQ(PadToLanes(0), 0);
  EXPECT_EQ(FloorToLanes(0), 0);
  for (Index n = 1; n <= 5 * kLanes; ++n) {
    const Index padded = PadToLanes(n), floor = FloorToLanes(n);
    EXPECT_EQ(padded % kLanes, 0) << n;
    EXPECT_EQ(floor % kLanes, 0) << n;
    EXPECT_TRUE(padded >= n && padded < n + kLanes) << n;
    EXPECT_TRUE(floor <= n && floor > n - kLanes) << n;
  }
}

// Powers of two: every lane counts exactly once or the sum is another number.
TEST(Lanes, SumOverAllOfThem) {
  Lanes v{};
  for (Index lane = 0; lane < kLanes; ++lane) v[lane] = std::ldexp(1.0f, static_cast<int>(lane));
  EXPECT_EQ(SumLanes(v), std::ldexp(1.0f, static_cast<int>(kLanes)) - 1);
}

TEST(Lanes, FindTheLargestWhereverItIs) {
  for (Index lane = 0; lane < kLanes; ++lane) {
    Lanes v = Broadcast(-5.0f);
    v[lane] = -2.0f;
    EXPECT_EQ(MaxLanes(v), -2.0f) << lane;
    const Lanes larger = Max(v, Broadcast(-3.0f));
    for (Index i = 0; i < kLanes; ++i) EXPECT_EQ(larger[i], i == lane ? -2.0f : -3.0f);
  }
}

TEST(Lanes, AreLoadedAndStoredAtAnyAddress) {
  float from[kLanes + 1], to[kLanes + 1] = {};
  for (Index i = 0; i <= kLanes; ++i) from[i] = static_cast<float>(i);
  StoreLanes(to + 1, LoadLanes(from + 1));
  for (Index i = 0; i <= kLanes; ++i) EXPECT_EQ(to[i], static_cast<float>(i));
}

// --- Tanh ----------------------------------------------------------------------------------------

constexpr double kTanhUlps = 3;  // lanes.h

double TanhUlpsOff(const Lanes& x) {
  double worst = 0;
  const Lanes y = Tanh(x);
  for (Index lane = 0; lane < kLanes; ++lane) {
    worst = std::max(worst, UlpsOff(y[lane], std::tanh(static_cast<double>(x[lane]))));
  }
  return worst;
}

// 100,000 floats from 1e-37 to 50, each larger than the one before by the same factor.
TEST(Tanh, IsWithinItsClaimOfEveryMagnitude) {
  const double growth = std::pow(50 / 1e-37, 1.0 / 100'000);
  double next = 1e-37;
  while (next < 50) {
    Lanes x{};
    for (Index lane = 0; lane < kLanes; ++lane, next *= growth) x[lane] = static_cast<float>(next);
    ASSERT_LE(TanhUlpsOff(x), kTanhUlps) << next;
    ASSERT_LE(TanhUlpsOff(-x), kTanhUlps) << -next;
  }
}

// The borders of the powers of two that e^(-2 |x|) is made of, ln 2 / 4 and three of them.
TEST(Tanh, IsWithinItsClaimOnNeighbouringFloats) {
  for (const float from : {0.17328f, 0.51985f, 1.0f, 4.2314f, 8.66f}) {
    float next = from;
    for (int i = 0; i < 2000; ++i) {
      Lanes x{};
      for (Index lane = 0; lane < kLanes; ++lane, next = std::nextafter(next, 10.0f))
        x[lane] = next;
      ASSERT_LE(TanhUlpsOff(x), kTanhUlps) << next;
    }
  }
}

TEST(Tanh, IsOddAndKeepsTheSignOfZero) {
  for (const float x : {0.0f, 1e-30f, 0.2f, 3.0f, 100.0f}) {
    const Lanes plus = Tanh(Broadcast(x)), minus = Tanh(Broadcast(-x));
    EXPECT_EQ(minus[0], -plus[0]) << x;
    EXPECT_TRUE(std::signbit(minus[0])) << x;
    EXPECT_FALSE(std::signbit(plus[0])) << x;
  }
}

TEST(Tanh, IsOneFarOutAndNaNOfNaN) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float x : {20.0f, 1e30f, kInfinity}) EXPECT_EQ(Tanh(Broadcast(x))[0], 1.0f) << x;
  EXPECT_TRUE(std::isnan(Tanh(Broadcast(std::numeric_limits<float>::quiet_NaN()))[0]));
}

}  // namespace
}  // namespace attnprune
