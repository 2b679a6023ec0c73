// The float32 objective and the attention kernel against the golden files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/attention.h"
#include "core/kernels/descent.h"
#include "tests/core/objective/core_objective.h"
#include "tests/reference/float32_bounds.h"
#include "tests/reference/golden.h"
#include "tests/reference/gradient_check.h"
#include "tests/support/whole_attention.h"

namespace attnprune {
namespace {

using reference::AttentionProblem;
using reference::Dense;
using reference::Float32Bounds;
using reference::GoldenFile;
using reference::Hadamard;
using reference::InputRounding;
using reference::Near;

// The solver gets the files' float64 numbers rounded to float32: part of the tolerance.
constexpr InputRounding kRounding = InputRounding::kNearest;
constexpr double kUnit = 1.0 / (1 << 24);  // u

AttentionLayout LayoutOf(const AttentionMask& mask, Index tokens) {
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < tokens; ++i) {
    const AttentionMask::Range range = mask.Keys(i, tokens);
    ranges.push_back({range.begin, range.end});
  }
  return AttentionLayout(std::move(ranges));
}

// The kernel's f from the two factors of the logits, which the reference computes and float32
// rounds.
Dense KernelAttention(const AttentionProblem& problem, const std::vector<Dense>& weights,
                      const Dense& x, Index head) {
  Matrix a, b;
  if (problem.fused()) {
    a = reference::ToMatrix(x * weights[0]);
    b = reference::ToMatrix(x);
  } else {
    a = reference::ToMatrix(Project(problem, reference::Side::kQueries, x, weights, head));
    b = reference::ToMatrix(
        Project(problem, reference::Side::kKeys, x, weights, problem.kv_head(head)));
  }
  const AttentionLayout layout = LayoutOf(problem.attention, x.rows());
  Matrix packed(1, layout.packed_size());
  attnprune::testing::WholeAttention(layout, b, static_cast<float>(problem.effective_scale()))
      .Dense(a, packed.data());
  const Matrix f = testing::Unpack(layout, packed.data());
  return reference::ToDense(MatrixView(f));
}

class GoldenObjective : public ::testing::TestWithParam<std::string> {
 protected:
  void ExpectAttention(const std::vector<Dense>& weights, const std::string& prefix) {
    for (size_t j = 0; j < problem_.batches.size(); ++j) {
      const std::vector<Dense> expected = golden_.ReadStack(absl::StrCat(prefix, j));
      ASSERT_EQ(static_cast<Index>(expected.size()), problem_.heads);
      for (Index head = 0; head < problem_.heads; ++head) {
        const Dense& x = problem_.batches[j];
        EXPECT_TRUE(Near(KernelAttention(problem_, weights, x, head),
                         expected[static_cast<size_t>(head)],
                         BoundAttention(problem_, weights, x, head, kRounding)))
            << prefix << j << ", head " << head;
      }
    }
  }

  // The gradient in mask i, as a step of gd takes it. 4 u for W o dW + lambda M in float32 and 2 u
  // for W and M rounded. Returns the regularization of that mask.
  double ExpectMaskGradient(const CoreObjective::Answer& answer, size_t i,
                            const std::string& tensor) {
    const Matrix w = reference::ToMatrix(problem_.weights[i]);
    const Matrix m = reference::ToMatrix(masks_[i]);
    const double lambda = golden_.Number("lam");
    Matrix gradient = answer.gradients[i].Clone();
    const MaskStepSums sums =
        GradientInMask(w.flat(), m.flat(), static_cast<float>(lambda), gradient.flat());
    const Dense magnitudes = problem_.weights[i].cwiseAbs();
    const Dense expected = golden_.ReadMatrix(tensor);
    const Dense products = (expected - lambda * masks_[i]).cwiseAbs() + lambda * masks_[i];
    const Dense tolerance =
        magnitudes.cwiseProduct(bounds_.weight_gradients[i]) + 6 * kUnit * products;
    EXPECT_TRUE(Near(reference::ToDense(MatrixView(gradient)), expected, tolerance)) << tensor;
    return 0.5 * lambda * sums.mask_squared;
  }

  GoldenFile golden_{GetParam()};
  const AttentionProblem problem_ = golden_.ReadProblem();
  const std::vector<Dense> masks_ = golden_.ReadMasks();
  const std::vector<Dense> pruned_ = Hadamard(masks_, problem_.weights);
  const Float32Bounds bounds_ = BoundFloat32Errors(problem_, pruned_, kRounding);
  const reference::ErrorSums sums_ = Errors(problem_, pruned_);  // sizes for the bounds only
  CoreObjective core_{problem_};
};

class FusedGoldenObjective : public GoldenObjective {};
INSTANTIATE_TEST_SUITE_P(Files, FusedGoldenObjective,
                         ::testing::ValuesIn(reference::FusedGoldenFiles()),
                         [](const auto& file) { return file.param; });

// gd.* are the gradient descent's: see tests/core/methods.
TEST_P(FusedGoldenObjective, ReproducesEveryTensorButThoseOfTheDescent) {
  ExpectAttention(problem_.weights, "attention.");
  ExpectAttention(pruned_, "attention_masked.");
  const CoreObjective::Answer answer = core_.LossAndGradient(pruned_);
  EXPECT_NEAR(answer.loss, golden_.ReadScalar("attention_loss"), bounds_.attention_loss);
  const double regularization = ExpectMaskGradient(answer, 0, "gradient");
  const double expected = golden_.ReadScalar("regularization");
  EXPECT_NEAR(regularization, expected, 4 * kUnit * expected) << "squares of rounded masks";
  EXPECT_NEAR(core_.Error(pruned_).relative(), golden_.ReadScalar("relative_error_soft"),
              bounds_.relative(sums_));
  EXPECT_THAT(golden_.Unread(), ::testing::Each(::testing::StartsWith("gd.")));
}

class ProjectionGoldenObjective : public GoldenObjective {};
INSTANTIATE_TEST_SUITE_P(Files, ProjectionGoldenObjective,
                         ::testing::ValuesIn(reference::ProjectionGoldenFiles()),
                         [](const auto& file) { return file.param; });

TEST_P(ProjectionGoldenObjective, ReproducesEveryTensor) {
  ExpectAttention(problem_.weights, "attention.");
  const CoreObjective::Answer answer = core_.LossAndGradient(pruned_);
  EXPECT_NEAR(answer.loss, golden_.ReadScalar("attention_loss"), bounds_.attention_loss);
  ExpectMaskGradient(answer, 0, "gradient_m_q");
  ExpectMaskGradient(answer, 1, "gradient_m_k");
  const AttentionError errors = core_.Error(pruned_);
  const reference::Vector per_head = golden_.ReadVector("relative_error_per_head");
  for (Index head = 0; head < problem_.heads; ++head) {
    EXPECT_NEAR(errors.relative(head), per_head(head), bounds_.relative(sums_, head));
  }
  EXPECT_NEAR(errors.relative(), golden_.ReadScalar("relative_error"), bounds_.relative(sums_));
  EXPECT_THAT(golden_.Unread(), ::testing::IsEmpty());
}

}  // namespace
}  // namespace attnprune
