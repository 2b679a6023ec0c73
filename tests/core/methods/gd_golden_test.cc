// `gd` against the golden descents, and against the reference's Algorithm 1 on every option.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/core/methods/gd_runs.h"
#include "tests/reference/algorithm1.h"
#include "tests/reference/descent_tolerance.h"
#include "tests/reference/float32_bounds.h"
#include "tests/reference/golden.h"
#include "tests/reference/gradient_check.h"
#include "tests/reference/problems.h"

namespace attnprune {
namespace {

using reference::AttentionProblem;
using reference::Dense;
using reference::DescentOptions;
using reference::DescentTolerance;
using reference::GoldenFile;
using reference::Hadamard;
using reference::Near;
using reference::Vector;

void ExpectHistory(const std::vector<StepStats>& stats, double StepStats::*figure,
                   const std::vector<double>& expected, const std::vector<double>& tolerance) {
  ASSERT_EQ(stats.size(), expected.size());
  for (size_t t = 0; t < stats.size(); ++t) {
    EXPECT_NEAR(stats[t].*figure, expected[t], tolerance[t]) << "step " << t + 1;
  }
}

std::vector<double> Values(const Vector& v) { return {v.data(), v.data() + v.size()}; }

// Expects equal masks except at scores within `tolerance` of the threshold between the `pruned`
// smallest and the rest. Returns how many entries differ.
Index ExpectEqualButForTies(const Dense& actual, const Dense& expected, const Dense& scores,
                            Index pruned, double tolerance) {
  std::vector<double> sorted(scores.data(), scores.data() + scores.size());
  std::sort(sorted.begin(), sorted.end());
  const double last_pruned = sorted[static_cast<size_t>(pruned - 1)];
  const double first_kept = sorted[static_cast<size_t>(pruned)];
  Index differing = 0;
  for (Index e = 0; e < scores.size(); ++e) {
    if (actual.data()[e] == expected.data()[e]) continue;
    ++differing;
    const double score = scores.data()[e];
    // Both scores of a swapped pair move by at most the tolerance.
    const double distance = std::min(std::abs(score - first_kept), std::abs(score - last_pruned));
    EXPECT_LE(distance, 2 * tolerance) << "entry " << e << " differs without a tie";
  }
  return differing;
}

std::vector<std::string> FilesWithADescent() {
  std::vector<std::string> files = reference::FusedGoldenFiles();
  std::erase_if(files,
                [](const std::string& file) { return !GoldenFile(file).Contains("gd.mask"); });
  return files;
}

class GdGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void ExpectBinaryMask(const Dense& binary);

  GoldenFile golden_{GetParam()};
  const AttentionProblem reference_ = golden_.ReadProblem();
  const DescentOptions options_ = golden_.Descent();
  const DescentTolerance tolerance_ = StudyFloat32Descent(reference_, options_);
  const Sparsity sparsity_ = Sparsity::Fraction(golden_.Number("rho"));
  const Problem problem_ = ToCore(reference_, sparsity_);
};
INSTANTIATE_TEST_SUITE_P(Files, GdGolden, ::testing::ValuesIn(FilesWithADescent()),
                         [](const auto& file) { return file.param; });

TEST(GdGoldenFiles, AreThreeDescents) {
  EXPECT_THAT(FilesWithADescent(),
              ::testing::ElementsAre("fused_causal", "fused_causal_scaled", "fused_one_token"));
}

TEST_P(GdGolden, FollowsTheDescentStepByStep) {
  Recorder recorder;
  const auto result = RunGd(problem_, ParametersOf(options_), {}, recorder);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->reason, TerminationReason::kCompleted);
  EXPECT_EQ(result->steps, options_.steps);
  ASSERT_EQ(result->matrices.size(), 1u);
  const Dense mask = reference::ToDense(MatrixView(result->matrices[0].soft_mask));
  const Dense expected = golden_.ReadMatrix("gd.mask");
  EXPECT_TRUE(Near(mask, expected, tolerance_.masks[0]));
  std::cout << GetParam() << ": the mask after " << options_.steps << " steps is within "
            << (mask - expected).cwiseAbs().maxCoeff() << ", allowed " << tolerance_.masks[0]
            << "\n";
  ExpectHistory(recorder.stats(), &StepStats::attention_loss,
                Values(golden_.ReadVector("gd.attention_loss")), tolerance_.attention_loss);
  ExpectHistory(recorder.stats(), &StepStats::regularization,
                Values(golden_.ReadVector("gd.regularization")), tolerance_.regularization);
}

TEST_P(GdGolden, PrunesWhatTheDescentPrunes) {
  Recorder recorder;
  const auto result =
      RunGd(problem_, ParametersOf(options_), {.evaluate_every = options_.steps}, recorder);
  ASSERT_TRUE(result.ok()) << result.status();
  const Dense scores = golden_.ReadMatrix("gd.mask");
  const Dense binary = ToDense(result->matrices[0].mask);
  const Index pruned = sparsity_.PrunedOf(scores.size());
  const Index differing = ExpectEqualButForTies(binary, golden_.ReadMatrix("gd.binary_mask"),
                                                scores, pruned, tolerance_.masks[0]);
  std::cout << GetParam() << ": " << differing << " of " << scores.size()
            << " mask entries differ, all ties within " << 2 * tolerance_.masks[0] << "\n";
  RecordProperty("differing_entries", static_cast<int>(differing));

  // With the golden mask, the golden error; a tie broken otherwise has the reference's own.
  const std::vector<Dense> weights = Hadamard({binary}, reference_.weights);
  const reference::ErrorSums sums = Errors(reference_, weights);
  const double golden_error = golden_.ReadScalar("gd.relative_error");
  const double expected = differing == 0 ? golden_error : sums.relative();
  const auto bounds = BoundFloat32Errors(reference_, weights, reference::InputRounding::kNearest);
  ASSERT_TRUE(recorder.stats().back().calibration_error.has_value());
  EXPECT_NEAR(*recorder.stats().back().calibration_error, expected, bounds.relative(sums));
}

// The other tensors are read by the objective's golden test.
TEST_P(GdGolden, LeavesNoTensorOfTheDescentUnread) {
  for (const char* tensor : {"gd.mask", "gd.binary_mask"}) golden_.ReadMatrix(tensor);
  for (const char* tensor : {"gd.attention_loss", "gd.regularization"}) golden_.ReadVector(tensor);
  golden_.ReadScalar("gd.relative_error");
  EXPECT_THAT(golden_.Unread(), ::testing::Each(::testing::Not(::testing::StartsWith("gd."))));
}

struct DescentRow {
  reference::ProblemRow row;
  DescentOptions options;
};
void PrintTo(const DescentRow& row, std::ostream* out) { *out << row.row.sentence; }

// The step length 0.3 moves the masks by about 1 in 20 steps, far beyond any tolerance.
std::vector<DescentRow> DescentRows() {
  std::vector<DescentRow> rows;
  for (reference::ProblemRow& row : reference::AllRows()) {
    DescentOptions options = {.lambda = row.lambda, .eta = 0.3, .momentum = 0.9, .steps = 20};
    rows.push_back({row, options});
    row.sentence += " projected to the unit interval";
    options.projection = reference::Projection::kUnitInterval;
    rows.push_back({row, options});
  }
  return rows;
}

class GdDescent : public ::testing::TestWithParam<DescentRow> {};
INSTANTIATE_TEST_SUITE_P(Rows, GdDescent, ::testing::ValuesIn(DescentRows()), [](const auto& row) {
  return reference::TestName(row.param.row.sentence);
});

TEST_P(GdDescent, FollowsAlgorithm1) {
  const AttentionProblem& problem = GetParam().row.problem;
  const DescentOptions& options = GetParam().options;
  const reference::DescentResult expected = GradientDescent(problem, options);
  const DescentTolerance tolerance = StudyFloat32Descent(problem, options);
  Recorder recorder;
  const auto result = RunGd(ToCore(problem), ParametersOf(options), {}, recorder);
  ASSERT_TRUE(result.ok()) << result.status();
  for (size_t i = 0; i < expected.masks.size(); ++i) {
    EXPECT_TRUE(Near(reference::ToDense(MatrixView(result->matrices[i].soft_mask)),
                     expected.masks[i], tolerance.masks[i]));
  }
  ExpectHistory(recorder.stats(), &StepStats::attention_loss, expected.attention_loss,
                tolerance.attention_loss);
  ExpectHistory(recorder.stats(), &StepStats::regularization, expected.regularization,
                tolerance.regularization);
}

// A tolerance that no wrong descent could exceed would prove nothing.
TEST(GdTolerance, RejectsOtherMomentumAndAForgottenDivisionByTheBatches) {
  for (const char* file : {"fused_causal", "fused_causal_scaled"}) {
    GoldenFile golden(file);
    const AttentionProblem problem = golden.ReadProblem();
    const DescentOptions right = golden.Descent();
    const double tolerance = StudyFloat32Descent(problem, right).masks[0];
    const Dense expected = golden.ReadMatrix("gd.mask");
    DescentOptions slower = right, undivided = right;
    slower.momentum = 0.8999;
    undivided.eta *= static_cast<double>(problem.batches.size());
    EXPECT_FALSE(Near(GradientDescent(problem, slower).masks[0], expected, tolerance)) << file;
    EXPECT_FALSE(Near(GradientDescent(problem, undivided).masks[0], expected, tolerance)) << file;
  }
}

}  // namespace
}  // namespace attnprune
