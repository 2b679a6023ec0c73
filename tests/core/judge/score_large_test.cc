// More tokens than the 256 of one shard of the linear error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "core/judge/score.h"
#include "core/methods/registry.h"
#include "tests/core/contract/contract_problems.h"

namespace attnprune::testing {
namespace {

constexpr Index kFeatures = 40;

// 700 calibration tokens are shards of 256, 256 and 188; 530 held-out ones 256, 256 and 18.
Problem ManyTokens() {
  ProjectionWeights layer;
  layer.w_q = GaussianMatrix(40, kFeatures, 21);
  layer.w_k = GaussianMatrix(20, kFeatures, 22);
  layer.heads = 4;
  layer.kv_heads = 2;
  layer.rope = Rope{};
  Problem problem;
  problem.weights = std::move(layer);
  problem.scale = 0.02;
  problem.calibration = GaussianBatches({300, 260, 140}, kFeatures, 23);
  problem.held_out = GaussianBatches({530}, kFeatures, 24);
  return problem;
}

PruneResult PrunedWithSoftMasks(const Problem& problem) {
  PruneResult result = CreateMethod("magnitude").value()->Prune(problem).value();
  for (PrunedMatrix& matrix : result.matrices) {
    matrix.soft_mask = GaussianMatrix(matrix.weights.rows(), matrix.weights.cols(), 25);
  }
  return result;
}

// ||X W'||_F^2 in float64, and how far its float32 evaluation may be off: the norm of the product
// by e = gamma(d) || |X| |W|' ||_F, its square by 2 e ||X W'|| + e^2.
struct SquaredNorm {
  double value, error;
};

SquaredNorm SquaredNormOfProduct(MatrixView x, MatrixView w) {
  double value = 0, magnitude = 0;
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index i = 0; i < w.rows(); ++i) {
      double sum = 0, absolute = 0;
      for (Index j = 0; j < x.cols(); ++j) {
        const double product = static_cast<double>(x(t, j)) * static_cast<double>(w(i, j));
        sum += product;
        absolute += std::abs(product);
      }
      value += sum * sum;
      magnitude += absolute * absolute;
    }
  }
  const double gamma = static_cast<double>(x.cols() + 1) * 0x1p-24;
  const double e = gamma * std::sqrt(magnitude);
  return {value, 2 * e * std::sqrt(value) + e * e};
}

void ExpectQuotient(double got, const SquaredNorm& difference, const SquaredNorm& dense) {
  const double expected = difference.value / dense.value;
  const double relative = difference.error / difference.value + dense.error / dense.value;
  EXPECT_NEAR(got, expected, expected * relative * (1 + relative));
}

void ExpectLinearErrors(const Problem& problem, const PruneResult& result, const Batches& batches,
                        const BatchScore& score) {
  SquaredNorm all_differences{0, 0}, all_dense{0, 0};
  const std::vector<NamedWeight> weights = AttentionWeights(problem);
  ASSERT_EQ(score.linear_error_per_matrix.size(), weights.size());
  for (size_t m = 0; m < weights.size(); ++m) {
    Matrix removed = Matrix::CopyFrom(weights[m].dense);
    for (Index i = 0; i < removed.size(); ++i) {
      if (result.matrices[m].mask.kept(i)) removed.flat()[static_cast<size_t>(i)] = 0;
    }
    const SquaredNorm difference = SquaredNormOfProduct(batches.all(), removed);
    const SquaredNorm dense = SquaredNormOfProduct(batches.all(), weights[m].dense);
    ExpectQuotient(score.linear_error_per_matrix[m], difference, dense);
    all_differences.value += difference.value;
    all_differences.error += difference.error;
    all_dense.value += dense.value;
    all_dense.error += dense.error;
  }
  ExpectQuotient(score.linear_error, all_differences, all_dense);
}

TEST(JudgeOfManyTokens, SumsTheLinearErrorOverAllShards) {
  const Problem problem = ManyTokens();
  const PruneResult result = PrunedWithSoftMasks(problem);
  const auto score = Judge(problem, result, {.threads = 2});
  ASSERT_TRUE(score.ok()) << score.status();
  ExpectLinearErrors(problem, result, problem.calibration, score->calibration);
  ASSERT_TRUE(score->held_out.has_value());
  ExpectLinearErrors(problem, result, problem.held_out, *score->held_out);
}

void ExpectSameBits(const BatchScore& a, const BatchScore& b) {
  EXPECT_EQ(a.relative_error, b.relative_error);
  EXPECT_EQ(a.per_head, b.per_head);
  EXPECT_EQ(a.soft_relative_error, b.soft_relative_error);
  EXPECT_EQ(a.linear_error_per_matrix, b.linear_error_per_matrix);
  EXPECT_EQ(a.linear_error, b.linear_error);
}

TEST(JudgeOfManyTokens, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Problem problem = ManyTokens();
  const PruneResult result = PrunedWithSoftMasks(problem);
  const Score one = Judge(problem, result, {.threads = 1}).value();
  ASSERT_GT(one.calibration.relative_error, 0);
  ASSERT_TRUE(one.calibration.soft_relative_error.has_value());
  for (int threads : {2, 4}) {
    SCOPED_TRACE(threads);
    const Score many = Judge(problem, result, {.threads = threads}).value();
    ExpectSameBits(one.calibration, many.calibration);
    ExpectSameBits(*one.held_out, *many.held_out);
  }
}

}  // namespace
}  // namespace attnprune::testing
