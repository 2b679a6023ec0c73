#include "core/problem/problem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/problem/test_problems.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// w_q = [[1, 2], [3, 4]], w_k = [[5, 6], [7, 8]]: w_q w_k' = [[17, 23], [39, 53]], all exact.
TEST(FusedFromFactors, MultipliesQueryByTransposedKeyAndKeepsBoth) {
  Matrix w_q(2, 2), w_k(2, 2);
  float value = 1;
  for (Matrix* w : {&w_q, &w_k}) {
    for (float& x : w->flat()) x = value++;
  }
  const absl::StatusOr<FusedWeights> fused = FusedFromFactors(std::move(w_q), std::move(w_k));
  ASSERT_TRUE(fused.ok()) << fused.status();
  EXPECT_THAT(fused->w.flat(), ElementsAre(17, 23, 39, 53));
  EXPECT_TRUE(fused->has_factors());
  EXPECT_EQ(fused->w_k(1, 1), 8);
}

TEST(FusedFromFactors, MakesASquareOfTallFactors) {
  const absl::StatusOr<FusedWeights> fused =
      FusedFromFactors(CountingMatrix(5, 1), CountingMatrix(5, 1));
  ASSERT_TRUE(fused.ok()) << fused.status();
  EXPECT_EQ(fused->w.rows(), 5);
  EXPECT_EQ(fused->w.cols(), 5);
}

TEST(FusedFromFactors, RefusesFactorsThatDoNotFit) {
  EXPECT_THAT(FusedFromFactors(Matrix(4, 2), Matrix(4, 3)).status().message(),
              HasSubstr("weights.w_k must match weights.w_q, 4 x 2, got 4 x 3"));
  EXPECT_THAT(FusedFromFactors(Matrix(4, 2), Matrix(3, 2)).status().message(),
              HasSubstr("weights.w_k must match weights.w_q, 4 x 2, got 3 x 2"));
  EXPECT_THAT(FusedFromFactors(Matrix(4, 0), Matrix(4, 0)).status().message(),
              HasSubstr("weights.w_q must have at least one row and one column, got 4 x 0"));
}

TEST(Problem, KnowsItsWidthHeadsAndScaleWhenFused) {
  const Problem problem = FusedTestProblem();
  EXPECT_TRUE(problem.fused());
  EXPECT_EQ(problem.features(), 6);
  EXPECT_EQ(problem.heads(), 1);
  EXPECT_EQ(problem.effective_scale(), 1.0f);
}

TEST(Problem, KnowsItsWidthHeadsAndScaleWithProjections) {
  const Problem problem = ProjectionTestProblem();
  EXPECT_FALSE(problem.fused());
  EXPECT_EQ(problem.features(), 6);
  EXPECT_EQ(problem.heads(), 4);
  EXPECT_EQ(problem.effective_scale(), 0.70710678f);  // 1 / sqrt(2)
}

TEST(Problem, PrefersTheScaleGiven) {
  Problem problem = ProjectionTestProblem();
  problem.scale = 0.25;
  EXPECT_EQ(problem.effective_scale(), 0.25f);
}

TEST(AttentionWeights, AreTheFusedMatrixWithItsInputsAsRows) {
  const Problem problem = FusedTestProblem();
  const std::vector<NamedWeight> weights = AttentionWeights(problem);
  ASSERT_EQ(weights.size(), 1u);
  EXPECT_STREQ(weights[0].name, "w");
  EXPECT_EQ(weights[0].dense.data(), problem.fused_weights().w.data());
  EXPECT_TRUE(weights[0].inputs_are_rows);
}

TEST(AttentionWeights, AreBothProjectionsWithTheirInputsAsColumns) {
  const Problem problem = ProjectionTestProblem();
  const std::vector<NamedWeight> weights = AttentionWeights(problem);
  ASSERT_EQ(weights.size(), 2u);
  EXPECT_STREQ(weights[0].name, "w_q");
  EXPECT_STREQ(weights[1].name, "w_k");
  EXPECT_EQ(weights[0].dense.data(), problem.projections().w_q.data());
  EXPECT_EQ(weights[1].dense.rows(), 4);
  EXPECT_FALSE(weights[0].inputs_are_rows);
  EXPECT_FALSE(weights[1].inputs_are_rows);
}

}  // namespace
}  // namespace attnprune
