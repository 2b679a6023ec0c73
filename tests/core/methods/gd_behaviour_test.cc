// How `gd` ends, what it leaves, and that a run can be taken up again at any step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/core/methods/gd_runs.h"
#include "tests/reference/algorithm1.h"
#include "tests/reference/problems.h"

namespace attnprune {
namespace {

using reference::AttentionProblem;
using reference::Dense;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;

constexpr AttentionMask kCausal = {AttentionMask::Kind::kCausal, 0};

const GdParameters kTenSteps = {{"lambda", 0.1}, {"eta", 0.3}, {"steps", 10}};

AttentionProblem SmallFused() {
  return reference::RandomFused({.d = 8, .lengths = {9, 5, 12}}, kCausal, 101);
}

AttentionProblem SmallLayer() {
  AttentionProblem layer = reference::RandomProjections(
      {.d = 8, .heads = 4, .kv_heads = 2, .head_dim = 4, .lengths = {9, 5, 12}}, kCausal, 102);
  layer.rope = Rope{};
  layer.b_q = reference::RandomBias(16, 103);
  layer.b_k = reference::RandomBias(8, 104);
  return layer;
}

struct Layer {
  std::string sentence;
  AttentionProblem problem;
};
void PrintTo(const Layer& layer, std::ostream* out) { *out << layer.sentence; }

class Gd : public ::testing::TestWithParam<Layer> {
 protected:
  Problem Make(const Sparsity& sparsity = Sparsity::Fraction(0.5)) const {
    return reference::ToCore(GetParam().problem, sparsity);
  }
};
INSTANTIATE_TEST_SUITE_P(Problems, Gd,
                         ::testing::Values(Layer{"fused", SmallFused()},
                                           Layer{"projections", SmallLayer()}),
                         [](const auto& layer) { return layer.param.sentence; });

PruneResult Succeed(absl::StatusOr<PruneResult> result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : PruneResult{};
}

bool SameBits(const Matrix& a, const Matrix& b) {
  return SameShape(a, b) && std::memcmp(a.data(), b.data(), a.flat().size() * sizeof(float)) == 0;
}

void ExpectSameResult(const PruneResult& actual, const PruneResult& expected) {
  EXPECT_EQ(actual.reason, expected.reason);
  EXPECT_EQ(actual.steps, expected.steps);
  ASSERT_EQ(actual.matrices.size(), expected.matrices.size());
  for (size_t i = 0; i < expected.matrices.size(); ++i) {
    const PrunedMatrix &a = actual.matrices[i], &b = expected.matrices[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.mask, b.mask) << a.name;
    EXPECT_TRUE(SameBits(a.soft_mask, b.soft_mask)) << a.name;
    EXPECT_TRUE(SameBits(a.weights, b.weights)) << a.name;
  }
}

void ExpectSameFigures(const StepStats& a, const StepStats& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.steps, b.steps);
  EXPECT_EQ(a.attention_loss, b.attention_loss);
  EXPECT_EQ(a.regularization, b.regularization);
  EXPECT_EQ(a.soft_relative_error, b.soft_relative_error);
  EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  EXPECT_EQ(a.calibration_error, b.calibration_error);
  EXPECT_EQ(a.held_out_error, b.held_out_error);
}

GdParameters With(GdParameters parameters, const std::string& name, double value) {
  parameters[name] = value;
  return parameters;
}

TEST_P(Gd, ReportsStepsInOrderWithFiguresThatAgree) {
  const AttentionProblem& problem = GetParam().problem;
  Recorder recorder;
  Succeed(RunGd(Make(), kTenSteps, {}, recorder));
  ASSERT_EQ(recorder.stats().size(), 10u);
  const reference::ErrorSums sums = Errors(problem, problem.weights);
  double dense = 0;
  for (double norm : sums.dense) dense += norm;
  for (int t = 0; t < 10; ++t) {
    const StepStats& stats = recorder.stats()[static_cast<size_t>(t)];
    EXPECT_EQ(stats.step, t + 1);
    EXPECT_EQ(stats.steps, 10);
    // Two ways to the same number in float64 from the same float32 f: the norms' own rounding.
    EXPECT_NEAR(stats.soft_relative_error, 2 * stats.attention_loss / dense,
                1e-5 * stats.soft_relative_error);
    EXPECT_FALSE(stats.calibration_error.has_value()) << "evaluate_every is 0";
  }
}

// At M = 1 the loss is 0 and so is its gradient: what is left is lambda M, lambda sqrt(size) / k.
TEST_P(Gd, StartsAtTheDenseWeights) {
  Recorder recorder;
  Succeed(RunGd(Make(), kTenSteps, {}, recorder));
  double size = 0;
  for (const Dense& w : GetParam().problem.weights) size += static_cast<double>(w.size());
  const StepStats& first = recorder.stats().front();
  EXPECT_EQ(first.attention_loss, 0);
  EXPECT_DOUBLE_EQ(first.regularization, 0.5 * 0.1 * size);
  // lambda is rounded to float32 (2^-24) and so is each lambda M.
  EXPECT_NEAR(first.gradient_norm, 0.1 * std::sqrt(size) / 3, 4 * std::ldexp(1.0, -24));
}

TEST_P(Gd, StopsWithinOneStepOfTheObserversWish) {
  for (int wish : {1, 3}) {
    Recorder recorder(Recorder::States::kForgotten, wish);
    const PruneResult stopped = Succeed(RunGd(Make(), kTenSteps, {}, recorder));
    EXPECT_EQ(stopped.reason, TerminationReason::kStopped);
    EXPECT_EQ(stopped.steps, wish);
    EXPECT_EQ(recorder.stats().size(), static_cast<size_t>(wish));
    // The mask is that of a run which was never meant to go further.
    const PruneResult shorter = Succeed(RunGd(Make(), With(kTenSteps, "steps", wish)));
    for (size_t i = 0; i < shorter.matrices.size(); ++i) {
      EXPECT_TRUE(SameBits(stopped.matrices[i].soft_mask, shorter.matrices[i].soft_mask));
      EXPECT_EQ(stopped.matrices[i].mask, shorter.matrices[i].mask);
    }
  }
}

TEST_P(Gd, StoppedAtItsLastStepHasCompleted) {
  Recorder recorder(Recorder::States::kForgotten, 10);
  const PruneResult result = Succeed(RunGd(Make(), kTenSteps, {}, recorder));
  EXPECT_EQ(result.reason, TerminationReason::kCompleted);
}

// A plain descent (no momentum) shrinks M towards 0, and the gradient with it.
const GdParameters kLongDescent = {
    {"lambda", 0.5}, {"eta", 0.5}, {"momentum", 0.0}, {"steps", 500}};

TEST_P(Gd, EndsOnceTheGradientIsSmall) {
  constexpr double kTolerance = 0.05;
  Recorder recorder;
  const PruneResult result =
      Succeed(RunGd(Make(), With(kLongDescent, "gradient_tolerance", kTolerance), {}, recorder));
  EXPECT_EQ(result.reason, TerminationReason::kGradientTolerance);
  EXPECT_LT(result.steps, 500);
  ASSERT_GT(recorder.stats().size(), 2u) << "the tolerance ends the run at once";
  for (size_t t = 0; t + 1 < recorder.stats().size(); ++t) {
    EXPECT_GT(recorder.stats()[t].gradient_norm, kTolerance) << "should have ended at " << t;
  }
  EXPECT_LE(recorder.stats().back().gradient_norm, kTolerance);
}

TEST_P(Gd, EndsOnceTheLossStandsStill) {
  constexpr double kTolerance = 0.01;
  Recorder recorder;
  const PruneResult result =
      Succeed(RunGd(Make(), With(kLongDescent, "loss_tolerance", kTolerance), {}, recorder));
  EXPECT_EQ(result.reason, TerminationReason::kLossTolerance);
  EXPECT_LT(result.steps, 500);
  const std::vector<StepStats>& stats = recorder.stats();
  ASSERT_GT(stats.size(), 2u) << "the tolerance ends the run at once";
  const auto change = [&stats](size_t t) {
    const double before = stats[t - 1].attention_loss + stats[t - 1].regularization;
    return std::abs(stats[t].attention_loss + stats[t].regularization - before) / before;
  };
  for (size_t t = 1; t + 1 < stats.size(); ++t) EXPECT_GT(change(t), kTolerance) << t;
  EXPECT_LE(change(stats.size() - 1), kTolerance);
}

TEST_P(Gd, LeavesTheUnitIntervalUnlessToldToProject) {
  const GdParameters wild = With(kTenSteps, "eta", 3);
  const auto inside = Each(AllOf(Ge(0.0f), Le(1.0f)));
  for (const PrunedMatrix& m : Succeed(RunGd(Make(), wild)).matrices) {
    EXPECT_THAT(m.soft_mask.flat(), ::testing::Not(inside)) << m.name;
  }
  for (const PrunedMatrix& m : Succeed(RunGd(Make(), With(wild, "project", 1))).matrices) {
    EXPECT_THAT(m.soft_mask.flat(), inside) << m.name;
  }
}

TEST_P(Gd, PrunesExactlyTheSmallestOfTheSoftMask) {
  for (double rho : {0.0, 0.1, 0.5, 0.77, 0.99}) {
    const Sparsity sparsity = Sparsity::Fraction(rho);
    for (const PrunedMatrix& m : Succeed(RunGd(Make(sparsity), kTenSteps)).matrices) {
      const Index pruned = sparsity.PrunedOf(m.mask.size());
      EXPECT_EQ(ToDense(m.mask),
                reference::Binarize(reference::ToDense(MatrixView(m.soft_mask)), pruned))
          << m.name << " at " << rho;
    }
  }
}

TEST_P(Gd, PrunesTheSmallestNOfEveryMInputs) {
  const auto inputs =
      GetParam().problem.fused() ? reference::Inputs::kRows : reference::Inputs::kColumns;
  for (auto [n, m] : {std::pair<Index, Index>{2, 4}, {4, 8}, {1, 2}, {3, 4}}) {
    const PruneResult result = Succeed(RunGd(Make(Sparsity::NOfM(n, m)), kTenSteps));
    for (const PrunedMatrix& matrix : result.matrices) {
      const Dense soft = reference::ToDense(MatrixView(matrix.soft_mask));
      EXPECT_EQ(ToDense(matrix.mask), reference::BinarizeGroups(soft, n, m, inputs))
          << matrix.name << " at " << n << ":" << m;
    }
  }
}

TEST_P(Gd, AllEqualMasksPruneTheLowerIndex) {
  // lambda alone moves every entry alike: one step from M = 1, where the loss has no gradient.
  const PruneResult result = Succeed(RunGd(Make(), With(kTenSteps, "steps", 1)));
  for (const PrunedMatrix& m : result.matrices) {
    for (Index e = 0; e < m.mask.size(); ++e) EXPECT_EQ(m.mask.kept(e), e >= m.mask.size() / 2);
  }
}

TEST_P(Gd, GivesTheSameBitsWithOneTwoAndFourThreads) {
  Recorder one;
  const PruneResult expected = Succeed(RunGd(Make(), kTenSteps, {.evaluate_every = 3}, one));
  for (int threads : {2, 4}) {
    Recorder many;
    ExpectSameResult(
        Succeed(RunGd(Make(), kTenSteps, {.evaluate_every = 3}, many, {.threads = threads})),
        expected);
    ASSERT_EQ(many.stats().size(), one.stats().size());
    for (size_t t = 0; t < one.stats().size(); ++t) {
      ExpectSameFigures(many.stats()[t], one.stats()[t]);
    }
  }
}

TEST_P(Gd, EvaluatingTheBinaryMaskChangesNothing) {
  ExpectSameResult(Succeed(RunGd(Make(), kTenSteps, {.evaluate_every = 1})),
                   Succeed(RunGd(Make(), kTenSteps)));
}

TEST_P(Gd, EvaluatesTheBinaryMaskEveryFewStepsAndAtTheEnd) {
  Problem problem = Make();
  problem.held_out = problem.calibration.Clone();
  Recorder recorder;
  Succeed(RunGd(problem, kTenSteps, {.evaluate_every = 4}, recorder));
  for (const StepStats& stats : recorder.stats()) {
    const bool due = stats.step == 4 || stats.step == 8 || stats.step == 10;
    EXPECT_EQ(stats.calibration_error.has_value(), due) << stats.step;
    EXPECT_EQ(stats.held_out_error, stats.calibration_error) << "the same batches";
  }
}

void ExpectFiniteMasks(const PruneResult& result) {
  for (const PrunedMatrix& m : result.matrices) {
    for (float value : m.soft_mask.flat()) EXPECT_TRUE(std::isfinite(value)) << m.name;
  }
}

TEST_P(Gd, EndsABlowUpWithTheLastFiniteMask) {
  for (double eta : {1e3, 1e6, 1e10, 1e12}) {
    const GdParameters wild = {{"lambda", 1e6}, {"eta", eta}, {"steps", 1000}};
    Recorder recorder;
    const PruneResult result = Succeed(RunGd(Make(), wild, {}, recorder));
    EXPECT_EQ(result.reason, TerminationReason::kNumericalError) << eta;
    EXPECT_LT(result.steps, 1000) << eta;
    ExpectFiniteMasks(result);
    for (const StepStats& stats : recorder.stats()) {
      EXPECT_TRUE(std::isfinite(stats.attention_loss + stats.regularization)) << stats.step;
      EXPECT_TRUE(std::isfinite(stats.gradient_norm)) << stats.step;
    }
  }
}

// The only step leads to an infinite mask: eta lambda overflows float32.
TEST_P(Gd, ABlowUpInTheLastStepIsNoticed) {
  const GdParameters wild = {{"lambda", 1e12}, {"eta", 1e12}, {"steps", 2}};
  const PruneResult result = Succeed(RunGd(Make(), wild));
  EXPECT_EQ(result.reason, TerminationReason::kNumericalError);
  ExpectFiniteMasks(result);
}

TEST_P(Gd, ResumedAtAnyStepEndsInTheSameBits) {
  Recorder whole(Recorder::States::kSaved);
  const RunOptions options = {.evaluate_every = 3};
  const PruneResult expected = Succeed(RunGd(Make(), kTenSteps, options, whole));
  ASSERT_EQ(whole.states().size(), 10u);
  for (size_t saved = 0; saved < whole.states().size(); ++saved) {
    for (int threads : {1, 4}) {
      Recorder rest(Recorder::States::kSaved);
      const RunOptions resumed = {.evaluate_every = 3, .resume_from = whole.states()[saved]};
      ExpectSameResult(Succeed(RunGd(Make(), kTenSteps, resumed, rest, {.threads = threads})),
                       expected);
      ASSERT_EQ(rest.stats().size(), 9 - saved);
      for (size_t t = 0; t < rest.stats().size(); ++t) {
        ExpectSameFigures(rest.stats()[t], whole.stats()[saved + 1 + t]);
        EXPECT_EQ(rest.states()[t], whole.states()[saved + 1 + t]);
      }
    }
  }
}

// Each way of ending before the last step, from each state before it.
TEST_P(Gd, ResumedRunsEndForTheSameReason) {
  const GdParameters ways[] = {
      With(kLongDescent, "gradient_tolerance", 0.05),
      With(kLongDescent, "loss_tolerance", 0.01),
      {{"lambda", 1e6}, {"eta", 1e6}, {"steps", 1000}},
  };
  for (const GdParameters& parameters : ways) {
    Recorder whole(Recorder::States::kSaved);
    const PruneResult expected = Succeed(RunGd(Make(), parameters, {}, whole));
    ASSERT_NE(expected.reason, TerminationReason::kCompleted);
    for (const std::string& state : whole.states()) {
      ExpectSameResult(Succeed(RunGd(Make(), parameters, {.resume_from = state})), expected);
    }
  }
}

TEST_P(Gd, HeldOutDataMayChangeBetweenSaveAndResume) {
  Recorder whole(Recorder::States::kSaved);
  const PruneResult expected = Succeed(RunGd(Make(), kTenSteps, {}, whole));
  Problem other = Make();
  other.held_out = other.calibration.Clone();
  ExpectSameResult(Succeed(RunGd(other, kTenSteps, {.resume_from = whole.states()[4]})), expected);
}

void ExpectRefused(const absl::StatusOr<PruneResult>& result, absl::string_view what) {
  ASSERT_FALSE(result.ok()) << what;
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << what;
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("resume_from")) << what;
}

TEST_P(Gd, RefusesAStateOfOtherParameters) {
  Recorder run(Recorder::States::kSaved);
  Succeed(RunGd(Make(), kTenSteps, {}, run));
  const std::pair<const char*, double> changes[] = {
      {"lambda", 0.2},         {"eta", 0.31},  {"steps", 11},
      {"momentum", 0.8},       {"project", 1}, {"gradient_tolerance", 1e-9},
      {"loss_tolerance", 1e-9}};
  for (const auto& [name, value] : changes) {
    ExpectRefused(RunGd(Make(), With(kTenSteps, name, value), {.resume_from = run.states()[2]}),
                  name);
  }
}

TEST_P(Gd, RefusesAStateOfAnotherProblem) {
  Recorder run(Recorder::States::kSaved);
  Succeed(RunGd(Make(), kTenSteps, {}, run));
  const auto refuses = [&](const Problem& problem, const char* what) {
    ExpectRefused(RunGd(problem, kTenSteps, {.resume_from = run.states()[2]}), what);
  };
  AttentionProblem other = GetParam().problem;
  other.weights[0](0, 0) += 0.25;
  refuses(reference::ToCore(other), "another weight");
  other = GetParam().problem;
  other.batches[1](0, 0) += 0.25;
  refuses(reference::ToCore(other), "another token");
  other = GetParam().problem;
  std::swap(other.batches[0], other.batches[1]);
  refuses(reference::ToCore(other), "batches in another order");
  other = GetParam().problem;
  other.scale = 0.9;
  refuses(reference::ToCore(other), "another scale");
  other = GetParam().problem;
  other.attention = {AttentionMask::Kind::kWindow, 3};
  refuses(reference::ToCore(other), "another attention mask");
  refuses(Make(Sparsity::Fraction(0.6)), "another sparsity");
  refuses(Make(Sparsity::NOfM(2, 4)), "groups");
}

// The two problems of the suite are each other's strangers.
TEST(GdState, OfAFusedProblemIsRefusedByALayer) {
  Recorder run(Recorder::States::kSaved);
  Succeed(RunGd(reference::ToCore(SmallFused()), kTenSteps, {}, run));
  ExpectRefused(RunGd(reference::ToCore(SmallLayer()), kTenSteps, {.resume_from = run.states()[0]}),
                "a fused problem's state");
}

TEST(GdState, IsRefusedWhenTheLayersOwnOptionsChange) {
  Recorder run(Recorder::States::kSaved);
  Succeed(RunGd(reference::ToCore(SmallLayer()), kTenSteps, {}, run));
  const auto refuses = [&](const AttentionProblem& layer, const char* what) {
    ExpectRefused(RunGd(reference::ToCore(layer), kTenSteps, {.resume_from = run.states()[0]}),
                  what);
  };
  AttentionProblem other = SmallLayer();
  other.b_q(3) += 0.25;
  refuses(other, "another bias");
  other = SmallLayer();
  other.b_k = {};
  refuses(other, "no key bias");
  other = SmallLayer();
  other.rope->theta = 500;
  refuses(other, "another theta");
  other = SmallLayer();
  other.rope->layout = RopeLayout::kInterleaved;
  refuses(other, "another rotary layout");
  other = SmallLayer();
  other.rope.reset();
  refuses(other, "no rotary embedding");
  other = SmallLayer();
  other.heads = 2;
  other.kv_heads = 1;
  refuses(other, "other heads");
}

// The smallest problem there is: its state is a few hundred bytes.
class DamagedState : public ::testing::Test {
 protected:
  DamagedState() {
    Recorder run(Recorder::States::kSaved);
    Succeed(RunGd(problem_, kParameters, {}, run));
    state_ = run.states()[1];
  }
  absl::StatusOr<PruneResult> Resume(const std::string& state) const {
    return RunGd(problem_, kParameters, {.resume_from = state});
  }

  const GdParameters kParameters = {{"lambda", 0.1}, {"eta", 0.3}, {"steps", 3}};
  const Problem problem_ =
      reference::ToCore(reference::RandomFused({.d = 2, .lengths = {3}}, kCausal, 111));
  std::string state_;
};

TEST_F(DamagedState, IsAcceptedUndamaged) { EXPECT_TRUE(Resume(state_).ok()); }

TEST_F(DamagedState, IsRefusedWithAnyBitFlipped) {
  for (size_t i = 0; i < state_.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = state_;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      ExpectRefused(Resume(damaged), absl::StrCat("bit ", bit, " of byte ", i));
    }
  }
}

TEST_F(DamagedState, IsRefusedCutOffAnywhere) {
  for (size_t size = 1; size < state_.size(); ++size) {
    ExpectRefused(Resume(state_.substr(0, size)), absl::StrCat(size, " bytes"));
  }
}

TEST_F(DamagedState, IsRefusedWithABytePutBehindIt) {
  ExpectRefused(Resume(state_ + '\0'), "a zero");
  ExpectRefused(Resume(state_ + state_), "twice");
}

TEST_F(DamagedState, IsRefusedAsPlainText) { ExpectRefused(Resume("not a state"), "text"); }

}  // namespace
}  // namespace attnprune
