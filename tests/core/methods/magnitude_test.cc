#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <utility>

#include "tests/core/methods/golden_baselines.h"
#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using testing::GaussianMatrix;
using ::testing::HasSubstr;
using testing::MakeMethod;
using testing::MatrixOf;
using testing::Picture;
using testing::Values;

BitMask Magnitude(MatrixView w, bool inputs_are_rows, const Sparsity& sparsity) {
  Matrix tokens = GaussianMatrix(2, w.cols(), 1);  // which magnitude does not look at
  const Problem problem =
      inputs_are_rows ? testing::FusedProblem(Matrix::CopyFrom(w), std::move(tokens), sparsity)
                      : testing::ProjectionProblem(Matrix::CopyFrom(w), Matrix::CopyFrom(w),
                                                   std::move(tokens), sparsity);
  return MakeMethod("magnitude")->Prune(problem).value().matrices[0].mask;
}

TEST(Magnitude, KeepsTheLargestWhateverTheirSign) {
  const Matrix w = MatrixOf({{-4, 1}, {2, -3}});
  EXPECT_THAT(Picture(Magnitude(w, /*inputs_are_rows=*/false, Sparsity::Fraction(0.5))),
              ElementsAre("x.", ".x"));
}

TEST(Magnitude, MayEmptyARow) {
  const Matrix w = MatrixOf({{4, 3}, {1, 2}});
  EXPECT_THAT(Picture(Magnitude(w, /*inputs_are_rows=*/false, Sparsity::Fraction(0.5))),
              ElementsAre("xx", ".."));
}

TEST(Magnitude, GroupsAlongTheInputs) {
  const Matrix w = MatrixOf({{4, 3}, {1, 2}});
  const Sparsity one_of_two = Sparsity::NOfM(1, 2);
  EXPECT_THAT(Picture(Magnitude(w, /*inputs_are_rows=*/false, one_of_two)),
              ElementsAre("x.", ".x"));
  EXPECT_THAT(Picture(Magnitude(w, /*inputs_are_rows=*/true, one_of_two)), ElementsAre("xx", ".."));
}

TEST(Magnitude, EqualsTheGoldenMasks) {
  for (const char* name : testing::kGoldenBaselines) {
    SCOPED_TRACE(name);
    const testing::GoldenBaselines golden = testing::LoadGoldenBaselines(name);
    const Sparsity sparsity = Sparsity::Fraction(golden.rho);
    std::vector<double> scores = golden.exact_w;
    for (double& score : scores) score = std::abs(score);
    // Rounding w to float32 moves each score by at most eps / 2.
    const Index size = golden.w.size();
    const Index ties = testing::CountNearTies(scores, size, sparsity.PrunedOf(size), 1.2e-7);
    std::cout << name << ": " << ties << " golden scores tie within rounding\n";
    ASSERT_EQ(ties, 0);
    EXPECT_EQ(Magnitude(golden.w, /*inputs_are_rows=*/false, sparsity), golden.magnitude);
  }
}

TEST(MagnitudeMethod, PrunesEachProjectionByItself) {
  const Problem problem =
      testing::ProjectionProblem(MatrixOf({{9, 8}, {7, 6}}), MatrixOf({{1, 2}, {3, 4}}),
                                 MatrixOf({{1, 1}, {1, 0}}), Sparsity::Fraction(0.5));
  const PruneResult result = MakeMethod("magnitude")->Prune(problem).value();
  EXPECT_THAT(testing::Names(result), ElementsAre("w_q", "w_k"));
  EXPECT_THAT(Values(result.matrices[0].weights), ElementsAre(9, 8, 0, 0));
  EXPECT_THAT(Values(result.matrices[1].weights), ElementsAre(0, 0, 3, 4));
  EXPECT_EQ(result.reason, TerminationReason::kCompleted);
  EXPECT_EQ(result.steps, 0);
}

TEST(MagnitudeMethod, PrunesTheFusedWeightUnlessToldToPruneTheFactors) {
  const Problem problem =
      testing::FactoredProblem(MatrixOf({{1}, {2}}), MatrixOf({{4}, {3}}),
                               MatrixOf({{1, 1}, {1, 0}}), Sparsity::Fraction(0.5));
  // W = [[4, 3], [8, 6]].
  const PruneResult fused = MakeMethod("magnitude")->Prune(problem).value();
  EXPECT_THAT(testing::Names(fused), ElementsAre("w"));
  EXPECT_THAT(Values(fused.matrices[0].weights), ElementsAre(0, 0, 8, 6));

  const PruneResult factors = MakeMethod("magnitude:factors=1")->Prune(problem).value();
  EXPECT_THAT(testing::Names(factors), ElementsAre("w_q", "w_k"));
  EXPECT_THAT(Values(factors.matrices[0].weights), ElementsAre(0, 2));
  EXPECT_THAT(Values(factors.matrices[1].weights), ElementsAre(4, 0));
}

TEST(MagnitudeMethod, HasNothingToResume) {
  const Problem problem = testing::FusedProblem(GaussianMatrix(2, 2, 1), GaussianMatrix(3, 2, 2),
                                                Sparsity::Fraction(0.5));
  const absl::Status status =
      MakeMethod("magnitude")->Prune(problem, {.resume_from = "state"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("resume_from"));
}

}  // namespace
}  // namespace attnprune
