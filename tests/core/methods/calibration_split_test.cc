#include "core/methods/calibration_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/problem/batches.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;

TEST(DefaultBatchesPerStep, IsAQuarterRoundedUpAndFourAtMost) {
  const Index expected[] = {1, 1, 1, 1, 2, 2, 2, 2, 3};
  for (Index k = 1; k <= 9; ++k) EXPECT_EQ(DefaultBatchesPerStep(k), expected[k - 1]) << k;
  EXPECT_EQ(DefaultBatchesPerStep(16), 4);
  EXPECT_EQ(DefaultBatchesPerStep(64), 4);
}

TEST(CalibrationSplit, SpreadsValidationEvenlyAndDealsOutTheRest) {
  const SplitIndices split = SplitBatches(8, 0.25, 4);
  EXPECT_THAT(split.validation, ElementsAre(2, 6));
  EXPECT_THAT(split.fit, ElementsAre(ElementsAre(0, 3, 5), ElementsAre(1, 4, 7)));
}

TEST(CalibrationSplit, KeepsLengthsAndTokensOfEveryBatch) {
  Matrix tokens(6, 1);
  for (Index t = 0; t < 6; ++t) tokens(t, 0) = static_cast<float>(t);
  const Batches batches(std::move(tokens), {1, 2, 3});
  const SplitIndices split = SplitBatches(batches.count(), 0.3, 9);
  const Batches validation = batches.Pick(split.validation).value();
  ASSERT_EQ(validation.count(), 1);
  EXPECT_EQ(validation.length(0), 2);
  EXPECT_EQ(validation.all()(0, 0), 1);
  ASSERT_EQ(split.fit.size(), 1u);
  const Batches fit = batches.Pick(split.fit[0]).value();
  EXPECT_EQ(fit.length(1), 3);
  EXPECT_EQ(fit.all()(3, 0), 5);
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
  size_t validation;
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
    const SplitIndices split = SplitBatches(c.count, c.fraction, c.per_part);
    EXPECT_EQ(split.fit.size(), c.parts);
    for (const std::vector<Index>& part : split.fit) EXPECT_GE(part.size(), 1u);
    EXPECT_EQ(split.validation.size(), c.validation);
  }
}

TEST(CalibrationSplit, PutsEveryBatchOnExactlyOneSide) {
  for (Index count = 1; count < 40; ++count) {
    for (double fraction : {0.0, 0.1, 0.25, 0.5, 0.9}) {
      for (Index per_part : {1, 3, 4, 100}) {
        const SplitIndices split = SplitBatches(count, fraction, per_part);
        std::vector<Index> seen = split.validation;
        for (const std::vector<Index>& part : split.fit) {
          EXPECT_LE(part.size(), static_cast<size_t>(per_part));
          seen.insert(seen.end(), part.begin(), part.end());
        }
        std::sort(seen.begin(), seen.end());
        std::vector<Index> all(static_cast<size_t>(count));
        std::iota(all.begin(), all.end(), Index{0});
        ASSERT_EQ(seen, all) << count << " " << fraction << " " << per_part;
      }
    }
  }
}

}  // namespace
}  // namespace attnprune
