#include "core/kernels/select.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::attnprune::testing::MatrixOf;
using ::attnprune::testing::Picture;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The rule itself: sort by score, equal scores staying in order of index, and take the first.
std::vector<Index> ReferenceIndices(const std::vector<float>& scores, Index count) {
  std::vector<Index> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return scores[static_cast<size_t>(a)] < scores[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

TEST(SmallestIndices, AreListedInOrderOfIndex) {
  EXPECT_THAT(SmallestIndices({3, 1, 4, 1.5, 9, 2.6}, 3), ElementsAre(1, 3, 5));
}

TEST(SmallestIndices, TakeTheLowerIndexOfATie) {
  EXPECT_THAT(SmallestIndices({2, 1, 2, 0, 2, 2}, 4), ElementsAre(0, 1, 2, 3));
}

TEST(SmallestIndices, TakeMinusZeroAndZeroForEqual) {
  EXPECT_THAT(SmallestIndices({0.0f, -0.0f, 0.0f}, 1), ElementsAre(0));
}

TEST(SmallestIndices, OrderInfinitiesAtTheEnds) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(SmallestIndices({kInfinity, 3, -kInfinity, kInfinity}, 3), ElementsAre(0, 1, 2));
}

TEST(SmallestIndices, AreNoneOfAnything) {
  EXPECT_THAT(SmallestIndices({2, 1}, 0), IsEmpty());
  EXPECT_THAT(SmallestIndices({}, 0), IsEmpty());
}

TEST(SmallestIndices, MatchAStableSortOnScoresFullOfTies) {
  constexpr unsigned kSeed = 20261121;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  for (size_t size = 1; size <= 70; ++size) {
    std::vector<float> scores(size);
    for (float& score : scores) score = static_cast<float>(static_cast<int>(random() % 5) - 2);
    for (Index count = 0; count <= static_cast<Index>(size); ++count) {
      ASSERT_EQ(SmallestIndices(scores, count), ReferenceIndices(scores, count))
          << "size " << size << ", count " << count;
    }
  }
}

TEST(SmallestIndices, MatchAStableSortOnManyDistinctScores) {
  const Matrix scores = testing::GaussianMatrix(100, 100, 7);
  const std::vector<float> values = testing::Values(scores);
  EXPECT_EQ(SmallestIndices(values, 4321), ReferenceIndices(values, 4321));
}

TEST(SmallestFinder, ForgetsTheRunBefore) {
  SmallestFinder finder;
  std::vector<Index> seen;
  finder.ForEach({1, 2, 3, 4}, 4, [](Index) {});
  finder.ForEach({9, 8}, 1, [&](Index i) { seen.push_back(i); });
  EXPECT_THAT(seen, ElementsAre(1));
}

TEST(PruneSmallest, ComparesTheWholeMatrix) {
  ThreadPool pool(1);
  EXPECT_THAT(Picture(PruneSmallest(MatrixOf({{1, 2, 9}, {3, 8, 7}}), 3, pool)),
              ElementsAre("..x", ".xx"));
}

TEST(PruneSmallest, PrunesFromTheFrontWhereAllIsEqual) {
  ThreadPool pool(1);
  EXPECT_THAT(Picture(PruneSmallest(Matrix::Constant(2, 3, 1.0f), 4, pool)),
              ElementsAre("...", ".xx"));
}

TEST(PruneSmallest, PrunesNothingOrEverything) {
  ThreadPool pool(1);
  const Matrix scores = MatrixOf({{1, 2}});
  EXPECT_THAT(Picture(PruneSmallest(scores, 0, pool)), ElementsAre("xx"));
  EXPECT_THAT(Picture(PruneSmallest(scores, 2, pool)), ElementsAre(".."));
}

TEST(PruneSmallestPerGroup, ComparesWithinEachRowWhereTheGroupIsOne) {
  ThreadPool pool(1);
  EXPECT_THAT(Picture(PruneSmallestPerGroup(MatrixOf({{1, 2, 9}, {7, 8, 3}}), 2, 3, pool)),
              ElementsAre("..x", ".x."));
}

TEST(PruneSmallestPerGroup, ComparesWithinConsecutiveEntries) {
  ThreadPool pool(1);
  EXPECT_THAT(Picture(PruneSmallestPerGroup(
                  MatrixOf({{1, 2, 3, 4, 9, 9, 1, 2}, {4, 3, 2, 1, 5, 5, 5, 5}}), 2, 4, pool)),
              ElementsAre("..xxxx..", "xx....xx"));
}

// --- on threads
// -------------------------------------------------------------------------

// More than one run of scores, in three kinds: all apart, most alike, all in one bin. An odd number
// of columns: no row begins with a byte of the mask.
std::vector<Matrix> LargeScores() {
  constexpr Index kRows = 200, kCols = 701;
  std::mt19937 random(20261124);
  std::normal_distribution<float> normal;
  std::vector<Matrix> kinds;
  for (int kind = 0; kind < 3; ++kind) {
    Matrix& scores = kinds.emplace_back(kRows, kCols);
    for (float& score : scores.flat()) {
      const float value = normal(random);
      score = kind == 0 ? value : kind == 1 ? std::round(value) : 1 + 1e-4f * value;
    }
  }
  return kinds;
}

BitMask ReferenceMask(const Matrix& scores, Index count, Index group) {
  BitMask mask(scores.rows(), scores.cols(), /*kept=*/true);
  const std::vector<float> values = testing::Values(scores);
  for (Index begin = 0; begin < scores.size(); begin += group) {
    const std::vector<float> some(values.begin() + begin, values.begin() + begin + group);
    for (const Index i : ReferenceIndices(some, count)) mask.Prune(begin + i);
  }
  return mask;
}

TEST(PruneSmallest, PrunesWhatAStableSortDoesOnAnyNumberOfThreads) {
  for (const Matrix& scores : LargeScores()) {
    for (const Index count : {Index{0}, Index{1}, Index{69'999}, Index{126'000}, scores.size()}) {
      const BitMask expected = ReferenceMask(scores, count, scores.size());
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        ASSERT_EQ(PruneSmallest(scores, count, pool), expected) << count << " on " << threads;
        Matrix mask = Matrix::Constant(scores.rows(), scores.cols(), -7);
        PruneSmallestInto(scores, count, pool, mask);
        ASSERT_EQ(mask.flat(), expected.ToMatrix().flat()) << count << " on " << threads;
      }
    }
  }
}

TEST(PruneSmallestPerGroup, PrunesWhatAStableSortOfEachGroupDoesOnAnyNumberOfThreads) {
  for (const Matrix& scores : LargeScores()) {
    for (const Index count : {Index{0}, Index{1}, Index{350}, Index{701}}) {
      const BitMask expected = ReferenceMask(scores, count, scores.cols());
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        ASSERT_EQ(PruneSmallestPerGroup(scores, count, scores.cols(), pool), expected)
            << count << " on " << threads;
      }
    }
  }
}

TEST(PruneSmallest, OrdersSignsZerosAndInfinities) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  ThreadPool pool(1);
  const Matrix scores = MatrixOf({{0.0f, -1.0f, -0.0f, kInfinity, -kInfinity, 1e-40f, -1e-40f}});
  for (Index count = 0; count <= scores.size(); ++count) {
    EXPECT_EQ(PruneSmallest(scores, count, pool), ReferenceMask(scores, count, scores.size()))
        << count;
  }
}

}  // namespace
}  // namespace attnprune
