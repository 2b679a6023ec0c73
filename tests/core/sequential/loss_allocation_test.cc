// Which map loses more, against a plain sort of all scores.
#include "core/sequential/loss_allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace attnprune {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

struct Map {
  Matrix w;
  std::vector<double> inputs, outputs;
};

Map RandomMap(Index rows, Index cols, double scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, scale);
  std::uniform_real_distribution<double> uniform(0.5, 2);
  Map map{Matrix(rows, cols), {}, {}};
  for (float& entry : map.w.flat()) entry = static_cast<float>(normal(random));
  for (Index i = 0; i < cols; ++i) map.inputs.push_back(uniform(random));
  for (Index i = 0; i < rows; ++i) map.outputs.push_back(uniform(random));
  return map;
}

ScoreHistogram HistogramOf(const Map& map, int threads = 1) {
  ThreadPool pool(threads);
  ScoreHistogram histogram;
  histogram.Add(map.w, map.inputs, map.outputs, pool);
  return histogram;
}

TEST(LossAllocationTest, OneThresholdForAllMapsWhereTheRangeIsWide) {
  const Map maps[] = {RandomMap(80, 50, 1.0, 1), RandomMap(90, 40, 0.8, 2),
                      RandomMap(70, 60, 1.3, 3)};
  std::vector<double> scores;
  std::vector<ScoreHistogram> histograms;
  const auto score = [](const Map& map, Index a, Index b) {
    const double w = map.w(a, b);
    return w * w * map.inputs[static_cast<size_t>(b)] * map.outputs[static_cast<size_t>(a)];
  };
  for (const Map& map : maps) {
    histograms.push_back(HistogramOf(map));
    for (Index a = 0; a < map.w.rows(); ++a) {
      for (Index b = 0; b < map.w.cols(); ++b) scores.push_back(score(map, a, b));
    }
  }
  std::sort(scores.begin(), scores.end());
  const double threshold = scores[static_cast<size_t>(0.6 * static_cast<double>(scores.size()))];
  const std::vector<double> sparsities = SparsitiesByLoss(histograms, 0.6, 0.4);
  for (size_t i = 0; i < std::size(maps); ++i) {
    double below = 0;
    for (Index a = 0; a < maps[i].w.rows(); ++a) {
      for (Index b = 0; b < maps[i].w.cols(); ++b) below += score(maps[i], a, b) < threshold;
    }
    EXPECT_NEAR(sparsities[i], below / static_cast<double>(maps[i].w.size()), 0.01);
  }
}

TEST(LossAllocationTest, NoMapIsFurtherFromRhoThanTheRangeAndTogetherTheyLoseRho) {
  const Map maps[] = {RandomMap(80, 50, 1.0, 1), RandomMap(90, 40, 0.01, 2),
                      RandomMap(70, 60, 20, 3)};
  std::vector<ScoreHistogram> histograms;
  for (const Map& map : maps) histograms.push_back(HistogramOf(map));
  const std::vector<double> sparsities = SparsitiesByLoss(histograms, 0.7, 0.05);
  double gone = 0, all = 0;
  for (size_t i = 0; i < std::size(maps); ++i) {
    EXPECT_NEAR(sparsities[i], 0.7, 0.05 + 1e-12);
    gone += sparsities[i] * static_cast<double>(maps[i].w.size());
    all += static_cast<double>(maps[i].w.size());
  }
  EXPECT_NEAR(gone / all, 0.7, 1e-6);
  EXPECT_NEAR(sparsities[1], 0.75, 1e-9);  // small weights go first
  EXPECT_NEAR(sparsities[2], 0.65, 1e-9);
}

TEST(LossAllocationTest, SparsitiesStayBelowOneAndAtLeastZero) {
  const std::vector<ScoreHistogram> maps = {HistogramOf(RandomMap(40, 50, 1, 1)),
                                            HistogramOf(RandomMap(40, 50, 1e-3, 2))};
  const std::vector<double> most = SparsitiesByLoss(maps, 0.98, 0.5);
  EXPECT_LT(most[1], 1);
  EXPECT_NEAR((most[0] + most[1]) / 2, 0.98, 1e-6);
  const std::vector<double> least = SparsitiesByLoss(maps, 0.02, 0.5);
  EXPECT_GE(least[0], 0);
  EXPECT_NEAR((least[0] + least[1]) / 2, 0.02, 1e-6);
}

TEST(LossAllocationTest, EqualScoresAreSharedEvenly) {
  Map map{Matrix(30, 30), std::vector<double>(30, 1), std::vector<double>(30, 1)};
  for (float& entry : map.w.flat()) entry = 2;
  const ScoreHistogram one = HistogramOf(map);
  EXPECT_THAT(SparsitiesByLoss({one, one}, 0.5, 0.1),
              ElementsAre(DoubleNear(0.5, 1e-6), DoubleNear(0.5, 1e-6)));
}

TEST(LossAllocationTest, CountsDoNotDependOnThreads) {
  const Map map = RandomMap(500, 30, 1, 4);
  const ScoreHistogram one = HistogramOf(map, 1), three = HistogramOf(map, 3);
  EXPECT_EQ(one.size(), 15000);
  for (double place = 0; place <= ScoreHistogram::bins(); place += 64) {
    EXPECT_EQ(one.Below(place), three.Below(place));
  }
  EXPECT_EQ(one.Below(ScoreHistogram::bins()), 15000);
}

TEST(LossAllocationTest, CountsMakeTheHistogramAgain) {
  const ScoreHistogram one = HistogramOf(RandomMap(40, 50, 1, 1));
  const absl::optional<ScoreHistogram> again = ScoreHistogram::Of(one.counts());
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->size(), one.size());
  EXPECT_EQ(again->counts(), one.counts());
  std::vector<int64_t> counts(one.counts().begin(), one.counts().end());
  counts[3] = -1;
  EXPECT_FALSE(ScoreHistogram::Of(counts).has_value());
  counts.pop_back();
  EXPECT_FALSE(ScoreHistogram::Of(counts).has_value());
}

}  // namespace
}  // namespace attnprune
