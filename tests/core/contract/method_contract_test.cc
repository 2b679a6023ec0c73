// What every registered method promises, on every kind of problem. A new method is covered by being
// registered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/judge/score.h"
#include "core/methods/linear_map.h"
#include "core/methods/registry.h"
#include "tests/core/contract/contract_problems.h"

namespace attnprune::testing {
namespace {

using ::testing::HasSubstr;

const MethodInfo& Info(const std::string& name) {
  for (const MethodInfo& info : Methods()) {
    if (name == info.name) return info;
  }
  ADD_FAILURE() << "no method " << name;
  return Methods()[0];
}

// The method with few steps, if it takes steps at all.
std::unique_ptr<Method> ShortRun(const std::string& name) {
  std::map<std::string, double> parameters;
  for (const Parameter& parameter : Info(name).parameters) {
    const std::string parameter_name = parameter.name;
    if (parameter_name == "steps" || parameter_name == "refit_steps") {
      parameters[parameter_name] = 12;
    }
    if (parameter_name == "rounds") parameters[parameter_name] = 2;
  }
  return CreateMethod(name, parameters).value();
}

bool SameBits(MatrixView a, MatrixView b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index i = 0; i < a.rows(); ++i) {
    if (std::memcmp(a.row(i), b.row(i), static_cast<size_t>(a.cols()) * sizeof(float)) != 0) {
      return false;
    }
  }
  return true;
}

void ExpectSameBits(const PruneResult& a, const PruneResult& b) {
  ASSERT_EQ(a.matrices.size(), b.matrices.size());
  EXPECT_EQ(a.reason, b.reason);
  EXPECT_EQ(a.steps, b.steps);
  for (size_t i = 0; i < a.matrices.size(); ++i) {
    EXPECT_EQ(a.matrices[i].mask, b.matrices[i].mask) << a.matrices[i].name;
    EXPECT_TRUE(SameBits(a.matrices[i].weights, b.matrices[i].weights)) << a.matrices[i].name;
    EXPECT_TRUE(SameBits(a.matrices[i].soft_mask, b.matrices[i].soft_mask)) << a.matrices[i].name;
  }
}

std::vector<Matrix> CopyOfWeights(const Problem& problem) {
  std::vector<Matrix> copy;
  for (const NamedWeight& weight : LinearMaps(problem, true)) {
    copy.push_back(Matrix::CopyFrom(weight.dense));
  }
  return copy;
}

class MethodContract : public ::testing::TestWithParam<std::tuple<std::string, ContractProblem>> {
 protected:
  std::string name() const { return std::get<0>(GetParam()); }
  Problem MakeProblem() const { return std::get<1>(GetParam()).make(); }
  Problem MakeProblem(const Sparsity& sparsity) const {
    Problem problem = MakeProblem();
    problem.sparsity = sparsity;
    return problem;
  }
};

TEST_P(MethodContract, PrunesExactlyTheCountItDeclares) {
  const auto method = ShortRun(name());
  for (const Sparsity& sparsity :
       {Sparsity::Fraction(0.1), Sparsity::Fraction(0.5), Sparsity::Fraction(0.93),
        Sparsity::NOfM(2, 4), Sparsity::NOfM(1, 4), Sparsity::NOfM(4, 8)}) {
    SCOPED_TRACE(ToString(sparsity));
    const Problem problem = MakeProblem(sparsity);
    const auto result = method->Prune(problem);
    ASSERT_TRUE(result.ok()) << result.status();
    const auto dense = LinearMaps(problem, result->matrices.size() == 2);
    for (size_t i = 0; i < dense.size(); ++i) {
      const PrunedMatrix& matrix = result->matrices[i];
      const Index size = matrix.mask.size();
      EXPECT_EQ(matrix.mask.CountPruned(), method->PrunedCount(dense[i], sparsity));
      // Whatever a method's own rounding, it is never off by more than one a row or block.
      EXPECT_NEAR(static_cast<double>(matrix.mask.CountPruned()),
                  static_cast<double>(sparsity.PrunedOf(size)),
                  static_cast<double>(Outputs(dense[i])));
      for (Index w = 0; w < size; ++w) {
        if (matrix.mask.kept(w)) continue;
        const float value = matrix.weights.flat()[static_cast<size_t>(w)];
        EXPECT_TRUE(value == 0.0f && !std::signbit(value)) << matrix.name << " entry " << w;
      }
    }
  }
}

TEST_P(MethodContract, RemovesNOfEveryMInputs) {
  const Problem problem = MakeProblem(Sparsity::NOfM(1, 4));
  const auto result = ShortRun(name())->Prune(problem);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto dense = LinearMaps(problem, result->matrices.size() == 2);
  for (size_t i = 0; i < dense.size(); ++i) {
    for (Index output = 0; output < Outputs(dense[i]); ++output) {
      for (Index group = 0; group < Inputs(dense[i]); group += 4) {
        int pruned = 0;
        for (Index input = group; input < group + 4; ++input) {
          const BitMask& mask = result->matrices[i].mask;
          pruned +=
              !(dense[i].inputs_are_rows ? mask.kept(input, output) : mask.kept(output, input));
        }
        EXPECT_EQ(pruned, 1) << dense[i].name << " output " << output << " inputs from " << group;
      }
    }
  }
}

TEST_P(MethodContract, LeavesItsInputsUntouched) {
  const Problem problem = MakeProblem();
  const std::vector<Matrix> before = CopyOfWeights(problem);
  const Batches calibration = problem.calibration.Clone();
  ASSERT_TRUE(ShortRun(name())->Prune(problem).ok());
  const std::vector<Matrix> after = CopyOfWeights(problem);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(SameBits(before[i], after[i]));
  EXPECT_TRUE(SameBits(calibration.all(), problem.calibration.all()));
}

TEST_P(MethodContract, GivesTheSameBitsTwiceAndOnOneTwoAndFourThreads) {
  const Problem problem = MakeProblem();
  const auto method = ShortRun(name());
  const auto once = method->Prune(problem, {}, {.threads = 1});
  ASSERT_TRUE(once.ok()) << once.status();
  for (int threads : {1, 2, 4}) {
    SCOPED_TRACE(threads);
    const auto again = method->Prune(problem, {}, {.threads = threads});
    ASSERT_TRUE(again.ok()) << again.status();
    ExpectSameBits(*once, *again);
  }
}

// Keeps the state after each step; stops at the given one. `taken`: the steps before its first.
class StopAt final : public ProgressObserver {
 public:
  explicit StopAt(int step, int taken = 0) : last_step(taken), step_(step) {}
  Verdict OnStep(const StepStats& stats, const Resumable& run) override {
    states.push_back(run.SaveState());
    std::string behind = "before ";
    run.AppendState(&behind);
    EXPECT_EQ(behind, "before " + states.back()) << "appends, and touches nothing before it";
    EXPECT_EQ(stats.step, ++last_step) << "steps are numbered one by one";
    steps = stats.steps;
    return stats.step == step_ ? Verdict::kStop : Verdict::kContinue;
  }
  std::vector<std::string> states;
  int last_step, steps = 0;

 private:
  const int step_;
};

constexpr int kNever = -1;

// What a run leaves that is stopped at `step`, from the state before it or, empty, from its start.
PruneResult StoppedAt(int step, const Method& method, const Problem& problem,
                      const std::string& before, const std::string& expected_state) {
  StopAt observer(step, before.empty() ? 0 : step - 1);
  absl::StatusOr<PruneResult> stopped = method.Prune(problem, {.resume_from = before}, observer);
  EXPECT_TRUE(stopped.ok()) << stopped.status();  // Prune has checked sparsity and zeros
  if (!stopped.ok()) return {};
  EXPECT_EQ(stopped->reason, TerminationReason::kStopped);
  EXPECT_EQ(stopped->steps, step);
  EXPECT_EQ(observer.last_step, step);
  if (!observer.states.empty()) {
    EXPECT_EQ(observer.states.back(), expected_state);
  }
  return *std::move(stopped);
}

// Whether the run up to `step` and the whole rest are run, too: always of a short run; of a long
// one now and then, and at the ends of its stages, where the state's size jumps.
bool IsTriedWhole(const std::vector<std::string>& states, int step) {
  constexpr int kShort = 24, kStride = 16;
  if (states.size() <= kShort || step % kStride == 0) return true;
  const auto jumps = [&states](size_t at) {
    const auto before = static_cast<double>(states[at - 1].size());
    return std::abs(static_cast<double>(states[at].size()) - before) > before / 10;
  };
  const size_t at = static_cast<size_t>(step) - 1;
  return at == 0 || jumps(at) || jumps(at + 1);
}

// Swapping the held-out data, or taking it away, changes no bit of the result and of no state on
// the way, even while the run reports its error on it.
TEST_P(MethodContract, NeverReadsHeldOutDataToDecide) {
  const auto method = ShortRun(name());
  Problem problem = MakeProblem();
  StopAt first(kNever), second(kNever), third(kNever);
  const auto with = method->Prune(problem, {.evaluate_every = 1}, first);
  problem.held_out = GaussianBatches({31}, problem.features(), 99);
  const auto swapped = method->Prune(problem, {.evaluate_every = 1}, second);
  problem.held_out = Batches();
  const auto without = method->Prune(problem, {}, third);
  EXPECT_EQ(first.states, second.states);
  EXPECT_EQ(first.states, third.states);
  ASSERT_TRUE(with.ok() && swapped.ok() && without.ok());
  ExpectSameBits(*with, *swapped);
  ExpectSameBits(*with, *without);
}

TEST_P(MethodContract, KeepsEverythingAtSparsityZero) {
  const Problem problem = MakeProblem(Sparsity::Fraction(0));
  const auto result = ShortRun(name())->Prune(problem);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto dense = LinearMaps(problem, result->matrices.size() == 2);
  for (size_t i = 0; i < dense.size(); ++i) {
    EXPECT_EQ(result->matrices[i].mask.CountPruned(), 0);
    EXPECT_TRUE(SameBits(result->matrices[i].weights, dense[i].dense));
  }
  EXPECT_EQ(Judge(problem, *result)->calibration.relative_error, 0);
}

TEST_P(MethodContract, PrunesAllEqualWeightsToTheSparsityAskedFor) {
  Problem problem = MakeProblem();
  if (problem.fused()) {
    problem.weights = FusedWeights{Matrix::Constant(8, 8, 0.5f), {}, {}};
  } else {
    ProjectionWeights layer = std::get<ProjectionWeights>(std::move(problem.weights));
    layer.w_q = Matrix::Constant(16, 8, 0.5f);
    layer.w_k = Matrix::Constant(8, 8, 0.5f);
    problem.weights = std::move(layer);
  }
  const auto result = ShortRun(name())->Prune(problem);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const PrunedMatrix& matrix : result->matrices) {
    EXPECT_NEAR(static_cast<double>(matrix.mask.CountPruned()),
                static_cast<double>(matrix.mask.size()) / 2, 1);
  }
}

TEST_P(MethodContract, WorksWithAFeatureThatIsAlwaysZero) {
  Problem problem = MakeProblem();
  Matrix tokens = Matrix::CopyFrom(problem.calibration.all());
  for (Index t = 0; t < tokens.rows(); ++t) tokens(t, 3) = 0;
  problem.calibration = Batches(std::move(tokens), {40, 1, 17});
  const auto result = ShortRun(name())->Prune(problem);
  ASSERT_TRUE(result.ok()) << result.status();
  const auto score = Judge(problem, *result);
  ASSERT_TRUE(score.ok()) << score.status();
  EXPECT_TRUE(std::isfinite(score->calibration.relative_error));
}

TEST_P(MethodContract, RefusesBadNumbersNamingTheField) {
  const auto method = ShortRun(name());
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Problem problem = MakeProblem();
    Matrix tokens = Matrix::CopyFrom(problem.calibration.all());
    tokens(40, 2) = bad;  // the second batch's only token
    problem.calibration = Batches(std::move(tokens), {40, 1, 17});
    const auto result = method->Prune(problem);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(result.status().message(), HasSubstr("calibration[1]"));
  }
}

TEST_P(MethodContract, RefusesDataOfAnotherWidthNamingTheField) {
  Problem problem = MakeProblem();
  problem.calibration = GaussianBatches({5}, 7, 1);
  const auto result = ShortRun(name())->Prune(problem);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(result.status().message(), HasSubstr("calibration"));
}

TEST_P(MethodContract, RefusesASparsityOutsideItsRange) {
  for (double rho : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    const auto result = ShortRun(name())->Prune(MakeProblem(Sparsity::Fraction(rho)));
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << rho;
    EXPECT_THAT(result.status().message(), HasSubstr("sparsity"));
  }
}

TEST_P(MethodContract, RefusesOptionsThatMakeNoSense) {
  const Problem problem = MakeProblem();
  const auto no_threads = ShortRun(name())->Prune(problem, {}, {.threads = 0});
  EXPECT_THAT(no_threads.status().message(), HasSubstr("threads must be in [1, 1024], got 0"));
  const auto negative = ShortRun(name())->Prune(problem, {.evaluate_every = -1});
  EXPECT_THAT(negative.status().message(), HasSubstr("evaluate_every must be at least 0, got -1"));
}

TEST_P(MethodContract, RefusesAFusedWeightThatIsNotTheProductOfItsFactors) {
  Problem problem = FactoredContractProblem();
  std::get<FusedWeights>(problem.weights).w(2, 5) += 0.01f;
  const auto result = ShortRun(name())->Prune(problem);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(result.status().message(),
              HasSubstr("weights.w must be the product of weights.w_q and weights.w_k"));
}

class StopAtOnce final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats& stats, const Resumable&) override {
    last_step = stats.step;
    return Verdict::kStop;
  }
  int last_step = 0;
};

TEST_P(MethodContract, StopsWithinOneStepWithAUsableMask) {
  const Problem problem = MakeProblem();
  StopAtOnce observer;
  const auto result = ShortRun(name())->Prune(problem, {}, observer);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LE(observer.last_step, 1);
  EXPECT_EQ(result->reason,
            observer.last_step == 0 ? TerminationReason::kCompleted : TerminationReason::kStopped);
  EXPECT_TRUE(Judge(problem, *result).ok());
}

// Each step by itself, from the state before it, leaves the next state; so do long ways to it.
TEST_P(MethodContract, StopsAtAnyStepAndGoesOnFromThereToTheSameBits) {
  const Problem problem = MakeProblem();
  const auto method = ShortRun(name());
  StopAt nobody(kNever);
  const auto whole = method->Prune(problem, {}, nobody);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_LE(nobody.last_step, nobody.steps);
  std::string before;
  for (int step = 1; step < nobody.last_step; ++step) {
    SCOPED_TRACE(step);
    const std::string& state = nobody.states[static_cast<size_t>(step) - 1];
    const PruneResult stopped = StoppedAt(step, *method, problem, before, state);
    before = state;
    if (HasFailure()) return;
    if (!IsTriedWhole(nobody.states, step)) continue;
    ExpectSameBits(StoppedAt(step, *method, problem, "", state), stopped);
    const auto resumed = method->Prune(problem, {.resume_from = state}, {.threads = 2});
    ASSERT_TRUE(resumed.ok()) << resumed.status();
    ExpectSameBits(*whole, *resumed);
  }
}

TEST_P(MethodContract, TakesUpItsLastStateWithTheSameBits) {
  const Problem problem = MakeProblem();
  const auto method = ShortRun(name());
  StopAt nobody(kNever);
  const auto whole = method->Prune(problem, {}, nobody);
  ASSERT_TRUE(whole.ok()) << whole.status();
  if (nobody.states.empty()) return;  // takes no steps
  const auto resumed = method->Prune(problem, {.resume_from = nobody.states.back()});
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  ExpectSameBits(*whole, *resumed);
}

// GoogleTest takes no '+' in a name.
std::string TestName(std::string method) {
  std::replace(method.begin(), method.end(), '+', '_');
  return method;
}

std::string CaseName(const ::testing::TestParamInfo<MethodContract::ParamType>& info) {
  return TestName(std::get<0>(info.param)) + std::get<1>(info.param).name;
}

std::vector<std::string> AllMethods() {
  std::vector<std::string> names;
  for (const MethodInfo& info : Methods()) names.emplace_back(info.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(EveryMethod, MethodContract,
                         ::testing::Combine(::testing::ValuesIn(AllMethods()),
                                            ::testing::ValuesIn(ContractProblems())),
                         CaseName);

class SmallestLayer : public ::testing::TestWithParam<std::string> {};

TEST_P(SmallestLayer, OfOneFeatureIsPrunedOrKeptWhole) {
  for (Problem (*make)() : {OneByOneFused, OneByOneProjections}) {
    const Problem problem = make();
    const auto result = ShortRun(GetParam())->Prune(problem);
    ASSERT_TRUE(result.ok()) << result.status();
    const auto score = Judge(problem, *result);
    ASSERT_TRUE(score.ok()) << score.status();
    EXPECT_TRUE(std::isfinite(score->calibration.relative_error));
  }
}

// All masks of a fused 3 x 3 layer that prune as many weights as `mask`, by trying each.
double BestErrorOfAnyMask(const Problem& problem, Index pruned) {
  const Matrix& w = problem.fused_weights().w;
  double best = std::numeric_limits<double>::infinity();
  for (unsigned bits = 0; bits < (1u << w.size()); ++bits) {
    if (__builtin_popcount(bits) != static_cast<int>(pruned)) continue;
    PruneResult result;
    result.matrices.resize(1);
    result.matrices[0].name = "w";
    result.matrices[0].mask = BitMask(w.rows(), w.cols(), /*kept=*/true);
    for (Index i = 0; i < w.size(); ++i) {
      if (bits >> i & 1) result.matrices[0].mask.Prune(i);
    }
    result.matrices[0].weights = result.matrices[0].mask.Apply(w);
    best = std::min(best, Judge(problem, result)->calibration.relative_error);
  }
  return best;
}

TEST_P(SmallestLayer, IsNeverPrunedBetterThanByTryingEveryMask) {
  for (unsigned seed = 0; seed < 3; ++seed) {
    Problem problem;
    problem.weights = FusedWeights{GaussianMatrix(3, 3, 20 + seed), {}, {}};
    problem.calibration = GaussianBatches({6, 4}, 3, 30 + seed);
    auto result = ShortRun(GetParam())->Prune(problem);
    ASSERT_TRUE(result.ok()) << result.status();
    PrunedMatrix& matrix = result->matrices[0];
    // Methods that also change the kept weights are held to this by their masks.
    matrix.weights = matrix.mask.Apply(problem.fused_weights().w);
    const double best = BestErrorOfAnyMask(problem, matrix.mask.CountPruned());
    EXPECT_GE(Judge(problem, *result)->calibration.relative_error, best);
    EXPECT_GT(best, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryMethod, SmallestLayer, ::testing::ValuesIn(AllMethods()),
                         [](const auto& test) { return TestName(test.param); });

}  // namespace
}  // namespace attnprune::testing
