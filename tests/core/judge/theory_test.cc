#include "core/judge/theory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/judge/score.h"
#include "tests/core/contract/contract_problems.h"

namespace attnprune::testing {
namespace {

using ::testing::DoubleNear;
using ::testing::HasSubstr;

PruneResult KeepAll(const Problem& problem, double lambda) {
  PruneResult result;
  result.lambda = lambda;
  for (const NamedWeight& weight : AttentionWeights(problem)) {
    PrunedMatrix matrix;
    matrix.name = weight.name;
    matrix.mask = BitMask(weight.dense.rows(), weight.dense.cols(), /*kept=*/true);
    matrix.weights = Matrix::CopyFrom(weight.dense);
    result.matrices.push_back(std::move(matrix));
  }
  return result;
}

absl::StatusOr<TheoryFigures> FiguresOf(const Problem& problem, const PruneResult& result) {
  const absl::StatusOr<Score> score = Judge(problem, result);
  if (!score.ok()) return score.status();
  return score->theory;
}

// n = 2, d = 2, X = diag(2, 1), W = all 1/2: X X' = diag(4, 1), logits X W X' = (2 1; 1 1/2).
Problem Worked() {
  Problem problem;
  problem.weights = FusedWeights{Matrix::Constant(2, 2, 0.5f), {}, {}};
  Matrix x(2, 2);
  x(0, 0) = 2;
  x(1, 1) = 1;
  problem.calibration = Batches(std::move(x), {2});
  return problem;
}

TEST(Theory, FollowsTheFormulasOnAHandWorkedExample) {
  const Problem problem = Worked();
  const auto figures = FiguresOf(problem, KeepAll(problem, 0.1));
  ASSERT_TRUE(figures.ok()) << figures.status();
  constexpr double kRounding = 1e-5;  // relative; delta comes from float32 logits
  const double beta = 1, delta = 1 / (1 + std::exp(0.5));
  const double mu = 2 * 0.5 * beta * delta;
  const double xi = 12 * std::pow(2, -1.5) * 0.5 * 5 * 0.1 * 2 / mu;
  const double lipschitz = 0.1 + 30 * 2 * std::pow(2, 3.5) * std::pow(5, 3);
  EXPECT_THAT(*figures->beta.value, DoubleNear(beta, kRounding));
  EXPECT_THAT(*figures->delta.value, DoubleNear(delta, kRounding));
  EXPECT_THAT(*figures->mu.value, DoubleNear(mu, kRounding));
  EXPECT_THAT(*figures->xi.value, DoubleNear(xi, kRounding * xi));
  EXPECT_THAT(*figures->lipschitz.value, DoubleNear(lipschitz, kRounding * lipschitz));
  EXPECT_EQ(ToString(figures->beta), "1");
}

TEST(Theory, SaysVacuousWhereThereAreMoreTokensThanFeatures) {
  Problem problem = FusedContractProblem();  // 40 tokens of 8 features
  problem.scale = 1;
  const auto figures = FiguresOf(problem, KeepAll(problem, 0.1));
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_FALSE(figures->beta.value.has_value());
  EXPECT_THAT(ToString(figures->beta), HasSubstr("vacuous (it is exactly 0: batch 0 has n = 40"));
  EXPECT_THAT(ToString(figures->mu), HasSubstr("vacuous (beta is)"));
  EXPECT_THAT(ToString(figures->xi), HasSubstr("vacuous (mu is)"));
}

TEST(Theory, SaysVacuousWhereAttentionVanishes) {
  Problem problem = Worked();
  problem.weights = FusedWeights{Matrix::Constant(2, 2, 500.0f), {}, {}};
  const auto figures = FiguresOf(problem, KeepAll(problem, 0.1));
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_THAT(ToString(figures->delta), HasSubstr("vacuous (it is 1e-217"));
}

TEST(Theory, SaysVacuousWhereAWeightIsZeroOrLambdaIs) {
  Problem problem = Worked();
  const auto no_lambda = FiguresOf(problem, KeepAll(problem, 0));
  ASSERT_TRUE(no_lambda.ok());
  EXPECT_THAT(ToString(no_lambda->xi), HasSubstr("lambda is 0"));
  Matrix w = Matrix::Constant(2, 2, 0.5f);
  w(0, 1) = 0;
  problem.weights = FusedWeights{std::move(w), {}, {}};
  const auto zero_weight = FiguresOf(problem, KeepAll(problem, 0.1));
  ASSERT_TRUE(zero_weight.ok());
  EXPECT_THAT(ToString(zero_weight->mu), HasSubstr("W has an entry that is 0"));
}

TEST(Theory, SaysVacuousForAnotherScaleThanTheTheoremsOne) {
  const Problem problem = FusedContractProblem();
  const auto figures = FiguresOf(problem, KeepAll(problem, 0.1));
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_THAT(ToString(figures->lipschitz), HasSubstr("Theorem 4.1 is about scale 1"));
}

// Two batches alike: the loss is a sum over batches, so its bound is too.
TEST(Theory, AddsTheLipschitzBoundsOfTheBatches) {
  Problem problem = Worked();
  const double one = *FiguresOf(problem, KeepAll(problem, 0)).value().lipschitz.value;
  Matrix twice(4, 2);
  for (Index t = 0; t < 4; ++t) twice(t, t % 2) = t % 2 == 0 ? 2 : 1;
  problem.calibration = Batches(std::move(twice), {2, 2});
  const double two = *FiguresOf(problem, KeepAll(problem, 0)).value().lipschitz.value;
  EXPECT_EQ(two, 2 * one);
}

TEST(Theory, SaysVacuousForProjectionsWhichTheTheoremDoesNotCover) {
  const Problem problem = ProjectionContractProblem();
  const auto figures = FiguresOf(problem, KeepAll(problem, 0.05));
  ASSERT_TRUE(figures.ok()) << figures.status();
  for (const TheoryFigure* figure : {&figures->mu, &figures->xi, &figures->lipschitz}) {
    EXPECT_THAT(ToString(*figure), HasSubstr("about the fused problem"));
  }
}

}  // namespace
}  // namespace attnprune::testing
