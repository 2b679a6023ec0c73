// The reference against every tensor of every golden file.
#include "tests/reference/golden.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/reference/algorithm1.h"
#include "tests/reference/gradient_check.h"

namespace attnprune::reference {
namespace {

using ::testing::IsEmpty;

// Two float64 programs that add in different orders: sums of at most a few hundred terms of size 1,
// 2^-53 each.
constexpr double kTolerance = 1e-12;
// Forty steps of Algorithm 1 amplify that a little.
constexpr double kDescentTolerance = 1e-10;

TEST(GoldenFiles, AreAllKnownToTheTests) {
  std::vector<std::string> known = AttentionGoldenFiles();
  for (const std::string& file : BaselineGoldenFiles()) known.push_back(file);
  EXPECT_THAT(GoldenFilesOnDisk(), testing::UnorderedElementsAreArray(known));
}

class FusedGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void ExpectAttention(const AttentionProblem& problem, const std::vector<Dense>& weights,
                       const std::string& prefix) {
    for (size_t j = 0; j < problem.batches.size(); ++j) {
      EXPECT_TRUE(Near(Attention(problem, weights, problem.batches[j], 0),
                       golden_.ReadMatrix(absl::StrCat(prefix, j)), kTolerance));
    }
  }
  void ExpectDescent(const AttentionProblem& problem);

  GoldenFile golden_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Files, FusedGolden, ::testing::ValuesIn(FusedGoldenFiles()),
                         [](const auto& file) { return file.param; });

void FusedGolden::ExpectDescent(const AttentionProblem& problem) {
  const DescentResult result = GradientDescent(problem, golden_.Descent());
  const Dense expected = golden_.ReadMatrix("gd.mask");
  EXPECT_TRUE(Near(result.masks[0], expected, kDescentTolerance));
  EXPECT_TRUE(Near(Eigen::Map<const Vector>(result.attention_loss.data(),
                                            static_cast<Index>(result.attention_loss.size())),
                   golden_.ReadMatrix("gd.attention_loss"), kDescentTolerance));
  EXPECT_TRUE(Near(Eigen::Map<const Vector>(result.regularization.data(),
                                            static_cast<Index>(result.regularization.size())),
                   golden_.ReadMatrix("gd.regularization"), kDescentTolerance));
  const Index pruned = Sparsity::Fraction(golden_.Number("rho")).PrunedOf(expected.size());
  const Dense binary = Binarize(result.masks[0], pruned);
  EXPECT_EQ(binary, golden_.ReadMatrix("gd.binary_mask"));
  EXPECT_NEAR(Errors(problem, Hadamard({binary}, problem.weights)).relative(),
              golden_.ReadScalar("gd.relative_error"), kTolerance);
}

TEST_P(FusedGolden, IsReproducedTensorByTensor) {
  const AttentionProblem problem = golden_.ReadProblem();
  const std::vector<Dense> masks = golden_.ReadMasks();
  const std::vector<Dense> pruned = Hadamard(masks, problem.weights);
  const double lambda = golden_.Number("lam");
  ExpectAttention(problem, problem.weights, "attention.");
  ExpectAttention(problem, pruned, "attention_masked.");
  EXPECT_NEAR(AttentionLoss(problem, pruned), golden_.ReadScalar("attention_loss"), kTolerance);
  EXPECT_NEAR(Regularization(masks, lambda), golden_.ReadScalar("regularization"), kTolerance);
  EXPECT_TRUE(
      Near(MaskGradients(problem, masks, lambda)[0], golden_.ReadMatrix("gradient"), kTolerance));
  EXPECT_NEAR(Errors(problem, pruned).relative(), golden_.ReadScalar("relative_error_soft"),
              kTolerance);
  if (golden_.Number("steps") > 0) ExpectDescent(problem);
  EXPECT_THAT(golden_.Unread(), IsEmpty());
}

class ProjectionGolden : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Files, ProjectionGolden, ::testing::ValuesIn(ProjectionGoldenFiles()),
                         [](const auto& file) { return file.param; });

TEST_P(ProjectionGolden, IsReproducedTensorByTensor) {
  GoldenFile golden(GetParam());
  const AttentionProblem problem = golden.ReadProblem();
  const std::vector<Dense> masks = golden.ReadMasks();
  const std::vector<Dense> pruned = Hadamard(masks, problem.weights);
  for (size_t j = 0; j < problem.batches.size(); ++j) {
    const std::vector<Dense> attention = golden.ReadStack(absl::StrCat("attention.", j));
    ASSERT_EQ(static_cast<Index>(attention.size()), problem.heads);
    for (Index h = 0; h < problem.heads; ++h) {
      EXPECT_TRUE(Near(Attention(problem, problem.weights, problem.batches[j], h),
                       attention[static_cast<size_t>(h)], kTolerance));
    }
  }
  EXPECT_NEAR(AttentionLoss(problem, pruned), golden.ReadScalar("attention_loss"), kTolerance);
  const std::vector<Dense> gradients = MaskGradients(problem, masks, golden.Number("lam"));
  EXPECT_TRUE(Near(gradients[0], golden.ReadMatrix("gradient_m_q"), kTolerance));
  EXPECT_TRUE(Near(gradients[1], golden.ReadMatrix("gradient_m_k"), kTolerance));
  const ErrorSums errors = Errors(problem, pruned);
  const Vector per_head = golden.ReadVector("relative_error_per_head");
  for (Index h = 0; h < problem.heads; ++h) {
    EXPECT_NEAR(errors.relative(h), per_head(h), kTolerance) << "head " << h;
  }
  EXPECT_NEAR(errors.relative(), golden.ReadScalar("relative_error"), kTolerance);
  EXPECT_THAT(golden.Unread(), IsEmpty());
}

}  // namespace
}  // namespace attnprune::reference
