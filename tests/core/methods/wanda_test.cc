#include "core/methods/wanda.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <vector>

#include "core/kernels/gram.h"
#include "tests/core/methods/golden_baselines.h"
#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using testing::GaussianMatrix;
using testing::MakeMethod;
using testing::MatrixOf;
using testing::Picture;
using testing::Values;

BitMask Wanda(MatrixView w, absl::Span<const double> norms, const Sparsity& sparsity) {
  ThreadPool pool(1);
  return WandaMask(w, norms, sparsity, pool);
}

BitMask TwoSidedWanda(MatrixView w, absl::Span<const double> norms, const Sparsity& sparsity) {
  ThreadPool pool(1);
  return TwoSidedWandaMask(w, norms, sparsity, pool);
}

const Sparsity kHalf = Sparsity::Fraction(0.5);

TEST(Wanda, IsMagnitudeInEachRowWhereAllNormsAreOne) {
  const Matrix w = MatrixOf({{4, -1}, {2, -3}});
  EXPECT_THAT(Picture(Wanda(w, {1, 1}, kHalf)), ElementsAre("x.", ".x"));
}

TEST(Wanda, PrefersASmallWeightOnALoudFeature) {
  const Matrix w = MatrixOf({{4, 1}, {2, 3}});
  EXPECT_THAT(Picture(Wanda(w, {1, 10}, kHalf)), ElementsAre(".x", ".x"));
}

TEST(Wanda, PrunesTheSameNumberInEveryRow) {
  const Matrix w = MatrixOf({{9, 8, 7}, {1, 2, 3}});
  EXPECT_THAT(Picture(Wanda(w, {1, 1, 1}, kHalf)), ElementsAre("xx.", ".xx"));
}

TEST(Wanda, RoundsTheCountOfARowDown) {
  const Matrix w = GaussianMatrix(3, 16, 1);
  const std::vector<double> norms(16, 1.0);
  EXPECT_EQ(Wanda(w, norms, Sparsity::Fraction(0.7)).CountPruned(), 3 * 11);  // 11.2
  EXPECT_EQ(Wanda(w, norms, Sparsity::Fraction(0.06)).CountPruned(), 0);      // 0.96
}

TEST(Wanda, PrunesFromTheFrontWhereScoresTie) {
  const Matrix w = MatrixOf({{1, 2, 4, 1}});
  EXPECT_THAT(Picture(Wanda(w, {4, 2, 1, 4}, kHalf)), ElementsAre("..xx"));
}

TEST(Wanda, PrunesFromTheFrontWhereNoFeatureIsEverHeard) {
  const Matrix w = MatrixOf({{1, 2}});
  EXPECT_THAT(Picture(Wanda(w, {0, 0}, kHalf)), ElementsAre(".x"));
}

TEST(Wanda, OrdersScoresBeyondFloat32) {
  const Matrix w = MatrixOf({{3e38f, 2e38f}});
  EXPECT_THAT(Picture(Wanda(w, {1e30, 1e30}, kHalf)), ElementsAre("x."));
}

TEST(Wanda, GroupsAlongTheInputs) {
  const Matrix w = MatrixOf({{1, 2, 9, 8}});
  EXPECT_THAT(Picture(Wanda(w, {3, 1, 1, 1}, Sparsity::NOfM(1, 2))), ElementsAre("x.x."));
}

std::vector<double> GoldenScores(const testing::GoldenBaselines& golden) {
  const size_t inputs = static_cast<size_t>(golden.w.cols());
  std::vector<double> squares(inputs), scores = golden.exact_w;
  for (size_t i = 0; i < golden.exact_x.size(); ++i) {
    squares[i % inputs] += golden.exact_x[i] * golden.exact_x[i];
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    scores[i] = std::abs(scores[i]) * std::sqrt(squares[i % inputs]);
  }
  return scores;
}

// Dead inputs tie at a score of exactly 0 in both precisions and go in order of index: these ties
// do not count, and the order is the golden one.
Index CountNearTiesAboveZero(std::vector<double> scores, Index group, Index pruned) {
  double below_all = 0;
  for (double& score : scores) {
    if (score == 0) score = below_all -= 1;
  }
  // w, each x and the score are rounded to float32 once: at most 3 eps / 2 in all.
  return testing::CountNearTies(scores, group, pruned, 2 * 1.2e-7);
}

TEST(Wanda, EqualsTheGoldenMasks) {
  for (const char* name : testing::kGoldenBaselines) {
    SCOPED_TRACE(name);
    const testing::GoldenBaselines golden = testing::LoadGoldenBaselines(name);
    const Sparsity sparsity = Sparsity::Fraction(golden.rho);
    const std::vector<double> scores = GoldenScores(golden);
    const Index inputs = golden.w.cols();
    const Index ties = CountNearTiesAboveZero(scores, inputs, sparsity.PrunedOf(inputs)) +
                       CountNearTiesAboveZero(scores, 4, 2);
    std::cout << name << ": " << ties << " golden scores tie within rounding\n";
    ASSERT_EQ(ties, 0);

    ThreadPool pool(1);
    const std::vector<double> norms = ColumnNorms(golden.x, pool);
    EXPECT_EQ(Wanda(golden.w, norms, sparsity), golden.wanda);
    EXPECT_EQ(Wanda(golden.w, norms, Sparsity::NOfM(2, 4)), golden.wanda_2_4);
  }
}

// Scores [[300, 10, 20], [10, 4, 2], [20, 2, 1]].
TEST(TwoSidedWanda, ComparesTheWholeMatrixByBothNorms) {
  const Matrix w = MatrixOf({{3, 1, 2}, {1, 4, 2}, {2, 2, 1}});
  EXPECT_THAT(Picture(TwoSidedWanda(w, {10, 1, 1}, kHalf)),
              ElementsAre("xxx", "x..", "x.."));  // exactly 4 of 9
}

// Scores [[400, 10], [30, 2]]: inputs run down the columns.
TEST(TwoSidedWanda, GroupsDownTheColumns) {
  const Matrix w = MatrixOf({{4, 1}, {3, 2}});
  EXPECT_THAT(Picture(TwoSidedWanda(w, {10, 1}, Sparsity::NOfM(1, 2))), ElementsAre("xx", ".."));
}

// Norms 1 and 10.
Matrix LoudSecondFeature() { return MatrixOf({{1, 0}, {0, 10}}); }

TEST(WandaMethod, PrunesEachProjectionByItself) {
  const Problem problem = testing::ProjectionProblem(
      MatrixOf({{4, 1}, {2, 3}}), MatrixOf({{40, 1}, {2, 30}}), LoudSecondFeature(), kHalf);
  const PruneResult result = MakeMethod("wanda")->Prune(problem).value();
  EXPECT_THAT(testing::Names(result), ElementsAre("w_q", "w_k"));
  EXPECT_THAT(Values(result.matrices[0].weights), ElementsAre(0, 1, 0, 3));
  EXPECT_THAT(Values(result.matrices[1].weights), ElementsAre(40, 0, 0, 30));
}

// The factors are in x out, so that an output is a column.
TEST(WandaMethod, PrunesTheFactorsByColumn) {
  const Problem problem = testing::FactoredProblem(
      MatrixOf({{4, 30}, {1, 2}}), MatrixOf({{2, 5}, {3, 6}}), LoudSecondFeature(), kHalf);
  const PruneResult result = MakeMethod("wanda")->Prune(problem).value();
  EXPECT_THAT(testing::Names(result), ElementsAre("w_q", "w_k"));
  EXPECT_THAT(Values(result.matrices[0].weights), ElementsAre(0, 30, 1, 0));
  EXPECT_THAT(Values(result.matrices[1].weights), ElementsAre(0, 0, 3, 6));
}

// W = [[1, 3], [5, 2]], scores [[1, 30], [50, 200]].
TEST(WandaMethod, PrunesTheFusedWeightItselfWithoutFactors) {
  const Problem problem =
      testing::FusedProblem(MatrixOf({{1, 3}, {5, 2}}), LoudSecondFeature(), kHalf);
  const PruneResult result = MakeMethod("wanda")->Prune(problem).value();
  EXPECT_THAT(testing::Names(result), ElementsAre("w"));
  EXPECT_THAT(Values(result.matrices[0].weights), ElementsAre(0, 0, 5, 2));
}

TEST(WandaMethod, PrunesTheFusedWeightItselfWhenTold) {
  const Problem problem = testing::FactoredProblem(
      MatrixOf({{1, 0}, {0, 1}}), MatrixOf({{1, 5}, {3, 2}}), LoudSecondFeature(), kHalf);
  const PruneResult result = MakeMethod("wanda:factors=0")->Prune(problem).value();
  EXPECT_THAT(testing::Names(result), ElementsAre("w"));
  EXPECT_THAT(Values(result.matrices[0].weights), ElementsAre(0, 0, 5, 2));
}

// Prune() compares each matrix with PrunedCount: what is said must be what is done.
TEST(WandaMethod, CountsWhatItPrunesInEveryShape) {
  for (const Sparsity& sparsity :
       {Sparsity::Fraction(0), Sparsity::Fraction(0.37), Sparsity::NOfM(1, 4)}) {
    const Matrix tokens = GaussianMatrix(5, 8, 1);
    for (const char* method : {"wanda", "wanda:factors=0"}) {
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
