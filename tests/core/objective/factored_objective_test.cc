// The gradient in the factors of a fused weight, against differences of the float64 loss.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "core/objective/attention_objective.h"
#include "tests/core/objective/core_objective.h"
#include "tests/reference/gradient_check.h"

namespace attnprune {
namespace {

using reference::AttentionProblem;
using reference::Dense;

constexpr Index kFeatures = 6, kRank = 3;

// A fused problem of rank 3 and other factors of it to look at.
class Factored : public ::testing::Test {
 protected:
  Factored() {
    problem_ = reference::RandomFused({.d = kFeatures, .lengths = {7, 5}},
                                      {AttentionMask::Kind::kCausal, 0}, 7);
    const Dense w = problem_.weights[0];
    factors_ = {w.leftCols(kRank), w.rightCols(kRank)};
    problem_.weights[0] = factors_[0] * factors_[1].transpose();
    for (Dense& factor : factors_) factor(1, 2) = factor(4, 0) = 0;  // pruned
  }

  double LossOf(const std::vector<Dense>& factors) const {
    return reference::AttentionLoss(problem_, {factors[0] * factors[1].transpose()});
  }

  // Central differences; their own error is of the order of h^2 = 1e-8.
  std::vector<Dense> Differences() const {
    constexpr double h = 1e-4;
    std::vector<Dense> result = factors_;
    for (size_t f = 0; f < 2; ++f) {
      for (Index i = 0; i < result[f].size(); ++i) {
        std::vector<Dense> up = factors_, down = factors_;
        up[f].data()[i] += h;
        down[f].data()[i] -= h;
        result[f].data()[i] = (LossOf(up) - LossOf(down)) / (2 * h);
      }
    }
    return result;
  }

  AttentionProblem problem_;
  std::vector<Dense> factors_;
};

TEST_F(Factored, GradientAgreesWithDifferencesOfTheFloat64Loss) {
  const Problem core = reference::ToCore(problem_);
  ThreadPool pool(1);
  const std::unique_ptr<AttentionObjective> fused =
      AttentionObjective::Create(core, core.calibration, "calibration", pool).value();
  FactoredObjective objective(*fused);
  const std::vector<Matrix> factors = reference::ToMatrices(factors_);
  std::vector<Matrix> gradients(2);
  const double loss =
      objective.LossAndGradient(reference::Views(factors), absl::MakeSpan(gradients));
  EXPECT_NEAR(loss, LossOf(factors_), 1e-4 * loss);
  EXPECT_NEAR(objective.Error(reference::Views(factors)).relative(),
              2 * loss / objective.dense_norm_squared(), 1e-5);
  const std::vector<Dense> expected = Differences();
  for (size_t f = 0; f < 2; ++f) {
    const double largest = expected[f].cwiseAbs().maxCoeff();
    ASSERT_GT(largest, 1e-3);
    const Dense actual = reference::ToDense(MatrixView(gradients[f]));
    // float32 logits of order 10 with 24 bits, through a softmax: a few 1e-5 of the largest.
    const double tolerance = 1e-4 * largest;
    EXPECT_TRUE(reference::Near(actual, expected[f], tolerance));
    Dense spoiled = actual;
    spoiled(2, 1) += 2 * tolerance;
    EXPECT_FALSE(reference::Near(spoiled, expected[f], tolerance)) << "the check sees nothing";
  }
}

}  // namespace
}  // namespace attnprune
