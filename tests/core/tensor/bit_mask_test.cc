#include "core/tensor/bit_mask.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/core/tensor/tensor_test_util.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

TEST(BitMask, PutsTheFirstEntryInTheLowestBitOfTheFirstByte) {
  BitMask mask(2, 5, false);
  mask.Keep(0);
  mask.Keep(3);
  mask.Keep(9);
  EXPECT_THAT(mask.bytes(), ElementsAre(0b00001001, 0b00000010));
}

TEST(BitMask, DoesNotPadRows) {
  BitMask mask(3, 3, false);
  mask.Keep(3);  // entry (1, 0)
  EXPECT_TRUE(mask.kept(1, 0));
  EXPECT_THAT(mask.bytes(), ElementsAre(0b00001000, 0));
}

TEST(BitMask, LeavesUnusedBitsZeroWhenAllIsKept) {
  EXPECT_THAT(BitMask(1, 11, true).bytes(), ElementsAre(0xFF, 0b00000111));
  EXPECT_THAT(BitMask(2, 4, true).bytes(), ElementsAre(0xFF));
}

TEST(BitMask, PrunesAndKeepsOneEntryOnly) {
  BitMask mask(1, 10, true);
  mask.Prune(8);
  EXPECT_THAT(mask.bytes(), ElementsAre(0xFF, 0b10));
  mask.Keep(8);
  EXPECT_EQ(mask, BitMask(1, 10, true));
}

TEST(BitMask, CountsPrunedEntriesNotUnusedBits) {
  for (Index cols = 0; cols <= 17; ++cols) {
    EXPECT_EQ(BitMask(3, cols, true).CountPruned(), 0) << cols;
    EXPECT_EQ(BitMask(3, cols, false).CountPruned(), 3 * cols) << cols;
  }
}

TEST(BitMask, SurvivesTheRoundTripThroughItsBytes) {
  std::mt19937 random(7);
  for (Index cols = 0; cols <= 20; ++cols) {
    BitMask mask(3, cols, true);
    for (Index i = 0; i < mask.size(); ++i) {
      if (random() % 2 == 0) mask.Prune(i);
    }
    const absl::StatusOr<BitMask> back = BitMask::FromBytes(3, cols, mask.bytes());
    ASSERT_THAT(back, Succeeds());
    EXPECT_EQ(*back, mask);
    const Matrix ones = mask.ToMatrix();
    EXPECT_EQ(testing::MaskOfNonZeros(ones), mask);
  }
}

TEST(BitMask, RefusesASetUnusedBit) {
  EXPECT_THAT(BitMask::FromBytes(1, 3, {0b00001000}), Fails(kInvalid, "unused bits"));
}

TEST(BitMask, RefusesBytesThatDoNotFitTheShape) {
  EXPECT_THAT(BitMask::FromBytes(1, 8, {1, 0}), Fails(kInvalid, "must have 1 bytes, got 2"));
  EXPECT_THAT(BitMask::FromBytes(1, 9, {1}), Fails(kInvalid, "must have 2 bytes, got 1"));
}

TEST(BitMask, RefusesShapesThatOverflow) {
  constexpr Index kMax = std::numeric_limits<Index>::max();
  EXPECT_THAT(BitMask::FromBytes(kMax, 2, {}), Fails(kInvalid, "fit 63 bits"));
  EXPECT_THAT(BitMask::FromBytes(kMax, 1, {}), Fails(kInvalid, "must have 1152921504606846976"));
  EXPECT_THAT(BitMask::FromBytes(-1, 1, {}), Fails(kInvalid, "at least 0 x 0"));
}

TEST(BitMask, TakesNaNForAnEntryAndBothZerosForNone) {
  Matrix m(1, 4);
  m(0, 0) = std::nanf("");
  m(0, 1) = -0.0f;
  m(0, 2) = std::numeric_limits<float>::denorm_min();
  EXPECT_THAT(testing::MaskOfNonZeros(m).bytes(), ElementsAre(0b0101));
}

TEST(BitMask, ReadsAViewWithAStride) {
  const Matrix m = Matrix::Constant(2, 4, 1.0f);
  EXPECT_THAT(testing::MaskOfNonZeros(MatrixView(m).Cols(1, 3)).bytes(), ElementsAre(0b00111111));
}

// A product with the mask would leave -0 for negative weights and NaN for infinite ones.
TEST(BitMask, AppliesAsExactPositiveZero) {
  Matrix m(1, 3);
  m(0, 0) = -5.0f;
  m(0, 1) = -std::numeric_limits<float>::infinity();
  m(0, 2) = std::nanf("");
  const Matrix pruned = BitMask(1, 3, false).Apply(m);
  EXPECT_THAT(pruned.flat(), Each(0.0f));
  for (const float value : pruned.flat()) EXPECT_FALSE(std::signbit(value));
}

TEST(BitMask, AppliesWithoutTouchingWhatIsKept) {
  Matrix m(2, 2);
  m(0, 0) = -0.0f;
  m(1, 1) = 3.25f;
  BitMask mask(2, 2, true);
  mask.Prune(3);
  const Matrix pruned = mask.Apply(m);
  EXPECT_TRUE(std::signbit(pruned(0, 0)));
  EXPECT_EQ(pruned(1, 1), 0.0f);
  EXPECT_THAT(mask.ToMatrix().flat(), ElementsAre(1, 1, 1, 0));
}

}  // namespace
}  // namespace attnprune
