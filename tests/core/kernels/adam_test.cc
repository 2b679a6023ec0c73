#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "core/kernels/descent.h"

namespace attnprune {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatNear;

// The parameters of one run and its moments.
struct Descent {
  explicit Descent(std::vector<float> start) : x(std::move(start)), m(x.size()), v(x.size()) {}
  void Take(const std::vector<float>& gradient, double rate = 0.5) {
    Adam(MakeAdamStep(rate, 0.9, 0.999, ++t), gradient, absl::MakeSpan(m), absl::MakeSpan(v),
         absl::MakeSpan(x));
  }
  std::vector<float> x, m, v;
  int t = 0;
};

// m = 0.1 g and v = 0.001 g^2, both corrected to g and g^2: the step is the rate, whatever g.
TEST(Adam, TakesAFirstStepOfTheRateAgainstTheSignOfTheGradient) {
  Descent run({0, 0, 0, 1});
  run.Take({3, -1e-6f, 1e6f, 3});
  // 1 - 0.999 in float32 is 0.001 to within 2^-24 of 1, 6e-5 of itself; half of that in the root.
  constexpr float kRoundings = 0.5f * 3e-5f;
  EXPECT_THAT(run.x, ElementsAre(FloatNear(-0.5f, kRoundings), FloatNear(0.5f, kRoundings),
                                 FloatNear(-0.5f, kRoundings), FloatNear(0.5f, kRoundings)));
}

TEST(Adam, LeavesAnEntryWithoutGradientWhereItIs) {
  Descent run({1.5f, -2});
  for (int i = 0; i < 3; ++i) run.Take({0, 0});
  EXPECT_THAT(run.x, ElementsAre(1.5f, -2));
}

// Worked in float64: g = 2, then -1.
TEST(Adam, FollowsItsFormulas) {
  Descent run({0});
  run.Take({2});
  run.Take({-1});
  const double m = 0.9 * 0.2 - 0.1, v = 0.999 * 0.004 + 0.001;
  const double second = 0.5 * (m / (1 - 0.81)) / std::sqrt(v / (1 - 0.998001));
  EXPECT_NEAR(run.x[0], -0.5 - second, 1e-4);  // 1 - beta2^2 in float32 keeps three digits of v
  EXPECT_NEAR(run.m[0], m, 1e-6);
}

TEST(Adam, StaysFiniteWhereASquareUnderflows) {
  Descent run({0, 0});
  run.Take({1e-30f, -1e-38f});
  EXPECT_THAT(run.x, Each(::testing::Truly([](float x) { return std::isfinite(x); })));
}

// v = 4, corrected by 1 / (1 - 0.999): each entry moves in proportion to its gradient over 2, at
// every scale of both.
TEST(SharedAdam, MovesEveryEntryInProportionToItsGradient) {
  for (const double scale : {1.0, 1e-14, 1e20}) {
    const auto g = [scale](double x) { return static_cast<float>(x * scale); };
    std::vector<float> x = {0, 1, 1}, m(3);
    SharedAdam(MakeAdamStep(0.5, 0.9, 0.999, 1), 0.001 * 4 * scale * scale,
               std::vector<float>{g(2), g(-6), 0}, absl::MakeSpan(m), absl::MakeSpan(x));
    constexpr float kRoundings = 3 * 3e-5f;  // as above, on a step of 1.5
    EXPECT_THAT(x, ElementsAre(FloatNear(-0.5f, kRoundings), FloatNear(2.5f, kRoundings), 1));
  }
}

// Worked in float64: g = 2, then -1; v stays what the caller says.
TEST(SharedAdam, KeepsAFirstMoment) {
  std::vector<float> x = {0}, m = {0};
  for (const auto& [t, g] : {std::pair<int, float>{1, 2.0f}, {2, -1.0f}}) {
    const AdamStep step = MakeAdamStep(0.5, 0.9, 0.999, t);
    SharedAdam(step, 1 / static_cast<double>(step.correction2), std::vector<float>{g},
               absl::MakeSpan(m), absl::MakeSpan(x));
  }
  EXPECT_NEAR(m[0], 0.9 * 0.2 - 0.1, 1e-6);
  EXPECT_NEAR(x[0], -0.5 * 2 - 0.5 * (0.9 * 0.2 - 0.1) / (1 - 0.81), 1e-5);
}

TEST(SharedAdam, StandsStillWithoutAnyGradient) {
  std::vector<float> x = {3}, m = {0};
  SharedAdam(MakeAdamStep(0.5, 0.9, 0.999, 1), 0, std::vector<float>{0}, absl::MakeSpan(m),
             absl::MakeSpan(x));
  EXPECT_THAT(x, ElementsAre(3));
}

}  // namespace
}  // namespace attnprune
