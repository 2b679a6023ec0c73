#include "core/kernels/alibi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/kernels/attention_kernels.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;

TEST(AlibiSlopes, FallByPowersOfTwoFromHeadToHead) {
  EXPECT_THAT(AlibiSlopes(1), ElementsAre(0x1p-8));
  EXPECT_THAT(AlibiSlopes(8),
              ElementsAre(0x1p-1, 0x1p-2, 0x1p-3, 0x1p-4, 0x1p-5, 0x1p-6, 0x1p-7, 0x1p-8));
}

// p = 4: 2^-2, 2^-4, 2^-6, 2^-8, then 2^-1 and 2^-3 of the slopes of twice as many heads.
TEST(AlibiSlopes, AreFilledUpFromTwiceAsManyHeadsWhereThatIsNoPowerOfTwo) {
  EXPECT_THAT(AlibiSlopes(6), ElementsAre(0x1p-2, 0x1p-4, 0x1p-6, 0x1p-8, 0x1p-1, 0x1p-3));
  EXPECT_THAT(AlibiSlopes(3), ElementsAre(0x1p-4, 0x1p-8, 0x1p-2));
}

TEST(AlibiBias, IsTheSlopeTimesTheKeyInBloomWhateverTheScale) {
  const Matrix bias = AlibiBias(Alibi::kBloom, 6, 5, 0.3f);
  EXPECT_EQ(bias.rows(), 6);
  for (Index j = 0; j < 5; ++j) {
    EXPECT_EQ(bias(1, j), 0x1p-4f * static_cast<float>(j));
    EXPECT_EQ(bias(4, j), 0.5f * static_cast<float>(j));
  }
}

// 12 heads: the ninth has p = 8 and slope 2^-0.5 = 0.70710678, in bfloat16 0.70703125 = 181 / 256.
// Times 3 that is 2.12109375 = 543 / 256: bfloat16 has steps of 4 / 256 there, and the nearer is
// 544 / 256 = 2.125.
TEST(AlibiBias, IsRoundedToBfloat16BeforeAndAfterTheKeyInFalconAndScaled) {
  const Matrix bias = AlibiBias(Alibi::kFalcon, 12, 4, 0.25f);
  EXPECT_EQ(bias(8, 0), 0);
  EXPECT_EQ(bias(8, 1), 0.25f * 0.70703125f);
  EXPECT_EQ(bias(8, 3), 0.25f * 2.125f);
}

TEST(AlibiBias, IsPaddedToWholeVectors) {
  EXPECT_EQ(AlibiBias(Alibi::kBloom, 2, 17, 1).cols(), 2 * kAttentionPadding);
  EXPECT_EQ(AlibiBias(Alibi::kBloom, 2, 16, 1).cols(), kAttentionPadding);
}

TEST(AlibiBias, IsEmptyWithoutAlibi) { EXPECT_TRUE(AlibiBias(Alibi::kNone, 4, 9, 1).empty()); }

}  // namespace
}  // namespace attnprune
