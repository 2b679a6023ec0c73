// The float32 objective against the float64 reference on every option. The tolerances are
// BoundFloat32Errors(), which derives them from the rounding of each operation.
#include "core/objective/attention_objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/core/objective/core_objective.h"
#include "tests/reference/attention_reference.h"
#include "tests/reference/float32_bounds.h"
#include "tests/reference/gradient_check.h"
#include "tests/reference/problems.h"

namespace attnprune {
namespace {

using reference::AttentionProblem;
using reference::Dense;
using reference::Float32Bounds;
using reference::Near;
using reference::P1;
using reference::ProblemRow;

std::vector<ProblemRow> EveryRow() {
  std::vector<ProblemRow> rows = reference::AllRows();
  for (ProblemRow& row : reference::RowsOfStraddlingLengths()) rows.push_back(std::move(row));
  return rows;
}

class Objective : public ::testing::TestWithParam<ProblemRow> {
 protected:
  const AttentionProblem& problem() const { return GetParam().problem; }

  const std::vector<Dense> pruned_ = GetParam().pruned();
  const Float32Bounds bounds_ = BoundFloat32Errors(problem(), pruned_);
  CoreObjective core_{problem()};
};
INSTANTIATE_TEST_SUITE_P(Rows, Objective, ::testing::ValuesIn(EveryRow()),
                         [](const auto& row) { return reference::TestName(row.param.sentence); });

TEST_P(Objective, HasTheLossAndGradientOfTheReference) {
  const CoreObjective::Answer answer = core_.LossAndGradient(pruned_);
  EXPECT_NEAR(answer.loss, AttentionLoss(problem(), pruned_), bounds_.attention_loss);
  EXPECT_TRUE(Near(reference::ToDense(answer.gradients), WeightGradients(problem(), pruned_),
                   bounds_.weight_gradients));
}

// A chunk of at most one float is one batch.
TEST_P(Objective, HasTheLossAndGradientOfTheReferenceBatchByBatch) {
  CoreObjective by_batch(problem(), 1, {.chunk_floats = 1});
  const CoreObjective::Answer answer = by_batch.LossAndGradient(pruned_);
  EXPECT_EQ(answer.loss, core_.LossAndGradient(pruned_).loss);
  EXPECT_TRUE(Near(reference::ToDense(answer.gradients), WeightGradients(problem(), pruned_),
                   bounds_.weight_gradients));
  EXPECT_EQ(by_batch.Error(pruned_).difference, core_.Error(pruned_).difference);
  EXPECT_EQ(by_batch.SmallestLogAttention(pruned_), core_.SmallestLogAttention(pruned_));
}

TEST_P(Objective, HasTheSameBitsWhereDenseAttentionIsRebuiltWithItsProjectionsOrWithout) {
  for (const Index chunk_floats : {Index{1}, ObjectiveOptions().chunk_floats}) {
    CoreObjective kept(problem(), 1, {.chunk_floats = chunk_floats});
    const CoreObjective::Answer expected = kept.LossAndGradient(pruned_);
    for (const DenseAttention dense : {DenseAttention::kRebuild, DenseAttention::kRecompute}) {
      CoreObjective rebuilt(problem(), 2, {.dense = dense, .chunk_floats = chunk_floats});
      const CoreObjective::Answer answer = rebuilt.LossAndGradient(pruned_);
      EXPECT_EQ(answer.loss, expected.loss);
      for (size_t i = 0; i < expected.gradients.size(); ++i) {
        EXPECT_EQ(answer.gradients[i].flat(), expected.gradients[i].flat());
      }
      EXPECT_EQ(rebuilt.Error(pruned_).difference, kept.Error(pruned_).difference);
      EXPECT_EQ(rebuilt->dense_norm_squared(), kept->dense_norm_squared());
    }
  }
}

TEST_P(Objective, HasTheErrorsOfTheReferenceHeadByHead) {
  const AttentionError errors = core_.Error(pruned_);
  const reference::ErrorSums expected = Errors(problem(), pruned_);
  ASSERT_EQ(errors.difference.size(), expected.difference.size());
  ASSERT_EQ(errors.dense.size(), expected.dense.size());
  for (size_t h = 0; h < expected.dense.size(); ++h) {
    EXPECT_NEAR(errors.difference[h], expected.difference[h], bounds_.errors.difference[h]);
    EXPECT_NEAR(errors.dense[h], expected.dense[h], bounds_.errors.dense[h]);
    const Index head = static_cast<Index>(h);
    EXPECT_NEAR(errors.relative(head), expected.relative(head), bounds_.relative(expected, head));
  }
  EXPECT_NEAR(errors.relative(), expected.relative(), bounds_.relative(expected));
  double norm = 0;
  for (double dense : expected.dense) norm += dense;
  EXPECT_NEAR(core_->dense_norm_squared(), norm, bounds_.dense_norm());
}

TEST_P(Objective, IsExactlyZeroAtTheDenseWeights) {
  const CoreObjective::Answer answer = core_.LossAndGradient(problem().weights);
  EXPECT_EQ(answer.loss, 0);
  for (const Matrix& gradient : answer.gradients) {
    EXPECT_THAT(gradient.flat(), ::testing::Each(0.0f));
  }
}

TEST_P(Objective, FindsTheSmallestAllowedAttention) {
  double smallest = std::numeric_limits<double>::infinity(), tolerance = 0;
  for (const Dense& x : problem().batches) {
    for (Index head = 0; head < problem().heads; ++head) {
      const Dense f = Attention(problem(), pruned_, x, head);
      const Dense bound =
          BoundAttention(problem(), pruned_, x, head, reference::InputRounding::kExact);
      for (Index i = 0; i < f.rows(); ++i) {
        for (Index j = 0; j < f.cols(); ++j) {
          if (!reference::Allowed(problem().attention, i, j)) continue;
          smallest = std::min(smallest, f(i, j));
          // |log(f + df) - log f| <= df / (f - df).
          tolerance = std::max(tolerance, bound(i, j) / (f(i, j) - bound(i, j)));
        }
      }
    }
  }
  EXPECT_NEAR(core_.SmallestLogAttention(pruned_), std::log(smallest), tolerance);
}

// Every option, but only short batches: each entry costs four losses.
class ObjectiveGradient : public ::testing::TestWithParam<ProblemRow> {};
INSTANTIATE_TEST_SUITE_P(Rows, ObjectiveGradient, ::testing::ValuesIn(reference::AllRows()),
                         [](const auto& row) { return reference::TestName(row.param.sentence); });

// Allows what the differences themselves leave open, the float32 bound carried through W o dW, and
// 4 u of the result for W o dW + lambda M.
TEST_P(ObjectiveGradient, AgreesWithDifferencesOfTheFloat64Loss) {
  const ProblemRow& row = GetParam();
  const reference::NumericGradients numeric =
      CentralDifferences(row.problem, row.masks, row.lambda);
  const Float32Bounds bounds = BoundFloat32Errors(row.problem, row.pruned());
  CoreObjective core(row.problem);
  const CoreObjective::Answer answer = core.LossAndGradient(row.pruned());
  for (size_t i = 0; i < row.masks.size(); ++i) {
    const Dense w = row.problem.weights[i];
    const Dense weight_gradient = reference::ToDense(MatrixView(answer.gradients[i]));
    const Dense regularization = row.lambda * row.masks[i];
    const Dense gradient = w.cwiseProduct(weight_gradient) + regularization;
    const Dense tolerance = numeric.error[i] +
                            w.cwiseAbs().cwiseProduct(bounds.weight_gradients[i]) +
                            std::ldexp(4.0, -24) * gradient.cwiseAbs();
    EXPECT_TRUE(Near(gradient, numeric.value[i], tolerance)) << "weight " << i;
  }
}

// The tolerances above must be able to fail.
class Float32Tolerance : public ::testing::TestWithParam<ProblemRow> {
 protected:
  const AttentionProblem& problem() const { return GetParam().problem; }
  ::testing::AssertionResult Accepts(const std::vector<Dense>& gradients) const {
    return Near(gradients, WeightGradients(problem(), pruned_), bounds_.weight_gradients);
  }

  const std::vector<Dense> pruned_ = GetParam().pruned();
  const Float32Bounds bounds_ = BoundFloat32Errors(problem(), pruned_);
};
INSTANTIATE_TEST_SUITE_P(Rows, Float32Tolerance, ::testing::ValuesIn(reference::RowsWithLoss()),
                         [](const auto& row) { return reference::TestName(row.param.sentence); });

TEST_P(Float32Tolerance, RejectsTheMisprintedP1) {
  EXPECT_FALSE(Accepts(WeightGradients(problem(), pruned_, P1::kMisprint)));
}

TEST_P(Float32Tolerance, RejectsAScaleThatIsOnePercentOff) {
  AttentionProblem rescaled = problem();
  rescaled.scale = 1.01 * rescaled.effective_scale();
  EXPECT_FALSE(Accepts(WeightGradients(rescaled, pruned_)));
  EXPECT_GT(std::abs(AttentionLoss(rescaled, pruned_) - AttentionLoss(problem(), pruned_)),
            bounds_.attention_loss);
}

TEST_P(Float32Tolerance, RejectsTheWrongAttentionMask) {
  AttentionProblem masked = problem();
  masked.attention = problem().attention.kind == AttentionMask::Kind::kFull
                         ? AttentionMask{AttentionMask::Kind::kCausal, 0}
                         : AttentionMask{AttentionMask::Kind::kFull, 0};
  EXPECT_FALSE(Accepts(WeightGradients(masked, pruned_)));
}

TEST_P(Float32Tolerance, RejectsAGradientThatIsOnePerMilleOff) {
  std::vector<Dense> gradients = WeightGradients(problem(), pruned_);
  for (Dense& gradient : gradients) gradient *= 1.001;
  EXPECT_FALSE(Accepts(gradients));
}

}  // namespace
}  // namespace attnprune
