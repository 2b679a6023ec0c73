// Worked cases at the edges, and bits that must not depend on the threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "tests/core/objective/core_objective.h"
#include "tests/reference/float32_bounds.h"
#include "tests/reference/gradient_check.h"
#include "tests/reference/problems.h"

namespace attnprune {
namespace {

using reference::AttentionProblem;
using reference::Dense;
using reference::Near;
using reference::ProblemRow;
using ::testing::Each;
using ::testing::ElementsAre;

constexpr AttentionMask kCausal = {AttentionMask::Kind::kCausal, 0};
constexpr AttentionMask kFull = {AttentionMask::Kind::kFull, 0};

// One feature, W = w; one batch of the given tokens.
AttentionProblem OneFeature(double w, const std::vector<double>& tokens, AttentionMask mask) {
  AttentionProblem problem;
  problem.weights = {Dense::Constant(1, 1, w)};
  problem.attention = mask;
  problem.batches = {Eigen::Map<const Dense>(tokens.data(), static_cast<Index>(tokens.size()), 1)};
  return problem;
}

std::vector<Dense> Zeros(const AttentionProblem& problem) {
  std::vector<Dense> zeros = problem.weights;
  for (Dense& z : zeros) z.setZero();
  return zeros;
}

// x = (1, -1), w = 300: row 2 has the logits (-300, 300), so f = (0, 1). Pruned, f~ = (1/2, 1/2):
// c = (1/2, -1/2), p = (1/4, -1/4), x2 (p1 x1 + p2 x2) = -1/2. All exact in float32.
TEST(ObjectiveEdge, LogitsOfPlusAndMinus300AreExactOnTwoTokens) {
  const AttentionProblem problem = OneFeature(300, {1, -1}, kCausal);
  CoreObjective core(problem);
  const CoreObjective::Answer answer = core.LossAndGradient(Zeros(problem));
  EXPECT_EQ(answer.loss, 0.25);
  EXPECT_THAT(answer.gradients[0].flat(), ElementsAre(-0.5f));
  EXPECT_EQ(core->dense_norm_squared(), 2.0);
  EXPECT_EQ(core.SmallestLogAttention(problem.weights), -600.0);
}

// The dense side is flat there and the pruned side saturated: no gradient is left.
TEST(ObjectiveEdge, PrunedLogitsOfPlusAndMinus300AreExactOnTwoTokens) {
  const AttentionProblem problem = OneFeature(0, {1, -1}, kCausal);
  CoreObjective core(problem);
  const CoreObjective::Answer answer = core.LossAndGradient({Dense::Constant(1, 1, 300)});
  EXPECT_EQ(answer.loss, 0.25);
  EXPECT_THAT(answer.gradients[0].flat(), ElementsAre(0.0f));
}

// The scale that takes the largest logit of the dense weights to 300, in float32.
double ScaleTo300(const AttentionProblem& problem) {
  double largest = 0;
  for (const Dense& x : problem.batches) {
    for (Index head = 0; head < problem.heads; ++head) {
      const Dense logits = Logits(problem, problem.weights, x, head);
      largest = std::max(largest, logits.cwiseAbs().maxCoeff());
    }
  }
  return static_cast<double>(static_cast<float>(300 / largest * problem.effective_scale()));
}

std::vector<ProblemRow> RowsOfLargeLogits() {
  std::vector<ProblemRow> rows;
  for (const AttentionMask& mask : {kCausal, kFull}) {
    AttentionProblem fused = reference::RandomFused({.d = 8, .lengths = {40, 5}}, mask, 71);
    fused.scale = ScaleTo300(fused);
    rows.push_back(reference::Row("fused " + ToString(mask), fused));
    AttentionProblem grouped = reference::RandomProjections(
        {.d = 8, .heads = 4, .kv_heads = 2, .lengths = {40, 5}}, mask, 72);
    grouped.rope = Rope{};
    grouped.scale = ScaleTo300(grouped);
    rows.push_back(reference::Row("projections " + ToString(mask), grouped));
  }
  return rows;
}

class LargeLogits : public ::testing::TestWithParam<ProblemRow> {};
INSTANTIATE_TEST_SUITE_P(Rows, LargeLogits, ::testing::ValuesIn(RowsOfLargeLogits()),
                         [](const auto& row) { return reference::TestName(row.param.sentence); });

TEST_P(LargeLogits, GiveTheLossAndGradientOfTheReference) {
  const AttentionProblem& problem = GetParam().problem;
  const std::vector<Dense> pruned = GetParam().pruned();
  const reference::Float32Bounds bounds = BoundFloat32Errors(problem, pruned);
  CoreObjective core(problem);
  const CoreObjective::Answer answer = core.LossAndGradient(pruned);
  EXPECT_NEAR(answer.loss, AttentionLoss(problem, pruned), bounds.attention_loss);
  EXPECT_TRUE(Near(reference::ToDense(answer.gradients), WeightGradients(problem, pruned),
                   bounds.weight_gradients));
}

TEST(ObjectiveEdge, BatchesOfOneTokenHaveNoLossAndNoGradient) {
  for (const AttentionMask& mask : {kCausal, kFull}) {
    const AttentionProblem problem =
        reference::RandomFused({.d = 5, .lengths = {1, 1, 1}}, mask, 81);
    CoreObjective core(problem);
    const CoreObjective::Answer answer = core.LossAndGradient(Zeros(problem));
    EXPECT_EQ(answer.loss, 0);
    EXPECT_THAT(answer.gradients[0].flat(), Each(0.0f));
    EXPECT_EQ(core->dense_norm_squared(), 3.0) << "f = 1 for each token";
    EXPECT_EQ(core.Error(Zeros(problem)).relative(), 0);
    EXPECT_EQ(core.SmallestLogAttention(problem.weights), 0);
  }
}

TEST(ObjectiveEdge, OneTokenOfARealLayerHasNoLossAndNoGradient) {
  AttentionProblem problem = reference::RandomProjections(
      {.d = 5, .heads = 4, .kv_heads = 2, .lengths = {1}}, kCausal, 82);
  problem.rope = Rope{};
  CoreObjective core(problem);
  const CoreObjective::Answer answer = core.LossAndGradient(Zeros(problem));
  EXPECT_EQ(answer.loss, 0);
  for (const Matrix& g : answer.gradients) EXPECT_THAT(g.flat(), Each(0.0f));
  EXPECT_THAT(core.Error(Zeros(problem)).dense, ElementsAre(1.0, 1.0, 1.0, 1.0));
}

TEST(ObjectiveEdge, AFeatureThatIsAlwaysZeroHasExactlyNoGradient) {
  AttentionProblem problem = reference::RandomFused({.d = 6, .lengths = {9}}, kCausal, 83);
  problem.batches[0].col(2).setZero();
  CoreObjective core(problem);
  const CoreObjective::Answer answer = core.LossAndGradient(Zeros(problem));
  for (Index i = 0; i < 6; ++i) {
    EXPECT_EQ(answer.gradients[0](2, i), 0.0f);
    EXPECT_EQ(answer.gradients[0](i, 2), 0.0f);
  }
}

// All-equal weights and tokens: f and f~ are both uniform over the allowed keys.
TEST(ObjectiveEdge, EqualTokensHaveNoLossWhateverIsPruned) {
  AttentionProblem problem = reference::RandomFused({.d = 4, .lengths = {8}}, kFull, 84);
  problem.weights[0].setConstant(0.5);
  problem.batches[0].setConstant(1.0);
  CoreObjective core(problem);
  EXPECT_EQ(core.LossAndGradient(Zeros(problem)).loss, 0);
  EXPECT_EQ(core->dense_norm_squared(), 1.0) << "8 rows of 8 entries of 1/8";
}

TEST(ObjectiveEdge, RefusesDenseLogitsThatOverflow) {
  for (double w : {1e30, -1e30}) {
    CoreObjective core(OneFeature(w, {1e10, 2e10, -1e10}, kCausal));
    EXPECT_EQ(core.status().code(), absl::StatusCode::kInvalidArgument) << w;
    EXPECT_THAT(std::string(core.status().message()), ::testing::HasSubstr("calibration")) << w;
  }
}

// Row 2 has the logits (-1e20, -1e40), the latter -infinity in float32: f = (1, 0) either way.
// Pruned, f~ = (1/2, 1/2).
TEST(ObjectiveEdge, ALogitOfMinusInfinityIsAnAttentionOfZero) {
  const AttentionProblem problem = OneFeature(-1, {1, 1e20}, kCausal);
  CoreObjective core(problem);
  ASSERT_TRUE(core.status().ok()) << core.status();
  EXPECT_EQ(core->dense_norm_squared(), 2.0);
  EXPECT_EQ(core.LossAndGradient(Zeros(problem)).loss, 0.25);
}

TEST(ObjectiveEdge, IsNotFiniteWhenPrunedLogitsOverflow) {
  const AttentionProblem problem = OneFeature(1, {1, 2, -1}, kCausal);
  CoreObjective core(problem);
  for (double w : {3e38, -3e38}) {
    EXPECT_FALSE(std::isfinite(core.LossAndGradient({Dense::Constant(1, 1, w)}).loss)) << w;
  }
}

TEST(ObjectiveEdge, AnswersDoNotDependOnEarlierCalls) {
  for (const ProblemRow& row : reference::RowsWithLoss()) {
    CoreObjective fresh(row.problem), used(row.problem);
    used.LossAndGradient(Zeros(row.problem));
    used.Error(Zeros(row.problem));
    const CoreObjective::Answer first = fresh.LossAndGradient(row.pruned());
    const CoreObjective::Answer later = used.LossAndGradient(row.pruned());
    EXPECT_EQ(first.loss, later.loss) << row.sentence;
    for (size_t i = 0; i < first.gradients.size(); ++i) {
      EXPECT_EQ(first.gradients[i].flat(), later.gradients[i].flat()) << row.sentence;
    }
  }
}

TEST(ObjectiveEdge, GradientsAreOverwrittenNotAddedTo) {
  const ProblemRow row = reference::RowsWithLoss().front();
  CoreObjective core(row.problem);
  const std::vector<Matrix> weights = reference::ToMatrices(row.pruned());
  std::vector<Matrix> gradients(1);
  gradients[0] = Matrix::Constant(weights[0].rows(), weights[0].cols(), 1e6f);
  core->LossAndGradient(reference::Views(weights), absl::MakeSpan(gradients));
  EXPECT_EQ(gradients[0].flat(), core.LossAndGradient(row.pruned()).gradients[0].flat());
}

// The paper's size and a small real layer: more than one shard of every kind.
std::vector<ProblemRow> RowsOfManyShards() {
  std::vector<ProblemRow> rows = reference::AllRows();
  std::vector<Index> sixteen(16, 128), uneven = {300, 1, 33, 128, 64, 7, 129};
  rows.push_back(reference::Row(
      "the paper's size", reference::RandomFused({.d = 64, .lengths = sixteen}, kCausal, 91)));
  AttentionProblem layer = reference::RandomProjections(
      {.d = 33, .heads = 6, .kv_heads = 3, .head_dim = 6, .lengths = uneven}, kCausal, 92);
  layer.rope = Rope{};
  rows.push_back(reference::Row("a layer on uneven batches", layer));
  return rows;
}

class ObjectiveThreads : public ::testing::TestWithParam<ProblemRow> {};
INSTANTIATE_TEST_SUITE_P(Rows, ObjectiveThreads, ::testing::ValuesIn(RowsOfManyShards()),
                         [](const auto& row) { return reference::TestName(row.param.sentence); });

bool SameBits(const void* a, const void* b, size_t size) { return std::memcmp(a, b, size) == 0; }

TEST_P(ObjectiveThreads, NeverChangeABit) {
  const std::vector<Dense> pruned = GetParam().pruned();
  CoreObjective one(GetParam().problem, 1);
  const CoreObjective::Answer expected = one.LossAndGradient(pruned);
  const AttentionError expected_error = one.Error(pruned);
  for (int threads : {2, 4}) {
    CoreObjective many(GetParam().problem, threads);
    const CoreObjective::Answer answer = many.LossAndGradient(pruned);
    EXPECT_TRUE(SameBits(&answer.loss, &expected.loss, sizeof(double))) << threads;
    for (size_t i = 0; i < pruned.size(); ++i) {
      EXPECT_TRUE(SameBits(answer.gradients[i].data(), expected.gradients[i].data(),
                           answer.gradients[i].flat().size() * sizeof(float)))
          << threads << " threads, weight " << i;
    }
    const AttentionError error = many.Error(pruned);
    EXPECT_EQ(error.difference, expected_error.difference) << threads;
    EXPECT_EQ(error.dense, expected_error.dense) << threads;
  }
}

}  // namespace
}  // namespace attnprune
