// The data are small integers and the factors powers of two: every product, sum and sum of squares
// is exact, in any order and with or without fused multiply-add, so results are compared exactly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/kernels/descent.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;

// None, one, around the eight columns of the sums, many with and without a tail.
constexpr size_t kEntryCounts[] = {0, 1, 7, 8, 9, 1000, 1001};

std::vector<float> SmallIntegers(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> value(-8, 8);
  std::vector<float> out(size);
  for (float& v : out) v = static_cast<float>(value(random));
  return out;
}

double SumOfSquares(const std::vector<float>& values) {
  double sum = 0;
  for (float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum;
}

TEST(Hadamard, MultipliesEntryByEntry) {
  for (size_t size : kEntryCounts) {
    const std::vector<float> w = SmallIntegers(size, 1), m = SmallIntegers(size, 2);
    std::vector<float> out(size, NAN);
    Hadamard(w, m, absl::MakeSpan(out));
    for (size_t i = 0; i < size; ++i) ASSERT_EQ(out[i], w[i] * m[i]) << size << ", " << i;
  }
}

TEST(GradientInMask, IsTheWeightTimesItsGradientPlusLambdaTimesTheMask) {
  constexpr float kLambda = 0.25f;
  for (size_t size : kEntryCounts) {
    const std::vector<float> w = SmallIntegers(size, 3), m = SmallIntegers(size, 4);
    const std::vector<float> before = SmallIntegers(size, 5);
    std::vector<float> gradient = before;
    const MaskStepSums sums = GradientInMask(w, m, kLambda, absl::MakeSpan(gradient));
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(gradient[i], w[i] * before[i] + kLambda * m[i]) << size << ", " << i;
    }
    EXPECT_EQ(sums.gradient_squared, SumOfSquares(gradient)) << size;
    EXPECT_EQ(sums.mask_squared, SumOfSquares(m)) << size;
  }
}

// 4097^2 has 25 bits: float32 holds neither it nor 2^24 + 1.
TEST(GradientInMask, SumsInFloat64InEveryColumn) {
  constexpr size_t kSize = 1003;
  for (size_t loud = 0; loud < 8; ++loud) {
    std::vector<float> w(kSize, 1.0f), m(kSize, 1.0f), gradient(kSize, 1.0f);
    gradient[loud] = m[loud] = 4097;
    const MaskStepSums sums = GradientInMask(w, m, 0.0f, absl::MakeSpan(gradient));
    EXPECT_EQ(sums.gradient_squared, 4097.0 * 4097.0 + kSize - 1) << loud;
    EXPECT_EQ(sums.mask_squared, 4097.0 * 4097.0 + kSize - 1) << loud;
  }
}

TEST(GradientInMask, CountsEveryEntryOnce) {
  for (size_t size : kEntryCounts) {
    for (size_t i = 0; i < size; ++i) {
      std::vector<float> w(size, 1.0f), m(size, 0.0f), gradient(size, 0.0f);
      m[i] = 2;
      gradient[i] = 3;
      const MaskStepSums sums = GradientInMask(w, m, 1.0f, absl::MakeSpan(gradient));
      ASSERT_EQ(sums.mask_squared, 4) << size << ", " << i;
      ASSERT_EQ(sums.gradient_squared, 25) << size << ", " << i;
    }
  }
}

TEST(GradientInMask, DoesNotOverflowWhereFloat32Would) {
  std::vector<float> gradient = {0x1p+70f};
  const MaskStepSums sums = GradientInMask({1.0f}, {0x1p+80f}, 0.0f, absl::MakeSpan(gradient));
  EXPECT_EQ(sums.gradient_squared, 0x1p+140);
  EXPECT_EQ(sums.mask_squared, 0x1p+160);
}

constexpr HeavyBall kFree{
    .inverse_batches = 0.25f, .momentum = 0.5f, .eta = 0.125f, .project = false};
constexpr HeavyBall kProjected{
    .inverse_batches = 0.25f, .momentum = 0.5f, .eta = 0.125f, .project = true};

TEST(HeavyBallStep, KeepsMomentumAndMovesAgainstIt) {
  for (size_t size : kEntryCounts) {
    const std::vector<float> gradient = SmallIntegers(size, 6), mask = SmallIntegers(size, 7);
    const std::vector<float> before = SmallIntegers(size, 8);
    const std::vector<float> weights = SmallIntegers(size, 9);
    std::vector<float> velocity = before, next(size, NAN), pruned(size, NAN);
    HeavyBallStep(kFree, gradient, mask, weights, absl::MakeSpan(velocity), absl::MakeSpan(next),
                  absl::MakeSpan(pruned));
    for (size_t i = 0; i < size; ++i) {
      const float v = 0.5f * before[i] + 0.25f * gradient[i];
      ASSERT_EQ(velocity[i], v) << size << ", " << i;
      ASSERT_EQ(next[i], mask[i] - 0.125f * v) << size << ", " << i;
      ASSERT_EQ(pruned[i], weights[i] * next[i]) << size << ", " << i;
    }
  }
}

// Velocity 0; g / k = -32, -4, 0, 4, 32, so the masks move by 4, 0.5, 0, -0.5 and -4.
TEST(HeavyBallStep, ClampsTheMaskButNotTheVelocity) {
  const std::vector<float> gradient = {-128, -16, 0, 16, 128};
  const std::vector<float> mask = {0.5f, 0.25f, 1, 0.25f, 0.5f};
  const std::vector<float> weights = {2, 4, -2, 8, 8};
  std::vector<float> velocity(5, 0.0f), next(5), pruned(5);
  HeavyBallStep(kProjected, gradient, mask, weights, absl::MakeSpan(velocity), absl::MakeSpan(next),
                absl::MakeSpan(pruned));
  EXPECT_THAT(next, ElementsAre(1, 0.75f, 1, 0, 0));
  EXPECT_THAT(pruned, ElementsAre(2, 3, -2, 0, 0));
  EXPECT_THAT(velocity, ElementsAre(-32, -4, 0, 4, 32));
}

TEST(HeavyBallStep, ClampsEveryEntry) {
  for (size_t size : kEntryCounts) {
    const std::vector<float> gradient(size, -128.0f), mask(size, 1.0f);
    std::vector<float> velocity(size, 0.0f), next(size, NAN), pruned(size, NAN);
    HeavyBallStep(kProjected, gradient, mask, mask, absl::MakeSpan(velocity), absl::MakeSpan(next),
                  absl::MakeSpan(pruned));
    EXPECT_EQ(next, std::vector<float>(size, 1.0f));
  }
}

// The caller looks for NaN in the masks; clamping must not hide one.
TEST(HeavyBallStep, KeepsNaNWhenItClamps) {
  constexpr size_t kSize = 19;
  for (size_t i = 0; i < kSize; ++i) {
    std::vector<float> gradient(kSize, 0.0f), mask(kSize, 1.0f), velocity(kSize, 0.0f);
    std::vector<float> next(kSize), pruned(kSize);
    gradient[i] = std::numeric_limits<float>::quiet_NaN();
    HeavyBallStep(kProjected, gradient, mask, mask, absl::MakeSpan(velocity), absl::MakeSpan(next),
                  absl::MakeSpan(pruned));
    for (size_t j = 0; j < kSize; ++j) EXPECT_EQ(std::isnan(next[j]), i == j) << i << ", " << j;
  }
}

}  // namespace
}  // namespace attnprune
