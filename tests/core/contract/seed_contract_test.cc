// Every method is a function of its inputs and, if it says that it draws, of its seed. The checks
// are seen to fail on methods that say otherwise than they do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/methods/linear_map.h"
#include "core/methods/methods.h"
#include "core/methods/registry.h"
#include "core/methods/solver_state.h"
#include "tests/core/contract/contract_problems.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Keeps the state after the first step.
class FirstState final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats&, const Resumable& run) override {
    if (state.empty()) state = run.SaveState();
    return Verdict::kContinue;
  }
  std::string state;
};

std::unique_ptr<Method> ShortRun(const MethodInfo& info) {
  std::map<std::string, double> values;
  for (const Parameter& parameter : info.parameters) {
    const bool steps = absl::EndsWith(parameter.name, "steps");
    values[parameter.name] = steps ? 5 : parameter.default_value;
  }
  return info.create(ParameterValues(values));
}

// Masks and weights of a run, and its first state.
struct Run {
  std::vector<std::vector<float>> weights;
  std::string state;
  bool operator==(const Run&) const = default;
};

Run RunWith(const Method& method, const Problem& problem, uint64_t seed) {
  FirstState observer;
  const auto result = method.Prune(problem, {.seed = seed}, observer);
  EXPECT_TRUE(result.ok()) << result.status();
  Run run;
  run.state = observer.state;
  for (const PrunedMatrix& matrix : result->matrices) {
    run.weights.emplace_back(matrix.weights.flat().begin(), matrix.weights.flat().end());
  }
  return run;
}

// What the method breaks of the promises that `info` makes about seeds.
std::vector<std::string> BrokenPromises(const MethodInfo& info, const Problem& problem) {
  constexpr uint64_t kOne = 1, kOther = std::numeric_limits<uint64_t>::max();
  const std::unique_ptr<Method> method = ShortRun(info);
  const Run one = RunWith(*method, problem, kOne), other = RunWith(*method, problem, kOther);
  std::vector<std::string> broken;
  const auto expect = [&broken](bool kept, const char* promise) {
    if (!kept) broken.emplace_back(promise);
  };
  expect(one == RunWith(*method, problem, kOne), "same seed, same bits");
  expect((one.weights != other.weights) == info.draws, "the seed decides if and only if it draws");
  if (one.state.empty()) return broken;
  const auto resumed = method->Prune(problem, {.seed = kOther, .resume_from = one.state});
  expect(IsResumeRefused(resumed.status()) == info.draws,
         "a state of another seed is refused if and only if it draws");
  expect(resumed.ok() != info.draws, "nothing else is wrong with the state");
  return broken;
}

TEST(SeedContract, IsKeptByEveryMethod) {
  for (const MethodInfo& info : Methods()) {
    for (const ContractProblem& problem : ContractProblems()) {
      EXPECT_THAT(BrokenPromises(info, problem.make()), IsEmpty())
          << info.name << " on " << problem.name;
    }
  }
}

// --- Methods of these tests' own, the tester's tests ---

// Scores drawn anew in each of five steps.
class DrawnScores final : public Resumable {
 public:
  DrawnScores(std::vector<NamedWeight> weights, uint64_t seed, uint64_t fingerprint)
      : weights_(std::move(weights)), seed_(seed), fingerprint_(fingerprint) {}

  int steps_taken() const { return step_; }
  void Step() {
    std::mt19937_64 random(seed_ + static_cast<uint64_t>(++step_));
    scores_.clear();
    for (const NamedWeight& weight : weights_) {
      Matrix& scores = scores_.emplace_back(weight.dense.rows(), weight.dense.cols());
      for (float& score : scores.flat()) score = std::uniform_real_distribution<float>()(random);
    }
  }
  PruneResult Result(const Sparsity& sparsity, ThreadPool& pool) const {
    PruneResult result;
    result.steps = step_;
    for (size_t m = 0; m < weights_.size(); ++m) {
      result.matrices.push_back(MaskedMatrix(
          weights_[m], Binarize(scores_[m], weights_[m].inputs_are_rows, sparsity, pool)));
    }
    return result;
  }
  void AppendState(std::string* out) const override {
    SolverStateView state;
    state.fingerprint = fingerprint_;
    state.step = step_;
    AppendSolverState(state, out);
  }
  absl::Status Restore(const std::string& bytes) {
    const absl::StatusOr<SolverState> state = ParseState(bytes, fingerprint_);
    if (state.ok()) step_ = state->step;
    return state.status();
  }

 private:
  const std::vector<NamedWeight> weights_;
  const uint64_t seed_, fingerprint_;
  int step_ = 0;
  std::vector<Matrix> scores_;
};

struct Habits {
  bool draws_by_seed = true;         // otherwise the same numbers for every seed
  bool forgets_the_seed = false;     // in its states
  bool draws_by_run_number = false;  // other numbers in each run
};

class RandomMethod final : public Method {
 public:
  explicit RandomMethod(const Habits& habits) : habits_(habits) {}
  absl::string_view name() const override { return "random"; }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver& observer) const override {
    constexpr int kSteps = 5;
    static uint64_t runs = 0;
    const uint64_t seed = habits_.draws_by_run_number ? ++runs
                          : habits_.draws_by_seed     ? options.seed
                                                      : 0;
    const absl::optional<uint64_t> noted =
        habits_.forgets_the_seed ? absl::nullopt : absl::make_optional(options.seed);
    DrawnScores drawn(AttentionWeights(prepared.problem()), seed,
                      prepared.Fingerprint(name(), {}, noted));
    if (!options.resume_from.empty()) {
      const absl::Status restored = drawn.Restore(options.resume_from);
      if (!restored.ok()) return restored;
    }
    while (drawn.steps_taken() < kSteps) {
      drawn.Step();
      observer.OnStep({.step = drawn.steps_taken(), .steps = kSteps}, drawn);
    }
    return drawn.Result(prepared.problem().sparsity, prepared.pool());
  }

  const Habits habits_;
};

MethodInfo RandomInfo(const Habits& habits, bool draws) {
  return {.name = "random",
          .summary = "Draws the mask",
          .parameters = {},
          .draws = draws,
          .create = [habits](const ParameterValues&) -> std::unique_ptr<Method> {
            return std::make_unique<RandomMethod>(habits);
          },
          .steps = [](const ParameterValues&) { return 5; },
          .bytes = {},
          .operations = {}};
}

TEST(SeedContract, IsKeptByAMethodThatDrawsBySeedAndSaysSoAndByItsRefit) {
  const MethodInfo info = RandomInfo({}, /*draws=*/true);
  const MethodInfo refit = WithRefit(info);
  EXPECT_TRUE(refit.draws);
  for (const ContractProblem& problem : ContractProblems()) {
    EXPECT_THAT(BrokenPromises(info, problem.make()), IsEmpty()) << problem.name;
    EXPECT_THAT(BrokenPromises(refit, problem.make()), IsEmpty()) << problem.name;
  }
}

TEST(SeedContract, IsBrokenByAMethodThatDrawsAndDoesNotSaySo) {
  EXPECT_THAT(BrokenPromises(RandomInfo({}, /*draws=*/false), FusedContractProblem()),
              ElementsAre("the seed decides if and only if it draws",
                          "a state of another seed is refused if and only if it draws",
                          "nothing else is wrong with the state"));
}

TEST(SeedContract, IsBrokenByAMethodThatSaysThatItDrawsAndTakesNoNoticeOfTheSeed) {
  EXPECT_THAT(
      BrokenPromises(RandomInfo({.draws_by_seed = false}, /*draws=*/true), FusedContractProblem()),
      ElementsAre("the seed decides if and only if it draws"));
}

TEST(SeedContract, IsBrokenByAMethodWhoseStatesForgetTheSeed) {
  EXPECT_THAT(BrokenPromises(RandomInfo({.forgets_the_seed = true}, /*draws=*/true),
                             FusedContractProblem()),
              ElementsAre("a state of another seed is refused if and only if it draws",
                          "nothing else is wrong with the state"));
}

TEST(SeedContract, IsBrokenByAMethodThatDrawsOtherNumbersInEachRun) {
  EXPECT_THAT(BrokenPromises(RandomInfo({.draws_by_run_number = true}, /*draws=*/true),
                             FusedContractProblem()),
              ElementsAre("same seed, same bits"));
}

}  // namespace
}  // namespace attnprune::testing
