// kfac: its metric and ADMM against float64, its answers against other methods'.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <unsupported/Eigen/KroneckerProduct>
#include <vector>

#include "core/judge/score.h"
#include "core/methods/kronecker_metric.h"
#include "core/methods/two_sided_admm.h"
#include "core/tensor/eigen.h"
#include "tests/core/methods/search_runs.h"
#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using testing::ErrorsOf;
using testing::GaussianMatrix;
using testing::kValidation;
using testing::LayerToSearch;
using testing::RunMethod;

using RowMajor64 = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double kKfacDamping = 0.01;

RowMajor64 InFloat64(MatrixView m) { return ArrayOf(m).matrix().cast<double>(); }

GramMatrix MomentsOf(const RowMajor64& m) {
  GramMatrix gram(m.rows());
  for (Index i = 0; i < m.rows(); ++i) {
    for (Index j = 0; j < m.cols(); ++j) gram(i, j) = m(i, j);
  }
  return gram;
}

RowMajor64 DrawnMoments(Index size, unsigned seed) {
  const Matrix tokens = GaussianMatrix(3 * size, size, seed);
  const RowMajor64 x = InFloat64(tokens);
  return x.transpose() * x;
}

RowMajor64 WithDamping(const RowMajor64& m) {
  return m + kKfacDamping * m.diagonal().mean() * RowMajor64::Identity(m.rows(), m.cols());
}

// A matrix of two heads of 3 outputs on 5 inputs.
class TwoHeads : public ::testing::Test {
 protected:
  static constexpr Index kOutputs = 3, kInputs = 5;

  TwoHeads() {
    for (unsigned head = 0; head < 2; ++head) {
      const RowMajor64 b = DrawnMoments(kOutputs, 10 + head) * (1 + 5 * head);
      const RowMajor64 a = DrawnMoments(kInputs, 20 + head);
      curvatures_.push_back({MomentsOf(a), MomentsOf(b)});
      const RowMajor64 a_of_one = a / b.trace();  // the sum is B (x) A / tr B
      h_.push_back(Eigen::kroneckerProduct(WithDamping(b), WithDamping(a_of_one)));
    }
  }

  // H^-1 x of one head, x as a row of both.
  RowMajor64 Solved(size_t head, const RowMajor64& x) const {
    const RowMajor64 rows = x.middleRows(static_cast<Index>(head) * kOutputs, kOutputs);
    const Eigen::VectorXd solved =
        h_[head].ldlt().solve(Eigen::Map<const Eigen::VectorXd>(rows.data(), rows.size()));
    return Eigen::Map<const RowMajor64>(solved.data(), kOutputs, kInputs);
  }

  std::vector<HeadCurvature> curvatures_;
  std::vector<RowMajor64> h_;
  ThreadPool pool_{2};
};

TEST_F(TwoHeads, AreSolvedByNewtonsStepWhereNothingIsPruned) {
  const auto metrics = PrepareMetrics(curvatures_, kKfacDamping, pool_).value();
  const Matrix weights = GaussianMatrix(2 * kOutputs, kInputs, 1);
  const Matrix gradient = GaussianMatrix(2 * kOutputs, kInputs, 2);
  TwoSidedAdmm admm(weights.rows(), weights.cols(), Sparsity::Fraction(0), pool_);
  admm.Aim(metrics, weights, gradient, /*mu=*/0);
  admm.Begin();
  const Matrix got = admm.Refined(admm.Support(), /*refine_steps=*/0);
  const RowMajor64 w = InFloat64(weights), g = InFloat64(gradient);
  for (size_t head = 0; head < 2; ++head) {
    const Index row = static_cast<Index>(head) * kOutputs;
    const RowMajor64 expected = w.middleRows(row, kOutputs) - Solved(head, g);
    const RowMajor64 off = InFloat64(got).middleRows(row, kOutputs) - expected;
    EXPECT_LT(off.cwiseAbs().maxCoeff(), 1e-3 * expected.cwiseAbs().maxCoeff()) << head;
  }
}

// The kept weights minimise g'(d - w) + 1/2 (d - w)' H (d - w): its gradient in them is 0.
TEST_F(TwoHeads, HaveNoGradientLeftInTheKeptWeights) {
  const auto metrics = PrepareMetrics(curvatures_, kKfacDamping, pool_).value();
  const Matrix weights = GaussianMatrix(2 * kOutputs, kInputs, 3);
  const Matrix gradient = GaussianMatrix(2 * kOutputs, kInputs, 4);
  TwoSidedAdmm admm(weights.rows(), weights.cols(), Sparsity::Fraction(0.4), pool_);
  admm.Aim(metrics, weights, gradient, /*mu=*/0);
  admm.Begin();
  for (int step = 1; step <= 60 && !admm.settled(); ++step) admm.Step(step);
  const BitMask support = admm.Support();
  EXPECT_EQ(support.CountPruned(), 12);
  const Matrix got = admm.Refined(support, /*refine_steps=*/60);
  const RowMajor64 off = InFloat64(got) - InFloat64(weights);
  for (Index head = 0; head < 2; ++head) {
    const RowMajor64 rows = off.middleRows(head * kOutputs, kOutputs);
    const Eigen::VectorXd slope =
        h_[static_cast<size_t>(head)] * Eigen::Map<const Eigen::VectorXd>(rows.data(), rows.size());
    for (Index i = 0; i < kOutputs; ++i) {
      for (Index j = 0; j < kInputs; ++j) {
        const Index row = head * kOutputs + i;
        if (!support.kept(row, j)) continue;
        EXPECT_NEAR(slope(i * kInputs + j) + static_cast<double>(gradient(row, j)), 0, 2e-3);
      }
    }
  }
}

TEST(KroneckerMetric, LeavesAHeadWithoutCurvatureAsItIs) {
  ThreadPool pool(1);
  const std::vector<HeadCurvature> none = {{GramMatrix(4), GramMatrix(2)}};
  const auto metrics = PrepareMetrics(none, kKfacDamping, pool).value();
  const Matrix weights = GaussianMatrix(2, 4, 1);
  TwoSidedAdmm admm(2, 4, Sparsity::Fraction(0.5), pool);
  admm.Aim(metrics, weights, Matrix(2, 4), /*mu=*/0);
  admm.Begin();
  const Matrix got = admm.Refined(admm.Support(), /*refine_steps=*/5);
  for (Index i = 0; i < 8; ++i) {
    if (!admm.Support().kept(i)) continue;
    EXPECT_NEAR(got.flat()[static_cast<size_t>(i)], weights.flat()[static_cast<size_t>(i)], 1e-4f);
  }
}

class KfacOn : public ::testing::TestWithParam<Sparsity> {};

INSTANTIATE_TEST_SUITE_P(Sparsities, KfacOn,
                         ::testing::Values(Sparsity::Fraction(0.5), Sparsity::Fraction(0.8),
                                           Sparsity::NOfM(2, 4)));

// On calibration batches: with 2:4 a linear method is 6 % better on this layer's held-out ones.
TEST_P(KfacOn, LeavesLessErrorThanTheLinearMethods) {
  const Problem problem = LayerToSearch(GetParam());
  const auto error = [&](const char* method) {
    return Judge(problem, RunMethod(method, problem))->calibration.relative_error;
  };
  const double kfac = error("kfac");
  for (const char* rival : {"sparsegpt", "alps", "wanda"}) {
    EXPECT_LT(kfac, error(rival)) << rival;
  }
}

TEST_P(KfacOn, IsNeverWorseThanItsOneShotAnswer) {
  const Problem problem = LayerToSearch(GetParam());
  const auto one_shot = ErrorsOf(RunMethod("kfac:rounds=0", problem), problem, kValidation);
  const auto rounds = ErrorsOf(RunMethod("kfac", problem), problem, kValidation);
  EXPECT_LE(rounds.calibration, one_shot.calibration * (1 + 1e-6));
}

TEST(Kfac, LearnsFromASingleBatch) {
  Problem problem = LayerToSearch();
  const Index first[] = {0};
  problem.calibration = problem.calibration.Pick(first).value();
  const auto one_shot = ErrorsOf(RunMethod("kfac:rounds=0", problem), problem, kValidation);
  const auto rounds = ErrorsOf(RunMethod("kfac", problem), problem, kValidation);
  EXPECT_LE(rounds.calibration, one_shot.calibration);
}

TEST(Kfac, KeepsTheDenseWeightsWhereNothingIsToGo) {
  const Problem problem = LayerToSearch(Sparsity::Fraction(0));
  const PruneResult result = RunMethod("kfac", problem);
  EXPECT_EQ(result.steps, 0);
  const Matrix& dense = problem.projections().w_q;
  EXPECT_TRUE(std::equal(dense.flat().begin(), dense.flat().end(),
                         result.matrices[0].weights.flat().begin()));
}

// One key a query: the attention is 1 whatever the weights are.
TEST(Kfac, PrunesWhatNoWeightCanChange) {
  Problem problem = LayerToSearch();
  problem.attention = {AttentionMask::Kind::kWindow, 1};
  const PruneResult result = RunMethod("kfac", problem);
  EXPECT_EQ(Judge(problem, result)->calibration.relative_error, 0);
}

}  // namespace
}  // namespace attnprune
