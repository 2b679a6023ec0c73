#include "core/methods/saliency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune::testing {
namespace {

// exp of the scores, relative to the first.
std::vector<double> Ratios(const Matrix& scores) {
  std::vector<double> ratios;
  for (float score : scores.flat()) {
    ratios.push_back(std::exp(static_cast<double>(score - scores(0, 0))));
  }
  return ratios;
}

MATCHER_P(RatiosAre, expected, "") {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::abs(arg[i] - expected[i]) > 1e-4 * expected[i]) return false;  // the floor of 1e-6
  }
  return arg.size() == expected.size();
}

// X = diag(1, 2): norms 1 and 2. |W_ij| norm_i norm_j = [[1, 4], [6, 16]].
TEST(LogSaliency, OfAFusedWeightMeetsTheTokensOnBothSides) {
  const Problem problem =
      FusedProblem(MatrixOf({{1, -2}, {3, 4}}), MatrixOf({{1, 0}, {0, 2}}), Sparsity());
  EXPECT_THAT(Ratios(LogSaliency(*PreparedProblem::OfValid(problem).value(),
                                 SearchedWeights::kAttention)[0]),
              RatiosAre(std::vector<double>{1, 4, 6, 16}));
}

// X = I. Without rotary embedding output i of W_Q meets row i of W_K alone: norms 1 and 5; and the
// other way round: 2 and 1.
TEST(LogSaliency, OfAProjectionCountsWhatItsOutputMeets) {
  const Problem problem = ProjectionProblem(MatrixOf({{2, 0}, {0, 1}}), MatrixOf({{1, 0}, {3, 4}}),
                                            MatrixOf({{1, 0}, {0, 1}}), Sparsity());
  const std::vector<Matrix> scores =
      LogSaliency(*PreparedProblem::OfValid(problem).value(), SearchedWeights::kAttention);
  EXPECT_NEAR(Ratios(scores[0])[3], 5.0 / 2, 1e-3);  // |1| 5 over |2| 1
  EXPECT_NEAR(Ratios(scores[1])[2], 3.0 / 2, 1e-3);  // |3| 1 over |1| 2
  EXPECT_NEAR(Ratios(scores[1])[3], 4.0 / 2, 1e-3);
}

// Rotary embedding mixes the pair: both outputs meet both norms together.
TEST(LogSaliency, TakesThePairThatRotaryEmbeddingMixesTogether) {
  for (RopeLayout layout : {RopeLayout::kRotateHalf, RopeLayout::kInterleaved}) {
    Problem problem = ProjectionProblem(MatrixOf({{2, 0}, {0, 1}}), MatrixOf({{1, 0}, {3, 4}}),
                                        MatrixOf({{1, 0}, {0, 1}}), Sparsity());
    std::get<ProjectionWeights>(problem.weights).rope = Rope{.layout = layout};
    EXPECT_NEAR(Ratios(LogSaliency(*PreparedProblem::OfValid(problem).value(),
                                   SearchedWeights::kAttention)[0])[3],
                1.0 / 2, 1e-3);
  }
}

// X = diag(1, 2). W_K's columns (1, 0) and (3, 4) become (1, 0) and (3, 8): what W_Q's outputs
// meet.
TEST(LogSaliency, OfAFactorCountsTheOtherFactorsColumn) {
  const Problem problem = FactoredProblem(MatrixOf({{1, 2}, {3, 0}}), MatrixOf({{1, 3}, {0, 4}}),
                                          MatrixOf({{1, 0}, {0, 2}}), Sparsity());
  const std::vector<Matrix> scores =
      LogSaliency(*PreparedProblem::OfValid(problem).value(), SearchedWeights::kFactors);
  EXPECT_NEAR(Ratios(scores[0])[1], 2 * std::sqrt(73.0), 1e-3);
  EXPECT_NEAR(Ratios(scores[0])[2], 3 * 2, 1e-3);
  EXPECT_NEAR(Ratios(scores[1])[1], 3 * 2 / std::sqrt(37.0), 1e-3);  // W_Q's: (1, 6) and (2, 0)
}

TEST(LogSaliency, OfWeightsThatAreAllZeroIsFiniteAndAllAlike) {
  const Problem problem = FusedProblem(Matrix(2, 2), MatrixOf({{1, 0}, {0, 2}}), Sparsity());
  EXPECT_THAT(Values(LogSaliency(*PreparedProblem::OfValid(problem).value(),
                                 SearchedWeights::kAttention)[0]),
              ::testing::Each(std::log(1e-6f)));
}

}  // namespace
}  // namespace attnprune::testing
