// The composition "BASE+refit": what it keeps of BASE, and that it never makes it worse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/judge/score.h"
#include "tests/core/methods/search_runs.h"

namespace attnprune::testing {
namespace {

const char* const kBases[] = {"gd", "magnitude", "sparsegpt", "ste", "wanda"};

// Short runs of a method and of its refit.
std::string Base(const std::string& base) {
  if (base == "gd" || base == "ste") return base + ":steps=10";
  return base;
}
std::string Refitted(const std::string& base, const std::string& parameters) {
  const std::string steps = base == "gd" || base == "ste" ? ",steps=10" : "";
  return base + "+refit:" + parameters + steps;
}

std::vector<Problem> Problems() {
  std::vector<Problem> problems;
  problems.push_back(LayerToSearch());
  problems.push_back(LayerToSearch(Sparsity::NOfM(2, 4)));
  problems.push_back(FusedContractProblem());
  problems.push_back(FactoredContractProblem());
  return problems;
}

TEST(Refit, KeepsTheMaskOfEveryMethod) {
  for (const Problem& problem : Problems()) {
    for (const std::string base : kBases) {
      const PruneResult before = RunMethod(Base(base), problem);
      const PruneResult after = RunMethod(Refitted(base, "refit_steps=20"), problem);
      ASSERT_EQ(after.matrices.size(), before.matrices.size()) << base;
      for (size_t m = 0; m < before.matrices.size(); ++m) {
        EXPECT_EQ(after.matrices[m].mask, before.matrices[m].mask) << base;
        EXPECT_EQ(Values(after.matrices[m].soft_mask), Values(before.matrices[m].soft_mask));
      }
      EXPECT_EQ(after.damping_retries, before.damping_retries);
      EXPECT_EQ(after.lambda, before.lambda);
      EXPECT_EQ(after.steps, before.steps + 20);
    }
  }
}

// Rates from too short to far too long: whatever they lead to, the guard stands.
TEST(Refit, IsNeverWorseThanNoRefitOnWhatDecidesAndOnAllCalibrationData) {
  for (const Problem& problem : Problems()) {
    for (const std::string base : kBases) {
      const DecidingErrors before = ErrorsOf(RunMethod(Base(base), problem), problem, 0.4);
      for (const char* rate : {"1e-6", "0.02", "0.5", "10"}) {
        const std::string text =
            Refitted(base, std::string("refit_steps=20,refit_validation=0.4,refit_rate=") + rate);
        const DecidingErrors after = ErrorsOf(RunMethod(text, problem), problem, 0.4);
        EXPECT_LE(after.validation, before.validation) << text;
        EXPECT_LE(after.calibration, before.calibration) << text;
      }
    }
  }
}

TEST(Refit, HelpsOnUnseenDataWhereThereIsEnoughToLearnFrom) {
  const Problem problem = LayerToSearch();
  for (const std::string base : kBases) {
    const Score before = Judge(problem, RunMethod(Base(base), problem)).value();
    const Score after = Judge(problem, RunMethod(base + "+refit:refit_steps=100", problem)).value();
    EXPECT_LT(after.held_out->relative_error, 0.8 * before.held_out->relative_error) << base;
  }
}

// Two batches of other distributions: the one to learn from pulls the weights away from what is
// good for the one that decides.
TEST(Refit, ThatWouldOverfitGivesTheOriginalBack) {
  Problem problem = FusedContractProblem();
  Matrix tokens = GaussianMatrix(20, 8, 71);
  for (Index t = 0; t < 10; ++t) {
    for (Index j = 0; j < 8; ++j) tokens(t, j) *= j < 4 ? 4.0f : 0.0f;        // learned from
    for (Index j = 0; j < 8; ++j) tokens(10 + t, j) *= j < 4 ? 1.0f : 0.01f;  // decides
  }
  problem.calibration = Batches(std::move(tokens), {10, 10});
  const PruneResult before = RunMethod("magnitude", problem);
  const PruneResult refitted = RunMethod("magnitude+refit:refit_steps=50,refit_rate=0.3", problem);
  const PruneResult unguarded =
      RunMethod("magnitude+refit:refit_steps=50,refit_rate=0.3,refit_validation=0", problem);
  // Without the guard it would have moved.
  EXPECT_NE(Values(unguarded.matrices[0].weights), Values(before.matrices[0].weights));
  EXPECT_EQ(Values(refitted.matrices[0].weights), Values(before.matrices[0].weights));
  EXPECT_EQ(refitted.steps, 50);
}

TEST(Refit, OfNothingPrunedTakesNoSteps) {
  Problem problem = FactoredContractProblem();
  problem.sparsity = Sparsity::Fraction(0);
  const PruneResult result = RunMethod("wanda+refit", problem);
  EXPECT_EQ(result.steps, 0);
  EXPECT_EQ(Values(result.matrices[0].weights), Values(problem.fused_weights().w_q));
}

TEST(Refit, CountsTheStepsOfBothHalvesAsOneRun) {
  Recorder recorder;
  Succeed(ParseMethod("gd+refit:steps=5,refit_steps=7")
              .value()
              ->Prune(LayerToSearch(), {.evaluate_every = 3}, recorder));
  ASSERT_EQ(recorder.stats().size(), 12u);
  for (int t = 0; t < 12; ++t) {
    const StepStats& stats = recorder.stats()[static_cast<size_t>(t)];
    EXPECT_EQ(stats.step, t + 1);
    EXPECT_EQ(stats.steps, 12);
  }
}

TEST(Refit, StoppedAtTheLastStepOfItsBaseIsStopped) {
  Recorder recorder(Recorder::States::kForgotten, 5);
  const PruneResult result = Succeed(
      ParseMethod("gd+refit:steps=5,refit_steps=7").value()->Prune(LayerToSearch(), {}, recorder));
  EXPECT_EQ(result.reason, TerminationReason::kStopped);
  EXPECT_EQ(result.steps, 5);
}

}  // namespace
}  // namespace attnprune::testing
