#include "core/methods/sparsegpt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels/blas.h"
#include "core/tensor/eigen.h"
#include "tests/core/methods/golden_baselines.h"
#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using testing::GaussianMatrix;
using ::testing::HasSubstr;
using testing::MakeMethod;
using testing::MatrixOf;
using testing::Picture;
using ::testing::Pointwise;
using testing::Values;

SparseGptInputs InputsOf(const Matrix& x, double percdamp) {
  ThreadPool pool(1);
  return PrepareSparseGpt(Gram(x, pool), percdamp, pool).value();
}

SparseGptResult Prune(const Matrix& w, const SparseGptInputs& inputs, const Sparsity& sparsity,
                      Index blocksize) {
  ThreadPool pool(1);
  return SparseGpt(w, inputs, sparsity, blocksize, pool).value();
}

// X'X = [[4, 2], [2, 5]], whose inverse is [[5, -2], [-2, 4]] / 16: U_11^2 = 5 / 16, U_22^2 = 1
// / 5.
Matrix Correlated() { return MatrixOf({{2, 1}, {0, 2}}); }

// X'X = 4 I: no input can make up for another.
Matrix Uncorrelated(Index features) {
  Matrix x(features, features);
  for (Index i = 0; i < features; ++i) x(i, i) = 2;
  return x;
}

const Sparsity kOneOfTwo = Sparsity::NOfM(1, 2);

// Without w_1 = 1, least squares wants w_2 to grow by H_12 / H_22 = 0.4.
TEST(SparseGpt, LetsTheNextInputMakeUp) {
  const Matrix w = MatrixOf({{1, 3}});
  const SparseGptResult result = Prune(w, InputsOf(Correlated(), 0), kOneOfTwo, 128);
  EXPECT_THAT(Picture(result.mask), ElementsAre(".x"));
  EXPECT_THAT(Values(result.weights), Pointwise(FloatNear(1e-6f), {0.0f, 3.4f}));
}

TEST(SparseGpt, MovesNoInputBeforeThePrunedOne) {
  const Matrix w = MatrixOf({{3, 1}});
  const SparseGptResult result = Prune(w, InputsOf(Correlated(), 0), kOneOfTwo, 128);
  EXPECT_THAT(Values(result.weights), ElementsAre(3, 0));
}

// The same error crosses the end of a block by the product instead of the loop.
TEST(SparseGpt, MakesUpInLaterBlocksToo) {
  const Matrix w = MatrixOf({{1, 9}, {9, 1}});
  const SparseGptResult result =
      Prune(w, InputsOf(Correlated(), 0), Sparsity::Fraction(0.4), /*blocksize=*/1);
  EXPECT_THAT(Picture(result.mask), ElementsAre(".x", "x."));
  EXPECT_THAT(Values(result.weights), Pointwise(FloatNear(4e-6f), {0.0f, 9.4f, 9.0f, 0.0f}));
}

// Scores w_1^2 16 / 5 = 3.2 against w_2^2 5 = 4.05, where magnitude would prune the second.
TEST(SparseGpt, ScoresByWhatCannotBeMadeUp) {
  const Matrix w = MatrixOf({{1, 0.9f}});
  EXPECT_THAT(Picture(Prune(w, InputsOf(Correlated(), 0), kOneOfTwo, 128).mask), ElementsAre(".x"));
}

TEST(SparseGpt, ComparesAllRowsOfABlock) {
  const Matrix w = MatrixOf({{9, 8}, {1, 2}});
  const SparseGptResult result =
      Prune(w, InputsOf(Uncorrelated(2), 0), Sparsity::Fraction(0.25), 128);
  EXPECT_THAT(Picture(result.mask), ElementsAre("xx", ".."));
}

TEST(SparseGpt, CountsTheErrorsOfSomeOutputsMore) {
  const Matrix w = MatrixOf({{9, 8}, {1, 2}});
  const SparseGptInputs inputs = InputsOf(Uncorrelated(2), 0);
  ThreadPool pool(1);
  const std::vector<double> weights = {0.01, 1};  // scores 0.9 and 0.8; 1 and 2
  const auto picture = [&](const Sparsity& sparsity) {
    return Picture(SparseGpt(w, inputs, sparsity, 128, pool, weights)->mask);
  };
  EXPECT_THAT(picture(Sparsity::Fraction(0.25)), ElementsAre("..", "xx"));
  EXPECT_THAT(picture(kOneOfTwo), ElementsAre("x.", ".x")) << "each row by itself";
}

TEST(SparseGpt, PrunesOneMoreThanTheFractionOfABlock) {
  EXPECT_EQ(SparseGptPrunedCount(10, 10, Sparsity::Fraction(0.5), 128), 51);
  EXPECT_EQ(SparseGptPrunedCount(10, 10, Sparsity::Fraction(0.5), 4), 21 + 21 + 11);
  EXPECT_EQ(SparseGptPrunedCount(16, 8, Sparsity::Fraction(0.7), 8), 90);  // 89.6
  EXPECT_EQ(SparseGptPrunedCount(1, 1, Sparsity::Fraction(0.5), 128), 1);
  EXPECT_EQ(SparseGptPrunedCount(10, 10, Sparsity::Fraction(0), 4), 0);
  EXPECT_EQ(SparseGptPrunedCount(10, 8, Sparsity::NOfM(2, 4), 4), 40);
}

TEST(SparseGpt, KeepsToItsCountWhereAllScoresTie) {
  const Matrix w = Matrix::Constant(2, 4, 1.0f);
  const SparseGptResult result =
      Prune(w, InputsOf(Uncorrelated(4), 0.01), Sparsity::Fraction(0.5), 128);
  EXPECT_THAT(Picture(result.mask), ElementsAre("....", ".xxx"));
}

TEST(SparseGpt, ClearsTheWeightsOfDeadInputs) {
  const Matrix x = MatrixOf({{2, 0, 1}, {0, 0, 2}});
  const SparseGptInputs inputs = InputsOf(x, 0);
  EXPECT_THAT(inputs.dead, ElementsAre(false, true, false));
  const Matrix w = MatrixOf({{9, 5, 9}, {9, 6, 1}});
  const SparseGptResult result = Prune(w, inputs, Sparsity::Fraction(0.2), 128);
  EXPECT_THAT(Values(result.weights), ElementsAre(9, 0, 9, 9, 0, 1));
}

TEST(SparseGpt, ChangesNothingWhereNothingIsToGo) {
  const Matrix w = MatrixOf({{9, 5, 9}});
  const SparseGptInputs inputs = InputsOf(MatrixOf({{2, 0, 1}, {0, 0, 2}}), 0);
  for (const Sparsity& sparsity : {Sparsity::Fraction(0), Sparsity::NOfM(0, 3)}) {
    const SparseGptResult result = Prune(w, inputs, sparsity, 128);
    EXPECT_THAT(Values(result.weights), ElementsAre(9, 5, 9));
    EXPECT_EQ(result.mask.CountPruned(), 0);
  }
}

TEST(SparseGpt, RefusesAGroupAcrossTheEndOfABlock) {
  const Matrix w = GaussianMatrix(2, 12, 1);
  const SparseGptInputs inputs = InputsOf(GaussianMatrix(20, 12, 2), 0.01);
  const Sparsity one_of_three = Sparsity::NOfM(1, 3);
  ThreadPool pool(1);
  const absl::Status status = SparseGpt(w, inputs, one_of_three, 8, pool).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("sparsegpt.blocksize"), HasSubstr("1:3"), HasSubstr("got 8")));
  EXPECT_TRUE(SparseGpt(w, inputs, one_of_three, 9, pool).ok());
  EXPECT_TRUE(SparseGpt(w, inputs, one_of_three, 128, pool).ok());  // one block holds them all
}

TEST(SparseGpt, RefusesWeightsThatOverflowOnTheWay) {
  const Matrix x = MatrixOf({{2, 2}, {0, 1}});  // H_12 / H_22 = 0.8
  const Matrix w = MatrixOf({{3e38f, 3e38f}});
  const SparseGptInputs inputs = InputsOf(x, 0);
  ThreadPool pool(1);
  const absl::Status status = SparseGpt(w, inputs, kOneOfTwo, 128, pool).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("finite"));
}

double OutputError(const Matrix& x, const Matrix& w, const Matrix& pruned) {
  Matrix error = w.Clone(), output(x.rows(), w.rows());
  ArrayOf(error) -= ArrayOf(pruned);
  Gemm(Trans::kNo, Trans::kYes, 1.0f, x, error, 0.0f, output);
  double sum = 0;
  for (const float value : output.flat()) sum += static_cast<double>(value * value);
  return sum;
}

TEST(SparseGpt, ServesTheOutputsBetterThanItsMaskAlone) {
  // Features share a common part, so that one can stand in for another.
  Matrix x = GaussianMatrix(100, 20, 1);
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index j = 1; j < x.cols(); ++j) x(t, j) += x(t, 0);
  }
  const Matrix w = GaussianMatrix(30, 20, 2);
  const SparseGptResult result = Prune(w, InputsOf(x, 0.01), Sparsity::Fraction(0.5), 8);
  EXPECT_LT(OutputError(x, w, result.weights), 0.5 * OutputError(x, w, result.mask.Apply(w)));
}

// H of the golden data with the dead inputs set and the damping added, in float64.
Eigen::MatrixXd DampedHessian(const testing::GoldenBaselines& golden) {
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const RowMajor> x(golden.exact_x.data(), golden.x.rows(), golden.x.cols());
  Eigen::MatrixXd h = x.transpose() * x;
  for (Index j = 0; j < h.rows(); ++j) {
    if (h(j, j) == 0) h(j, j) = 1;
  }
  const double mean = h.diagonal().mean();
  h.diagonal().array() += golden.percdamp * mean;
  return h;
}

// Errors and their bound in units of the output: an input's weight times the input's norm.
struct OutputUnits {
  Eigen::VectorXd norms;  // square roots of the damped Hessian's diagonal
  double tolerance;
};

// In these units the Hessian is H scaled to a diagonal of 1, with a condition number of kappa. The
// kept weights solve a least squares problem, so that a relative change of the data of delta moves
// them by up to kappa delta of the largest. delta: an entry of H is a float32 sum, whose `tokens`
// roundings of eps / 2 add up like a random walk, and a weight is rounded once for each input.
OutputUnits GoldenUnits(const testing::GoldenBaselines& golden) {
  const Eigen::MatrixXd h = DampedHessian(golden);
  const Eigen::VectorXd norms = h.diagonal().array().sqrt();
  const Eigen::MatrixXd scaled =
      norms.cwiseInverse().asDiagonal() * h * norms.cwiseInverse().asDiagonal();
  const Eigen::VectorXd eigenvalues =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(scaled).eigenvalues();
  const double kappa = eigenvalues.maxCoeff() / eigenvalues.minCoeff();

  constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
  const double delta =
      0.5 * kEpsilon * std::sqrt(static_cast<double>(golden.x.rows() + golden.w.cols()));
  double largest = 0;
  for (Index flat = 0; flat < golden.w.size(); ++flat) {
    const double w = std::abs(golden.exact_w[static_cast<size_t>(flat)]);
    largest = std::max(largest, w * norms[flat % golden.w.cols()]);
  }
  return {norms, kappa * delta * largest};
}

double LargestDifference(const Matrix& weights, const std::vector<double>& golden,
                         const OutputUnits& units) {
  double largest = 0;
  for (Index flat = 0; flat < weights.size(); ++flat) {
    const size_t i = static_cast<size_t>(flat);
    const double difference = static_cast<double>(weights.flat()[i]) - golden[i];
    largest = std::max(largest, std::abs(difference) * units.norms[flat % weights.cols()]);
  }
  return largest;
}

BitMask NonZeros(const std::vector<double>& weights, const Matrix& like) {
  BitMask mask(like.rows(), like.cols(), /*kept=*/true);
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) mask.Prune(static_cast<Index>(i));
  }
  return mask;
}

// The scores of a later block come from moved weights and are not in the golden data: that every
// zero is where it should be shows that none of them tied within rounding.
TEST(SparseGpt, EqualsTheGoldenWeightsUnstructured) {
  for (const char* name : testing::kGoldenBaselines) {
    SCOPED_TRACE(name);
    const testing::GoldenBaselines golden = testing::LoadGoldenBaselines(name);
    const SparseGptResult result = Prune(golden.w, InputsOf(golden.x, golden.percdamp),
                                         Sparsity::Fraction(golden.rho), golden.blocksize);
    const OutputUnits units = GoldenUnits(golden);
    EXPECT_EQ(testing::MaskOfNonZeros(result.weights), NonZeros(golden.sparsegpt, golden.w));
    EXPECT_LE(LargestDifference(result.weights, golden.sparsegpt, units), units.tolerance);
  }
}

TEST(SparseGpt, EqualsTheGoldenWeightsTwoOfFour) {
  for (const char* name : testing::kGoldenBaselines) {
    SCOPED_TRACE(name);
    const testing::GoldenBaselines golden = testing::LoadGoldenBaselines(name);
    const SparseGptResult result = Prune(golden.w, InputsOf(golden.x, golden.percdamp),
                                         Sparsity::NOfM(2, 4), golden.blocksize);
    const OutputUnits units = GoldenUnits(golden);
    EXPECT_EQ(testing::MaskOfNonZeros(result.weights), NonZeros(golden.sparsegpt_2_4, golden.w));
    EXPECT_LE(LargestDifference(result.weights, golden.sparsegpt_2_4, units), units.tolerance);
  }
}

// The tolerance is worth something: it tells a damping of 0.0101 from one of 0.01.
TEST(SparseGpt, GoldenToleranceSeesADampingOnePercentOff) {
  for (const char* name : testing::kGoldenBaselines) {
    SCOPED_TRACE(name);
    const testing::GoldenBaselines golden = testing::LoadGoldenBaselines(name);
    const SparseGptResult result = Prune(golden.w, InputsOf(golden.x, 1.01 * golden.percdamp),
                                         Sparsity::NOfM(2, 4), golden.blocksize);
    const OutputUnits units = GoldenUnits(golden);
    EXPECT_EQ(testing::MaskOfNonZeros(result.weights), NonZeros(golden.sparsegpt_2_4, golden.w));
    EXPECT_GT(LargestDifference(result.weights, golden.sparsegpt_2_4, units), units.tolerance);
  }
}

TEST(SparseGpt, HasTheSameBitsOnAnyNumberOfThreads) {
  const Matrix w = GaussianMatrix(200, 96, 1);
  const SparseGptInputs inputs = InputsOf(GaussianMatrix(150, 96, 2), 0.01);
  for (const Sparsity& sparsity : {Sparsity::Fraction(0.6), Sparsity::NOfM(4, 8)}) {
    const SparseGptResult one = Prune(w, inputs, sparsity, 32);
    for (const int threads : {2, 4}) {
      ThreadPool pool(threads);
      const SparseGptResult many = SparseGpt(w, inputs, sparsity, 32, pool).value();
      EXPECT_EQ(many.mask, one.mask);
      EXPECT_EQ(Values(many.weights), Values(one.weights));
    }
  }
}

TEST(SparseGptMethod, PrunesEachProjectionByTheSameTokens) {
  const Matrix w_q = GaussianMatrix(3, 8, 1), w_k = GaussianMatrix(3, 8, 2);
  const Matrix x = GaussianMatrix(20, 8, 3);
  const Sparsity sparsity = Sparsity::Fraction(0.5);
  const Problem problem = testing::ProjectionProblem(w_q.Clone(), w_k.Clone(), x.Clone(), sparsity);
  const PruneResult result = MakeMethod("sparsegpt:blocksize=4")->Prune(problem).value();
  EXPECT_THAT(testing::Names(result), ElementsAre("w_q", "w_k"));
  const SparseGptInputs inputs = InputsOf(x, 0.01);
  EXPECT_EQ(Values(result.matrices[0].weights), Values(Prune(w_q, inputs, sparsity, 4).weights));
  EXPECT_EQ(Values(result.matrices[1].weights), Values(Prune(w_k, inputs, sparsity, 4).weights));
  EXPECT_EQ(result.matrices[1].mask, Prune(w_k, inputs, sparsity, 4).mask);
  EXPECT_EQ(result.reason, TerminationReason::kCompleted);
  EXPECT_EQ(result.steps, 0);
}

// x -> x W: the example of LetsTheNextInputMakeUp, its input running down the first column.
TEST(SparseGptMethod, TakesTheFusedWeightForTheMapOfATokenOnItsLeft) {
  const Problem problem =
      testing::FusedProblem(MatrixOf({{1, 9}, {3, 1}}), Correlated(), kOneOfTwo);
  const PruneResult result = MakeMethod("sparsegpt:percdamp=0")->Prune(problem).value();
  EXPECT_THAT(testing::Names(result), ElementsAre("w"));
  EXPECT_THAT(Picture(result.matrices[0].mask), ElementsAre(".x", "x."));
  EXPECT_THAT(Values(result.matrices[0].weights),
              Pointwise(FloatNear(1e-6f), {0.0f, 9.0f, 3.4f, 0.0f}));
}

TEST(SparseGptMethod, PrunesTheFactorsUnlessToldToPruneTheFusedWeight) {
  const Problem problem =
      testing::FactoredProblem(MatrixOf({{1}, {3}}), MatrixOf({{3}, {1}}), Correlated(), kOneOfTwo);
  const PruneResult factors = MakeMethod("sparsegpt:percdamp=0")->Prune(problem).value();
  EXPECT_THAT(testing::Names(factors), ElementsAre("w_q", "w_k"));
  EXPECT_THAT(Values(factors.matrices[0].weights), Pointwise(FloatNear(1e-6f), {0.0f, 3.4f}));
  EXPECT_THAT(Values(factors.matrices[1].weights), ElementsAre(3, 0));
  const PruneResult fused = MakeMethod("sparsegpt:factors=0")->Prune(problem).value();
  EXPECT_THAT(testing::Names(fused), ElementsAre("w"));
}

// Two equal features: X'X is singular, and says so exactly, its entries being small integers.
TEST(SparseGptMethod, ReportsHowOftenTheDampingWasRaised) {
  Problem problem = testing::FusedProblem(MatrixOf({{1, 2}, {3, 4}}), MatrixOf({{2, 2}, {0, 0}}),
                                          Sparsity::Fraction(0.25));
  EXPECT_EQ(MakeMethod("sparsegpt:percdamp=0")->Prune(problem)->damping_retries, 1);
  EXPECT_EQ(MakeMethod("sparsegpt")->Prune(problem)->damping_retries, 0);
}

TEST(SparseGptMethod, RefusesTokensWhoseSquaresOverflow) {
  const Problem problem = testing::FusedProblem(MatrixOf({{1e-30f}}), MatrixOf({{1e20f}, {5e19f}}),
                                                Sparsity::Fraction(0.5));
  const absl::Status status = MakeMethod("sparsegpt")->Prune(problem).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("calibration"));
}

// Prune() compares each matrix with PrunedCount: what is said must be what is done.
TEST(SparseGptMethod, CountsWhatItPrunesInEveryShape) {
  for (const Sparsity& sparsity :
       {Sparsity::Fraction(0), Sparsity::Fraction(0.37), Sparsity::NOfM(1, 4)}) {
    const Matrix tokens = GaussianMatrix(5, 8, 1);
    for (const char* method : {"sparsegpt:blocksize=4", "sparsegpt:blocksize=4,factors=0"}) {
      const Problem factored = testing::FactoredProblem(
          GaussianMatrix(8, 3, 2), GaussianMatrix(8, 3, 3), tokens.Clone(), sparsity);
      EXPECT_TRUE(MakeMethod(method)->Prune(factored).ok());
      const Problem projections = testing::ProjectionProblem(
          GaussianMatrix(3, 8, 4), GaussianMatrix(3, 8, 5), tokens.Clone(), sparsity);
      EXPECT_TRUE(MakeMethod(method)->Prune(projections).ok());
    }
  }
}

}  // namespace
}  // namespace attnprune
