#include "core/judge/score.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/judge/linear_error.h"
#include "core/kernels/gram.h"
#include "core/methods/registry.h"
#include "tests/core/contract/contract_problems.h"
#include "tests/support/matrices.h"

namespace attnprune::testing {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// W = diag(3, 1), X = I: two tokens, of which the second may attend to both.
//   dense:  f_2 = softmax(0, 1);  without W_22: f~_2 = softmax(0, 0) = (1/2, 1/2).
Problem TwoTokens() {
  Problem problem;
  FusedWeights weights{Matrix(2, 2), {}, {}};
  weights.w(0, 0) = 3;
  weights.w(1, 1) = 1;
  problem.weights = std::move(weights);
  Matrix x(2, 2);
  x(0, 0) = x(1, 1) = 1;
  problem.calibration = Batches(std::move(x), {2});
  return problem;
}

PruneResult Keeping(const Problem& problem, BitMask mask) {
  PruneResult result;
  PrunedMatrix matrix;
  matrix.name = "w";
  matrix.weights = mask.Apply(problem.fused_weights().w);
  matrix.mask = std::move(mask);
  result.matrices.push_back(std::move(matrix));
  return result;
}

TEST(Judge, ScoresAHandWorkedExample) {
  const Problem problem = TwoTokens();
  BitMask mask(2, 2, /*kept=*/true);
  mask.Prune(3);  // W_22
  const auto score = Judge(problem, Keeping(problem, std::move(mask)));
  ASSERT_TRUE(score.ok()) << score.status();
  const double p = std::exp(1.0) / (1 + std::exp(1.0));  // f_22
  const double difference = 2 * (p - 0.5) * (p - 0.5);
  const double dense = 1 + p * p + (1 - p) * (1 - p);
  constexpr double kFewRoundings = 1e-6;  // a handful of float32 operations on numbers below 1
  EXPECT_THAT(score->calibration.relative_error, DoubleNear(difference / dense, kFewRoundings));
  ASSERT_EQ(score->calibration.per_head.size(), 1u);
  EXPECT_EQ(score->calibration.per_head[0], score->calibration.relative_error);
  EXPECT_EQ(score->calibration.linear_error, 0.1);  // 1^2 / (3^2 + 1^2)
  EXPECT_FALSE(score->calibration.soft_relative_error.has_value());
  EXPECT_FALSE(score->held_out.has_value());
  ASSERT_EQ(score->sparsity.size(), 1u);
  EXPECT_EQ(score->sparsity[0].pruned, 1);
  EXPECT_EQ(score->sparsity[0].achieved(), 0.25);
}

TEST(Judge, SaysNothingWasLostWhereNothingWasPruned) {
  const Problem problem = TwoTokens();
  const auto score = Judge(problem, Keeping(problem, BitMask(2, 2, /*kept=*/true)));
  ASSERT_TRUE(score.ok());
  EXPECT_EQ(score->calibration.relative_error, 0);
  EXPECT_EQ(score->calibration.linear_error, 0);
}

TEST(Judge, ScoresTheSoftMaskApartFromTheBinaryOne) {
  const Problem problem = TwoTokens();
  PruneResult result = Keeping(problem, BitMask(2, 2, /*kept=*/true));
  result.matrices[0].soft_mask = Matrix::Constant(2, 2, 0.0f);  // f~ uniform
  const auto score = Judge(problem, result);
  ASSERT_TRUE(score.ok());
  EXPECT_EQ(score->calibration.relative_error, 0);
  ASSERT_TRUE(score->calibration.soft_relative_error.has_value());
  EXPECT_GT(*score->calibration.soft_relative_error, 0.01);
}

TEST(Judge, ScoresTheMaskAloneWhereKeptWeightsHaveMoved) {
  const Problem problem = TwoTokens();
  BitMask mask(2, 2, /*kept=*/true);
  mask.Prune(3);
  const PruneResult mask_only = Keeping(problem, mask);
  PruneResult moved = Keeping(problem, mask);
  moved.matrices[0].weights(0, 0) += 1;
  const Score expected = Judge(problem, mask_only).value(), score = Judge(problem, moved).value();
  EXPECT_FALSE(expected.calibration.mask_only_relative_error.has_value());
  EXPECT_EQ(score.calibration.mask_only_relative_error, expected.calibration.relative_error);
}

TEST(Judge, ScoresTheMaskAloneOfFactorsByTheirProduct) {
  const Problem problem = FactoredContractProblem();
  PruneResult result = CreateMethod("magnitude", {{"factors", 1}}).value()->Prune(problem).value();
  const Score expected = Judge(problem, result).value();
  for (float& w : result.matrices[1].weights.flat()) w *= 1.5f;  // zeros stay zeros
  const Score score = Judge(problem, result).value();
  EXPECT_EQ(score.calibration.mask_only_relative_error, expected.calibration.relative_error);
  EXPECT_EQ(score.held_out->mask_only_relative_error, expected.held_out->relative_error);
}

// Pruning everything in one head's rows of W_Q changes that head alone.
TEST(Judge, BlamesTheHeadThatWasPruned) {
  const Problem problem = ProjectionContractProblem();
  PruneResult result;
  for (const NamedWeight& weight : AttentionWeights(problem)) {
    PrunedMatrix matrix;
    matrix.name = weight.name;
    matrix.mask = BitMask(weight.dense.rows(), weight.dense.cols(), /*kept=*/true);
    if (matrix.name == "w_q") {
      for (Index i = 32; i < 64; ++i) matrix.mask.Prune(i);  // rows 4 to 7: head 1
    }
    matrix.weights = matrix.mask.Apply(weight.dense);
    result.matrices.push_back(std::move(matrix));
  }
  const auto score = Judge(problem, result);
  ASSERT_TRUE(score.ok()) << score.status();
  EXPECT_THAT(score->calibration.per_head, ElementsAre(0, ::testing::Gt(0.0), 0, 0));
  EXPECT_THAT(score->held_out->per_head, ElementsAre(0, ::testing::Gt(0.0), 0, 0));
  EXPECT_EQ(score->calibration.linear_error_per_matrix[1], 0);
}

TEST(Judge, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Problem problem = ProjectionContractProblem();
  const PruneResult result = CreateMethod("wanda").value()->Prune(problem).value();
  const Score one = Judge(problem, result, {.threads = 1}).value();
  for (int threads : {2, 4}) {
    const Score many = Judge(problem, result, {.threads = threads}).value();
    EXPECT_EQ(one.calibration.relative_error, many.calibration.relative_error);
    EXPECT_EQ(one.calibration.per_head, many.calibration.per_head);
    EXPECT_EQ(one.calibration.linear_error, many.calibration.linear_error);
    EXPECT_EQ(one.held_out->relative_error, many.held_out->relative_error);
  }
}

std::vector<double> SharesTold(ResultJudge& judge, const PruneResult& result) {
  std::vector<double> shares;
  EXPECT_TRUE(judge.Judge(result, [&](double share) { shares.push_back(share); }).ok());
  return shares;
}

// As after a search, which releases the dense attention: making it again counts as a pass.
TEST(Judge, TellsHowFarItIsWithTheDenseAttentionToo) {
  const Problem problem = ProjectionContractProblem();
  const auto prepared = PreparedProblem::Create(problem).value();
  const PruneResult result = CreateMethod("wanda").value()->Prune(*prepared).value();
  ResultJudge judge(*prepared);
  const std::vector<double> making_both = SharesTold(judge, result);
  const std::vector<double> making_none = SharesTold(judge, result);
  prepared->ReleaseCalibration();
  const std::vector<double> making_one = SharesTold(judge, result);
  for (const auto* shares : {&making_both, &making_none, &making_one}) {
    ASSERT_FALSE(shares->empty());
    EXPECT_TRUE(std::is_sorted(shares->begin(), shares->end()));
    EXPECT_DOUBLE_EQ(shares->back(), 1);
  }
  EXPECT_LT(making_none.size(), making_one.size());
  EXPECT_LT(making_one.size(), making_both.size());
}

TEST(Judge, ScoresPrunedFactorsByTheirProduct) {
  const Problem problem = FactoredContractProblem();
  const PruneResult by_factors =
      CreateMethod("magnitude", {{"factors", 1}}).value()->Prune(problem).value();
  ASSERT_EQ(by_factors.matrices.size(), 2u);
  const Score score = Judge(problem, by_factors).value();
  EXPECT_EQ(score.calibration.linear_error_per_matrix.size(), 2u);
  EXPECT_EQ(score.sparsity.size(), 2u);

  // The same W~ = W~_Q W~_K', given whole: a product of 4 terms in float64 rounded to float32.
  Matrix product(8, 8);
  for (Index i = 0; i < 8; ++i) {
    for (Index j = 0; j < 8; ++j) {
      double sum = 0;
      for (Index r = 0; r < 4; ++r) {
        sum += static_cast<double>(by_factors.matrices[0].weights(i, r)) *
               static_cast<double>(by_factors.matrices[1].weights(j, r));
      }
      product(i, j) = static_cast<float>(sum);
    }
  }
  PruneResult whole;
  whole.matrices.resize(1);
  whole.matrices[0].name = "w";
  whole.matrices[0].mask = MaskOfNonZeros(product);
  whole.matrices[0].weights = std::move(product);
  const Score of_whole = Judge(problem, whole).value();
  constexpr double kRoundings = 1e-5;  // relative: a few float32 roundings a logit of about 10
  EXPECT_THAT(score.calibration.relative_error,
              DoubleNear(of_whole.calibration.relative_error,
                         kRoundings * of_whole.calibration.relative_error));
  EXPECT_THAT(score.calibration.linear_error,
              DoubleNear(of_whole.calibration.linear_error,
                         kRoundings * of_whole.calibration.linear_error));
}

struct BadResult {
  const char* title;
  void (*spoil)(PrunedMatrix&);
  const char* message;
};

TEST(Judge, RefusesAResultThatDoesNotKeepItsWord) {
  const BadResult rows[] = {
      {"weights left where the mask prunes", [](PrunedMatrix& m) { m.mask.Prune(0); },
       "result w must be 0 where its mask prunes, got 3 at flat index 0"},
      {"a weight that is not finite", [](PrunedMatrix& m) { m.weights(1, 1) = INFINITY; },
       "result w must be finite, got inf at flat index 3"},
      {"a mask of another shape", [](PrunedMatrix& m) { m.mask = BitMask(1, 4, true); },
       "result w must have a mask of 2 x 2, got 1 x 4"},
      {"a soft mask of another shape", [](PrunedMatrix& m) { m.soft_mask = Matrix(1, 4); },
       "result w must have a soft mask of the weights' shape or none"},
  };
  const Problem problem = TwoTokens();
  for (const BadResult& row : rows) {
    SCOPED_TRACE(row.title);
    PruneResult result = Keeping(problem, BitMask(2, 2, /*kept=*/true));
    row.spoil(result.matrices[0]);
    const auto score = Judge(problem, result);
    EXPECT_EQ(score.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(score.status().message(), HasSubstr(row.message));
  }
}

TEST(Judge, RefusesAResultOfAnotherProblem) {
  const Problem fused = TwoTokens();
  const Problem projections = ProjectionContractProblem();
  const PruneResult result = Keeping(fused, BitMask(2, 2, /*kept=*/true));
  const auto score = Judge(projections, result);
  EXPECT_EQ(score.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(score.status().message(), HasSubstr("result must hold the 2 matrices"));
  EXPECT_FALSE(Judge(fused, PruneResult()).ok());
  EXPECT_THAT(Judge(fused, result, {.threads = 0}).status().message(),
              HasSubstr("threads must be in [1, 1024], got 0"));
}

TEST(Judge, RefusesAResultWhoseLogitsOverflow) {
  Problem problem = TwoTokens();
  Matrix x(2, 2);
  x(0, 0) = x(1, 1) = 10;
  problem.calibration = Batches(std::move(x), {2});
  PruneResult result = Keeping(problem, BitMask(2, 2, /*kept=*/true));
  result.matrices[0].weights(1, 1) = 3e38f;
  const auto score = Judge(problem, result);
  EXPECT_EQ(score.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(score.status().message(), HasSubstr("result must give logits that are finite"));
}

TEST(LinearError, OfNothingIsZeroAndOfSomethingForNothingInfinite) {
  EXPECT_EQ((LinearError{0, 0}).relative(), 0);
  EXPECT_EQ((LinearError{1, 0}).relative(), std::numeric_limits<double>::infinity());
}

TEST(SquaredNormOfOutputs, IsThatOfTheOutputsWhereTheirMomentsOverflowFloat32) {
  Matrix x(1, 300), w(1, 300);
  x(0, 0) = 1e18f, w(0, 0) = 100;
  x(0, 299) = 1e19f, w(0, 299) = 1;
  ThreadPool pool(1);
  const double norm =
      SquaredNormOfOutputs(x, Gram(x, pool), {"w", w, /*inputs_are_rows=*/false}, {}, pool);
  EXPECT_THAT(norm, DoubleNear(1.21e40, 1e34));  // (1e20 + 1e19)^2
}

}  // namespace
}  // namespace attnprune::testing
