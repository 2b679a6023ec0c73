#include "core/methods/calibration_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace attnprune {
namespace {

using ::testing::ElementsAre;

// `count` batches of one token, which is the batch's number.
Batches Numbered(Index count) {
  Matrix tokens(count, 1);
  for (Index j = 0; j < count; ++j) tokens(j, 0) = static_cast<float>(j);
  return Batches(std::move(tokens), std::vector<Index>(static_cast<size_t>(count), 1));
}

std::vector<int> Numbers(const Batches& batches) {
  std::vector<int> numbers;
  for (Index j = 0; j < batches.count(); ++j) {
    numbers.push_back(static_cast<int>(batches.batch(j)(0, 0)));
  }
  return numbers;
}

std::vector<std::vector<int>> Parts(const CalibrationSplit& split) {
  std::vector<std::vector<int>> parts;
  for (const Batches& part : split.fit) parts.push_back(Numbers(part));
  return parts;
}

TEST(DefaultBatchesPerStep, IsAQuarterRoundedUpAndFourAtMost) {
  const Index expected[] = {1, 1, 1, 1, 2, 2, 2, 2, 3};
  for (Index k = 1; k <= 9; ++k) EXPECT_EQ(DefaultBatchesPerStep(k), expected[k - 1]) << k;
  EXPECT_EQ(DefaultBatchesPerStep(16), 4);
  EXPECT_EQ(DefaultBatchesPerStep(64), 4);
}

TEST(CalibrationSplit, SpreadsValidationEvenlyAndDealsOutTheRest) {
  const CalibrationSplit split = SplitCalibration(Numbered(8), 0.25, 4).value();
  EXPECT_THAT(Numbers(split.validation), ElementsAre(2, 6));
  EXPECT_THAT(Parts(split), ElementsAre(ElementsAre(0, 3, 5), ElementsAre(1, 4, 7)));
}

TEST(CalibrationSplit, KeepsLengthsAndTokensOfEveryBatch) {
  Matrix tokens(6, 1);
  for (Index t = 0; t < 6; ++t) tokens(t, 0) = static_cast<float>(t);
  const CalibrationSplit split =
      SplitCalibration(Batches(std::move(tokens), {1, 2, 3}), 0.3, 9).value();
  ASSERT_EQ(split.validation.count(), 1);
  EXPECT_EQ(split.validation.length(0), 2);
  EXPECT_EQ(split.validation.all()(0, 0), 1);
  ASSERT_EQ(split.fit.size(), 1u);
  EXPECT_EQ(split.fit[0].length(1), 3);
  EXPECT_EQ(split.fit[0].all()(3, 0), 5);
}

// The rule that job.proto states, in whole numbers.
TEST(BatchesSetApart, AreThoseInTheMiddleOfEqualStretches) {
  EXPECT_THAT(BatchesSetApart(2, 0.25), ElementsAre(false, true));
  EXPECT_THAT(BatchesSetApart(3, 0.9), ElementsAre(true, false, true)) << "at most all but one";
  EXPECT_THAT(BatchesSetApart(5, 0.4), ElementsAre(false, true, false, true, false));
  EXPECT_THAT(BatchesSetApart(1, 0.9), ElementsAre(false));
}

struct Case {
  std::string sentence;
  Index count;
  double fraction;
  Index per_part;
  Index validation;
  size_t parts;
};

TEST(CalibrationSplit, LeavesAtLeastOneBatchOnEachSide) {
  const Case cases[] = {
      {"a single batch is learned from and decides", 1, 0.5, 4, 0, 1},
      {"a fraction of 0 sets nothing apart", 4, 0, 4, 0, 1},
      {"a small fraction sets one apart", 4, 0.01, 4, 1, 1},
      {"a large fraction leaves one", 3, 0.9, 4, 2, 1},
      {"of two batches each side has one", 2, 0.25, 4, 1, 1},
      {"a part a batch", 4, 0.25, 1, 1, 3},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.sentence);
    const CalibrationSplit split =
        SplitCalibration(Numbered(c.count), c.fraction, c.per_part).value();
    EXPECT_EQ(split.fit.size(), c.parts);
    for (const Batches& part : split.fit) EXPECT_GE(part.count(), 1);
    EXPECT_EQ(split.validation.count(), c.validation);
  }
}

TEST(CalibrationSplit, PutsEveryBatchOnExactlyOneSide) {
  for (Index count = 1; count < 40; ++count) {
    for (double fraction : {0.0, 0.1, 0.25, 0.5, 0.9}) {
      for (Index per_part : {1, 3, 4, 100}) {
        const CalibrationSplit split =
            SplitCalibration(Numbered(count), fraction, per_part).value();
        std::vector<int> seen = Numbers(split.validation);
        for (const Batches& part : split.fit) {
          EXPECT_LE(part.count(), per_part);
          for (int number : Numbers(part)) seen.push_back(number);
        }
        std::sort(seen.begin(), seen.end());
        ASSERT_EQ(seen, Numbers(Numbered(count))) << count << " " << fraction << " " << per_part;
      }
    }
  }
}

}  // namespace
}  // namespace attnprune
