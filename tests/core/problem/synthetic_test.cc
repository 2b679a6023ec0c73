#include "core/problem/synthetic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

using ::testing::HasSubstr;

bool SameBits(MatrixView a, MatrixView b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index i = 0; i < a.rows(); ++i) {
    if (std::memcmp(a.row(i), b.row(i), static_cast<size_t>(a.cols()) * sizeof(float)) != 0) {
      return false;
    }
  }
  return true;
}

Problem Synthetic(const SyntheticOptions& options) {
  absl::StatusOr<Problem> problem = SyntheticProblem(options);
  EXPECT_TRUE(problem.ok()) << problem.status();
  return *std::move(problem);
}

// Largest first: the upper half of the eigenvalues of [0 M; M' 0], which compiles in less time than
// an SVD.
Eigen::VectorXd SingularValues(const Matrix& m) {
  const Index d = m.rows(), n = m.cols();
  Eigen::MatrixXd both = Eigen::MatrixXd::Zero(d + n, d + n);
  both.bottomLeftCorner(n, d) = ArrayOf(m).cast<double>().matrix().transpose();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(both, Eigen::EigenvaluesOnly);
  return solver.eigenvalues().tail(std::min(d, n)).reverse();
}

TEST(Synthetic, IsAValidProblemOfThePapersSizesByDefault) {
  const Problem problem = Synthetic({});
  EXPECT_EQ(Validate(problem), absl::OkStatus());
  EXPECT_TRUE(problem.fused_weights().has_factors());
  EXPECT_EQ(problem.features(), 64);
  EXPECT_EQ(problem.calibration.count(), 16);
  EXPECT_EQ(problem.calibration.length(0), 128);
  EXPECT_EQ(problem.held_out.count(), 8);
  EXPECT_EQ(problem.held_out.length(7), 128);
  EXPECT_EQ(ToString(problem.attention), "causal");
}

// Rounding a d x d matrix of rank r to float32 perturbs it by at most half an ulp an entry, so that
// the singular values that were 0 stay below eps/2 ||W||_F <= eps/2 sqrt(r) sigma_1.
TEST(Synthetic, CutsBothFactorsToExactlyTheRank) {
  for (const Index rank : {Index{1}, Index{4}, Index{16}}) {
    const Problem problem = Synthetic({.rank = rank});
    for (const Matrix* w : {&problem.fused_weights().w_q, &problem.fused_weights().w_k}) {
      const Eigen::VectorXd sigma = SingularValues(*w);
      const double eps = static_cast<double>(std::numeric_limits<float>::epsilon());
      EXPECT_LT(sigma(rank), eps * std::sqrt(static_cast<double>(rank)) * sigma(0));
      // A Gaussian matrix's leading singular values are all near 2 sqrt(d).
      EXPECT_GT(sigma(rank - 1), std::sqrt(64.0));
    }
  }
}

// Cutting to a lower rank keeps the leading singular values and drops the others (Eckart, Young).
TEST(Synthetic, KeepsTheLeadingSingularValuesOfTheGaussianMatrix) {
  const Eigen::VectorXd full = SingularValues(Synthetic({.rank = 64}).fused_weights().w_q);
  const Eigen::VectorXd cut = SingularValues(Synthetic({.rank = 4}).fused_weights().w_q);
  // float32 rounding of both moves a singular value by at most eps/2 ||W||_F each.
  const double tolerance = static_cast<double>(std::numeric_limits<float>::epsilon()) * full.norm();
  for (Index i = 0; i < 4; ++i) EXPECT_NEAR(cut(i), full(i), tolerance);
}

// Mean and variance of N = 2^17 draws: standard errors 1/sqrt(N) and sqrt(2/N), here times 5.
TEST(Synthetic, DrawsTokensOfTheStandardDeviationAskedFor) {
  const Problem problem = Synthetic({.x_std = 3.0});
  const MatrixView x = problem.calibration.all();
  double sum = 0, squares = 0;
  for (Index i = 0; i < x.rows(); ++i) {
    for (Index j = 0; j < x.cols(); ++j) {
      const double value = static_cast<double>(x(i, j)) / 3.0;
      sum += value;
      squares += value * value;
    }
  }
  const double count = static_cast<double>(x.size());
  ASSERT_EQ(count, 131072);
  EXPECT_NEAR(sum / count, 0, 5 / std::sqrt(count));
  EXPECT_NEAR(squares / count, 1, 5 * std::sqrt(2 / count));
}

// The uncut factor has d * d = 4096 independent standard Gaussian entries.
TEST(Synthetic, DrawsStandardGaussianWeights) {
  const Problem problem = Synthetic({.rank = 64});
  for (const Matrix* w : {&problem.fused_weights().w_q, &problem.fused_weights().w_k}) {
    double sum = 0, squares = 0;
    for (const float value : w->flat()) {
      sum += static_cast<double>(value);
      squares += static_cast<double>(value) * static_cast<double>(value);
    }
    EXPECT_NEAR(sum / 4096, 0, 5.0 / 64);
    EXPECT_NEAR(squares / 4096, 1, 5 * std::sqrt(2.0 / 4096));
  }
}

TEST(Synthetic, GivesTheSameBitsForTheSameSeed) {
  const Problem a = Synthetic({.seed = 7}), b = Synthetic({.seed = 7});
  EXPECT_TRUE(SameBits(a.fused_weights().w, b.fused_weights().w));
  EXPECT_TRUE(SameBits(a.calibration.all(), b.calibration.all()));
  EXPECT_TRUE(SameBits(a.held_out.all(), b.held_out.all()));
}

TEST(Synthetic, GivesOtherDataForASeedThatDiffersInAnyHalf) {
  constexpr uint64_t kHighBit = uint64_t{1} << 63;
  const Problem zero = Synthetic({.seed = 0});
  for (const uint64_t seed : {uint64_t{1}, kHighBit}) {
    const Problem other = Synthetic({.seed = seed});
    EXPECT_FALSE(SameBits(zero.fused_weights().w_q, other.fused_weights().w_q));
    EXPECT_FALSE(SameBits(zero.fused_weights().w_k, other.fused_weights().w_k));
    EXPECT_FALSE(SameBits(zero.calibration.all(), other.calibration.all()));
    EXPECT_FALSE(SameBits(zero.held_out.all(), other.held_out.all()));
  }
}

TEST(Synthetic, DrawsItsPartsIndependently) {
  const Problem problem = Synthetic({.k = 8});
  EXPECT_FALSE(SameBits(problem.fused_weights().w_q, problem.fused_weights().w_k));
  EXPECT_FALSE(SameBits(problem.calibration.all(), problem.held_out.all()));
}

TEST(Synthetic, KeepsEverythingElseWhenTheNumberOfBatchesChanges) {
  const Problem few = Synthetic({.k = 2, .held_out_batches = 1});
  const Problem many = Synthetic({.k = 5, .held_out_batches = 3});
  EXPECT_TRUE(SameBits(few.fused_weights().w, many.fused_weights().w));
  EXPECT_TRUE(SameBits(few.calibration.batch(1), many.calibration.batch(1)));
  EXPECT_TRUE(SameBits(few.held_out.batch(0), many.held_out.batch(0)));
}

TEST(Synthetic, WorksAtWidthOneWithoutHeldOutBatches) {
  const Problem problem = Synthetic({.d = 1, .n = 2, .k = 1, .rank = 1, .held_out_batches = 0});
  EXPECT_EQ(Validate(problem), absl::OkStatus());
  EXPECT_EQ(problem.held_out.count(), 0);
}

struct BadOptions {
  SyntheticOptions options;
  const char* message;
};

TEST(Synthetic, RefusesOptionsOutOfRangeByName) {
  constexpr Index kHuge = std::numeric_limits<Index>::max();
  const BadOptions rows[] = {
      {{.d = 0}, "d must be in [1, 46340], got 0"},
      {{.d = kHuge}, "d must be in [1, 46340], got 9223372036854775807"},
      {{.n = 0}, "n must be in [1, 33554431], got 0"},
      {{.n = kHuge}, "n must be in [1, 33554431], got 9223372036854775807"},
      {{.k = 0}, "k must be in [1, 262143], got 0"},
      {{.k = -3}, "k must be in [1, 262143], got -3"},
      {{.k = kHuge}, "k must be in [1, 262143], got 9223372036854775807"},
      {{.rank = 0}, "rank must be in [1, 64], got 0"},
      {{.rank = 65}, "rank must be in [1, 64], got 65"},
      {{.held_out_batches = -1}, "held_out_batches must be in [0, 262143], got -1"},
      {{.x_std = 0}, "x_std must be above 0 and at most 2.12676e+37, got 0"},
      {{.x_std = -1}, "x_std must be above 0 and at most 2.12676e+37, got -1"},
      {{.x_std = HUGE_VAL}, "x_std must be above 0 and at most 2.12676e+37, got inf"},
      {{.x_std = std::nan("")}, "x_std must be above 0 and at most 2.12676e+37, got nan"}};
  for (const BadOptions& row : rows) {
    const absl::Status status = SyntheticProblem(row.options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), row.message);
  }
}

}  // namespace
}  // namespace attnprune
