// A weight of 200 x 200 = 40000 entries: one whole piece of 32768 and one of 7232.
#include "core/methods/mask_descent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune::testing {
namespace {

using ::testing::Each;

constexpr Index kFeatures = 200;
constexpr double kLambda = 0x1p-3;
// 4 batches. All powers of two, so that what the first step does is exact.
constexpr HeavyBall kStep{
    .inverse_batches = 0.25f, .momentum = 0.5f, .eta = 0x1p-2f, .project = false};

// 4 batches of 3 tokens; logits of order 1.
Problem TwoPieces() {
  Problem problem = FusedProblem(GaussianMatrix(kFeatures, kFeatures, 1),
                                 GaussianMatrix(12, kFeatures, 2), Sparsity());
  problem.calibration = Batches(GaussianMatrix(12, kFeatures, 2), {3, 3, 3, 3});
  problem.scale = 0.005;
  return problem;
}

// A descent and what it borrows.
class DescentRun {
 public:
  explicit DescentRun(const Problem& problem, int threads = 1, const HeavyBall& step = kStep)
      : pool_(threads),
        objective_(
            AttentionObjective::Create(problem, problem.calibration, "calibration", pool_).value()),
        descent_(AttentionWeights(problem), *objective_, pool_, step, kLambda, 0) {}

  MaskDescent& descent() { return descent_; }
  AttentionObjective& objective() { return *objective_; }
  std::vector<float> Mask() const { return Values(descent_.masks()[0]); }

  void Take(int steps) {
    for (int i = 0; i < steps; ++i) descent_.Step(descent_.Evaluate().total());
  }

 private:
  ThreadPool pool_;
  std::unique_ptr<AttentionObjective> objective_;
  MaskDescent descent_;
};

TEST(MaskDescent, StartsAtNoAttentionLossAndTheWholeRegularization) {
  const Problem problem = TwoPieces();
  DescentRun run(problem);
  const MaskDescent::Losses losses = run.descent().Evaluate();
  EXPECT_TRUE(losses.finite);
  EXPECT_EQ(losses.attention, 0);
  EXPECT_EQ(losses.regularization, 0.5 * kLambda * 40'000);
  EXPECT_EQ(losses.gradient_norm, kLambda * 200 / 4);  // every entry's gradient is lambda
  EXPECT_EQ(run.descent().steps_taken(), 0);
  EXPECT_TRUE(std::isnan(run.descent().previous_loss()));
}

// The attention loss is flat at M = 1: v = lambda / k, M = 1 - eta lambda / k.
TEST(MaskDescent, MovesEveryEntryOfEveryPieceAlikeInTheFirstStep) {
  const Problem problem = TwoPieces();
  DescentRun run(problem);
  run.Take(1);
  EXPECT_THAT(run.Mask(), Each(1 - 0x1p-2f * 0x1p-3f / 4));
  EXPECT_EQ(run.descent().steps_taken(), 1);
  EXPECT_EQ(run.descent().previous_loss(), 0.5 * kLambda * 40'000);
}

TEST(MaskDescent, StepsBackToTheMaskBefore) {
  const Problem problem = TwoPieces();
  DescentRun run(problem);
  run.Take(1);
  const std::vector<float> before = run.Mask();
  run.Take(1);
  ASSERT_NE(run.Mask(), before);
  run.descent().StepBack();
  EXPECT_EQ(run.Mask(), before);
  EXPECT_EQ(run.descent().steps_taken(), 1);
}

// The kernels on whole matrices instead of pieces.
std::vector<float> MaskWithoutPieces(const Problem& problem, int steps) {
  DescentRun run(problem);
  const Matrix& w = problem.fused_weights().w;
  Matrix mask = Matrix::Constant(w.rows(), w.cols(), 1.0f), next = mask.Clone();
  Matrix velocity(w.rows(), w.cols()), pruned(w.rows(), w.cols());
  std::vector<Matrix> gradient(1);
  for (int i = 0; i < steps; ++i) {
    Hadamard(w.flat(), std::as_const(mask).flat(), pruned.flat());
    run.objective().LossAndGradient({MatrixView(pruned)}, absl::MakeSpan(gradient));
    GradientInMask(w.flat(), std::as_const(mask).flat(), static_cast<float>(kLambda),
                   gradient[0].flat());
    HeavyBallStep(kStep, std::as_const(gradient[0]).flat(), std::as_const(mask).flat(), w.flat(),
                  velocity.flat(), next.flat(), pruned.flat());
    std::swap(mask, next);
  }
  return Values(mask);
}

TEST(MaskDescent, IsNotChangedByItsPieces) {
  const Problem problem = TwoPieces();
  DescentRun run(problem);
  run.Take(3);
  const std::vector<float> mask = run.Mask();
  EXPECT_EQ(mask, MaskWithoutPieces(problem, 3));
  // By now the attention loss has told entries apart, in the second piece too.
  EXPECT_NE(*std::min_element(mask.begin() + 32768, mask.end()),
            *std::max_element(mask.begin() + 32768, mask.end()));
}

TEST(MaskDescent, HasTheSameBitsOnAnyNumberOfThreads) {
  const Problem problem = TwoPieces();
  DescentRun one(problem, 1);
  one.Take(3);
  const MaskDescent::Losses losses = one.descent().Evaluate();
  for (int threads : {2, 4}) {
    DescentRun many(problem, threads);
    many.Take(3);
    EXPECT_EQ(many.Mask(), one.Mask()) << threads;
    const MaskDescent::Losses same = many.descent().Evaluate();
    EXPECT_EQ(same.attention, losses.attention) << threads;
    EXPECT_EQ(same.regularization, losses.regularization) << threads;
    EXPECT_EQ(same.gradient_norm, losses.gradient_norm) << threads;
  }
}

// Both matrices of a layer, each of two pieces: neither is left out.
TEST(MaskDescent, MovesBothMatricesOfALayer) {
  Problem problem = ProjectionProblem(GaussianMatrix(kFeatures, kFeatures, 3),
                                      GaussianMatrix(kFeatures, kFeatures, 4),
                                      GaussianMatrix(6, kFeatures, 5), Sparsity());
  problem.scale = 1e-4;
  DescentRun run(problem, 2);
  const MaskDescent::Losses losses = run.descent().Evaluate();
  EXPECT_EQ(losses.attention, 0);
  EXPECT_EQ(losses.regularization, 0.5 * kLambda * 80'000);
  run.descent().Step(losses.total());
  for (const Matrix& mask : run.descent().masks()) {
    EXPECT_THAT(Values(mask), Each(1 - 0x1p-2f * 0x1p-3f / 4));
  }
}

TEST(MaskDescent, SaysWhenItsMasksAreNoLongerFinite) {
  Problem problem = TwoPieces();
  const HeavyBall too_long{.inverse_batches = 0.25f,
                           .momentum = 0.5f,
                           .eta = std::numeric_limits<float>::infinity(),
                           .project = false};
  DescentRun run(problem, 1, too_long);
  EXPECT_TRUE(run.descent().MasksAreFinite());
  run.Take(1);
  EXPECT_FALSE(run.descent().MasksAreFinite());
  EXPECT_FALSE(run.descent().Evaluate().finite);
}

}  // namespace
}  // namespace attnprune::testing
