// What `ste` finds and what it leaves alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/judge/score.h"
#include "core/methods/linear_map.h"
#include "core/methods/saliency.h"
#include "tests/core/methods/search_runs.h"

namespace attnprune::testing {
namespace {

const char kShortSte[] = "ste:steps=60";

double HeldOut(const Problem& problem, const PruneResult& result) {
  return Judge(problem, result)->held_out->relative_error;
}

// The mask that the search starts from.
PruneResult StartingMask(const Problem& problem) {
  ThreadPool pool(1);
  const std::vector<Matrix> scores =
      LogSaliency(*PreparedProblem::OfValid(problem).value(), SearchedWeights::kAttention);
  PruneResult result;
  const std::vector<NamedWeight> weights = AttentionWeights(problem);
  for (size_t m = 0; m < weights.size(); ++m) {
    result.matrices.push_back(MaskedMatrix(
        weights[m], Binarize(scores[m], weights[m].inputs_are_rows, problem.sparsity, pool)));
  }
  return result;
}

// The limits on a real layer, gd among the rivals: real_layer_test.cc.
TEST(Ste, FindsABetterMaskThanMagnitudeAndWandaOnUnseenData) {
  for (const Sparsity& sparsity : {Sparsity::Fraction(0.5), Sparsity::NOfM(2, 4)}) {
    const Problem problem = LayerToSearch(sparsity);
    const double ste = HeldOut(problem, RunMethod(kShortSte, problem));
    EXPECT_LT(ste, 0.7 * HeldOut(problem, RunMethod("magnitude", problem)));
    EXPECT_LT(ste, 0.7 * HeldOut(problem, RunMethod("wanda", problem)));
  }
}

TEST(Ste, IsNeverWorseThanItsStartingMaskOnWhatDecidesAndOnAllCalibrationData) {
  for (const Problem& problem : {LayerToSearch(), FusedContractProblem()}) {
    const DecidingErrors start = ErrorsOf(StartingMask(problem), problem, kValidation);
    // Steps that lead nowhere, and far too long ones.
    for (const char* text : {"ste:steps=1", kShortSte, "ste:steps=30,score_rate=100"}) {
      const DecidingErrors found = ErrorsOf(RunMethod(text, problem), problem, kValidation);
      EXPECT_LE(found.validation, start.validation) << text;
      EXPECT_LE(found.calibration, start.calibration) << text;
    }
  }
}

TEST(Ste, LeavesKeptWeightsAsTheyWere) {
  const Problem problem = LayerToSearch();
  const PruneResult result = RunMethod(kShortSte, problem);
  const std::vector<NamedWeight> weights = AttentionWeights(problem);
  for (size_t m = 0; m < weights.size(); ++m) {
    const PrunedMatrix& matrix = result.matrices[m];
    EXPECT_EQ(Values(matrix.weights), Values(matrix.mask.Apply(weights[m].dense)));
    EXPECT_TRUE(matrix.soft_mask.empty());
  }
  EXPECT_FALSE(Judge(problem, result)->held_out->mask_only_relative_error.has_value());
}

TEST(Ste, RaisesTheSparsityToItsTargetOverTheFirstSteps) {
  const Problem problem = LayerToSearch();
  Recorder recorder;
  Succeed(ParseMethod("ste:steps=20,rise=0.5,score_rate=1e-9,batch=8")
              .value()
              ->Prune(problem, {.evaluate_every = 20}, recorder));
  const std::vector<StepStats>& stats = recorder.stats();
  EXPECT_EQ(stats[0].soft_relative_error, 0) << "nothing is pruned in the first step";
  EXPECT_GT(stats[5].soft_relative_error, stats[1].soft_relative_error);
  EXPECT_LT(stats[5].soft_relative_error, stats[15].soft_relative_error);
  EXPECT_TRUE(stats.back().calibration_error.has_value());
  EXPECT_TRUE(stats.back().held_out_error.has_value());
}

}  // namespace
}  // namespace attnprune::testing
