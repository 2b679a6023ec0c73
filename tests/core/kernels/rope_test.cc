#include "core/kernels/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::attnprune::testing::GaussianMatrix;
using ::attnprune::testing::MatrixOf;
using ::attnprune::testing::Values;
using ::testing::ElementsAre;
using ::testing::FloatNear;

constexpr double kHalfUlpOfOne = 0x1p-24;  // half an ulp of 1 in float32

enum class Layout { kRotateHalf, kInterleaved };

RopeTable Table(Layout layout, double theta, Index head_dim, Index positions,
                double attention_factor = 1) {
  return MakeRopeTable(RopeFrequencies({.theta = theta}, head_dim, positions), attention_factor,
                       positions, layout == Layout::kInterleaved);
}

// One position: a quarter turn of the first pair, and the angle of the 3-4-5 triangle.
RopeTable TwoAngles(Layout layout) {
  return {MatrixOf({{0, 0.6f}}), MatrixOf({{1, 0.8f}}), layout == Layout::kInterleaved};
}

// The heads in `row` as those of the token at `position`; all their features turn.
std::vector<float> Rotated(const RopeTable& table, Index position, float sign,
                           std::vector<float> row) {
  Rotate(table, 2 * table.cos.cols(), &position, sign,
         {row.data(), 1, static_cast<Index>(row.size())});
  return row;
}

// Where the two entries of pair i of a head are.
struct Pair {
  Index first, second;
};
Pair PairAt(Layout layout, Index head_dim, Index i) {
  if (layout == Layout::kInterleaved) return {2 * i, 2 * i + 1};
  return {i, i + head_dim / 2};
}

class RopeInBothLayouts : public ::testing::TestWithParam<Layout> {};
INSTANTIATE_TEST_SUITE_P(All, RopeInBothLayouts,
                         ::testing::Values(Layout::kRotateHalf, Layout::kInterleaved),
                         [](const auto& layout) {
                           return layout.param == Layout::kRotateHalf ? "RotateHalf"
                                                                      : "Interleaved";
                         });

// The pairs (1, 2) -> (-2, 1) and (10, 5) -> (0.6 * 10 - 0.8 * 5, 0.8 * 10 + 0.6 * 5) = (2, 11).
// Off by a few roundings of numbers up to 11.
constexpr float kFewRoundings = 11 * 4 * 0x1p-24f;

TEST(Rotate, TurnsFirstHalfAgainstSecond) {
  EXPECT_THAT(Rotated(TwoAngles(Layout::kRotateHalf), 0, 1, {1, 10, 2, 5}),
              ElementsAre(-2, FloatNear(2, kFewRoundings), 1, FloatNear(11, kFewRoundings)));
}

TEST(Rotate, TurnsNeighboursWhenInterleaved) {
  EXPECT_THAT(Rotated(TwoAngles(Layout::kInterleaved), 0, 1, {1, 2, 10, 5}),
              ElementsAre(-2, 1, FloatNear(2, kFewRoundings), FloatNear(11, kFewRoundings)));
}

// Backwards (1, 2) -> (2, -1) and (10, 5) -> (0.6 * 10 + 0.8 * 5, -0.8 * 10 + 0.6 * 5) = (10, -5).
TEST(Rotate, TurnsTheOtherWayByTheInverse) {
  EXPECT_THAT(Rotated(TwoAngles(Layout::kRotateHalf), 0, -1, {1, 10, 2, 5}),
              ElementsAre(2, FloatNear(10, kFewRoundings), -1, FloatNear(-5, kFewRoundings)));
}

TEST_P(RopeInBothLayouts, LeavesPositionZeroAsItIs) {
  const RopeTable table = Table(GetParam(), 10000, 8, 3);
  const std::vector<float> row = Values(GaussianMatrix(1, 24, 1));
  EXPECT_EQ(Rotated(table, 0, 1, row), row);
  EXPECT_EQ(Rotated(table, 0, -1, row), row);
}

// cos and sin are off by u relative, hence their squares' sum by 2 u; each of the two rotations
// rounds an entry of a pair by 2 u of the pair's norm, the pair by 2 sqrt(2) u. In all below 8 u.
TEST_P(RopeInBothLayouts, IsUndoneByItsInverse) {
  constexpr Index kHeadDim = 16, kHeads = 3;
  const RopeTable table = Table(GetParam(), 500, kHeadDim, 200);
  const std::vector<float> row = Values(GaussianMatrix(1, kHeads * kHeadDim, 2));
  for (Index t = 0; t < 200; ++t) {
    const std::vector<float> back = Rotated(table, t, -1, Rotated(table, t, 1, row));
    for (Index i = 0; i < kHeads * kHeadDim / 2; ++i) {
      const Pair pair = PairAt(GetParam(), kHeadDim, i % (kHeadDim / 2));
      const Index head = i / (kHeadDim / 2) * kHeadDim;
      const size_t first = static_cast<size_t>(head + pair.first);
      const size_t second = static_cast<size_t>(head + pair.second);
      const double bound =
          8 * kHalfUlpOfOne * static_cast<double>(std::hypot(row[first], row[second]));
      ASSERT_NEAR(back[first], row[first], bound) << t << ", " << i;
      ASSERT_NEAR(back[second], row[second], bound) << t << ", " << i;
    }
  }
}

// u from cos and sin, 2 sqrt(2) u from the rotation: below 4 u of each pair's norm.
TEST_P(RopeInBothLayouts, KeepsTheNormOfEveryPair) {
  constexpr Index kHeadDim = 16;
  const RopeTable table = Table(GetParam(), 10000, kHeadDim, 100);
  const std::vector<float> row = Values(GaussianMatrix(1, kHeadDim, 3));
  for (Index t = 0; t < 100; ++t) {
    const std::vector<float> turned = Rotated(table, t, 1, row);
    for (Index i = 0; i < kHeadDim / 2; ++i) {
      const Pair pair = PairAt(GetParam(), kHeadDim, i);
      const auto norm = [&pair](const std::vector<float>& v) {
        return std::hypot(static_cast<double>(v[static_cast<size_t>(pair.first)]),
                          static_cast<double>(v[static_cast<size_t>(pair.second)]));
      };
      ASSERT_NEAR(norm(turned), norm(row), 4 * kHalfUlpOfOne * norm(row)) << t << ", " << i;
    }
  }
}

TEST_P(RopeInBothLayouts, TurnsEveryHeadOfEveryTokenByItselfAndNothingBehindTheLast) {
  constexpr Index kHeadDim = 6, kHeads = 4, kWidth = kHeads * kHeadDim;
  const RopeTable table = Table(GetParam(), 100, kHeadDim, 8);
  const Index positions[] = {7, 0, 3};
  const Matrix before = GaussianMatrix(3, kWidth + 1, 4);
  Matrix after = before.Clone();
  Rotate(table, kHeadDim, positions, 1, MutableMatrixView(after).Cols(0, kWidth));
  for (Index t = 0; t < 3; ++t) {
    EXPECT_EQ(after(t, kWidth), before(t, kWidth));
    for (Index begin = 0; begin < kWidth; begin += kHeadDim) {
      const float *head = before.row(t) + begin, *turned = after.row(t) + begin;
      EXPECT_EQ(std::vector<float>(turned, turned + kHeadDim),
                Rotated(table, positions[t], 1, {head, head + kHeadDim}));
    }
  }
}

// Heads of (2 i, 2 i + 1) pairs or halves of the first 4 of 7 features.
TEST_P(RopeInBothLayouts, TurnsTheFirstFeaturesOfEachHeadAndPassesTheRest) {
  constexpr Index kHeadDim = 7, kTurned = 4, kPosition = 5;
  const RopeTable table = Table(GetParam(), 100, kTurned, kPosition + 1, 1.5);
  std::vector<float> heads = Values(GaussianMatrix(1, 2 * kHeadDim, 5));
  const std::vector<float> before = heads;
  Rotate(table, kHeadDim, &kPosition, 1, {heads.data(), 1, 2 * kHeadDim});
  for (const Index head : {Index{0}, kHeadDim}) {
    const auto begin = before.begin() + head;
    std::vector<float> expected = Rotated(table, kPosition, 1, {begin, begin + kTurned});
    expected.insert(expected.end(), begin + kTurned, begin + kHeadDim);
    EXPECT_EQ(std::vector<float>(heads.begin() + head, heads.begin() + head + kHeadDim), expected);
  }
}

// y' (R x) = (R' y)' x: what makes the gradient in x of any loss in R x come out right. Products of
// `kHeadDim` entries, each off by some 4 u from the table and the rotation, on both sides.
TEST_P(RopeInBothLayouts, IsTransposedByTheOtherSignWhateverTheAttentionFactor) {
  constexpr Index kHeadDim = 16;
  const RopeTable table = Table(GetParam(), 100, kHeadDim, 50, 1.3);
  const std::vector<float> x = Values(GaussianMatrix(1, kHeadDim, 6));
  const std::vector<float> y = Values(GaussianMatrix(1, kHeadDim, 7));
  const auto dot = [](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i)
      sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
  };
  const double norms = std::sqrt(dot(x, x) * dot(y, y));
  for (Index t = 0; t < 50; ++t) {
    EXPECT_NEAR(dot(y, Rotated(table, t, 1, x)), dot(Rotated(table, t, -1, y), x),
                1.3 * 16 * kHalfUlpOfOne * norms)
        << t;
  }
}

TEST_P(RopeInBothLayouts, MakesEveryPairLongerByTheAttentionFactor) {
  constexpr Index kHeadDim = 6;
  const std::vector<float> row = Values(GaussianMatrix(1, kHeadDim, 8));
  const std::vector<float> plain = Rotated(Table(GetParam(), 100, kHeadDim, 3), 2, 1, row);
  const std::vector<float> longer = Rotated(Table(GetParam(), 100, kHeadDim, 3, 2), 2, 1, row);
  for (size_t i = 0; i < row.size(); ++i) EXPECT_EQ(longer[i], 2 * plain[i]) << i;
}

TEST(RopeTables, AreOneForAllLengthsWhoseFrequenciesAreTheSame) {
  const Rope dynamic{.scaling = RopeScaling::kDynamic, .factor = 2, .max_positions = 8};
  const RopeTables tables(dynamic, 8, {3, 8, 9, 20, 8});
  EXPECT_EQ(&tables.of(3), &tables.of(8));
  EXPECT_NE(&tables.of(8), &tables.of(9));
  EXPECT_NE(&tables.of(9), &tables.of(20));
  EXPECT_EQ(tables.of(3).cos.rows(), 8);
  EXPECT_EQ(tables.of(20).cos.rows(), 20);
  EXPECT_LT(tables.of(20).sin(1, 1), tables.of(9).sin(1, 1));  // a longer wave
}

TEST(RopeTables, TurnLongSequencesByTheLongFactors) {
  const Rope longrope{.scaling = RopeScaling::kLongrope,
                      .original_max_positions = 4,
                      .short_factor = {1, 1},
                      .long_factor = {2, 5}};
  const RopeTables tables(longrope, 4, {4, 5});
  EXPECT_NEAR(tables.of(4).sin(1, 0), std::sin(1), kHalfUlpOfOne);
  EXPECT_NEAR(tables.of(5).sin(1, 0), std::sin(0.5), kHalfUlpOfOne);
  EXPECT_NEAR(tables.of(5).sin(1, 1), std::sin(0.01 / 5), kHalfUlpOfOne);
}

TEST(RopeTable, HoldsCosinesAndSinesOfFallingFrequencies) {
  const RopeTable table = Table(Layout::kRotateHalf, 100, 4, 5);  // frequencies 1 and 0.1
  ASSERT_EQ(table.cos.rows(), 5);
  ASSERT_EQ(table.cos.cols(), 2);
  for (Index t = 0; t < 5; ++t) {
    const double angle = static_cast<double>(t);
    EXPECT_NEAR(table.cos(t, 0), std::cos(angle), kHalfUlpOfOne);
    EXPECT_NEAR(table.sin(t, 0), std::sin(angle), kHalfUlpOfOne);
    EXPECT_NEAR(table.cos(t, 1), std::cos(angle / 10), kHalfUlpOfOne);
    EXPECT_NEAR(table.sin(t, 1), std::sin(angle / 10), kHalfUlpOfOne);
  }
}

// theta = 10000 and 8 dimensions: the frequencies are 1, 1/10, 1/100 and 1/1000, so position 10^5
// has round angles. Float32 would be off by 10^5 u = 0.006 in the first; float64 is off by at most
// 10^5 * 2^-51, beside the rounding of the result.
TEST(RopeTable, IsAccurateAtLargePositions) {
  constexpr Index kPosition = 100'000;
  const RopeTable table = Table(Layout::kRotateHalf, 10000, 8, kPosition + 1);
  const double angles[] = {100'000, 10'000, 1'000, 100};
  for (Index i = 0; i < 4; ++i) {
    EXPECT_NEAR(table.cos(kPosition, i), std::cos(angles[i]), kHalfUlpOfOne + 1e5 * 0x1p-51) << i;
    EXPECT_NEAR(table.sin(kPosition, i), std::sin(angles[i]), kHalfUlpOfOne + 1e5 * 0x1p-51) << i;
  }
}

TEST(RopeTable, IsEmptyUntilMade) {
  EXPECT_TRUE(RopeTable().empty());
  EXPECT_FALSE(Table(Layout::kInterleaved, 10000, 2, 1).empty());
}

}  // namespace
}  // namespace attnprune
