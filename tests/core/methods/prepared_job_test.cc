// All that a job does with one problem, on one PreparedProblem.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/judge/score.h"
#include "core/methods/registry.h"
#include "core/objective/dense_attention.h"
#include "core/objective/prepared_problem.h"
#include "tests/core/contract/contract_problems.h"
#include "tests/core/methods/search_runs.h"

namespace attnprune::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr const char* kMethods[] = {
    "magnitude",
    "wanda",
    "sparsegpt",
    "gd:steps=6",
    "ste:steps=6",
    "joint:steps=6",
    "gd+refit:steps=4,refit_steps=4",
    "sparsegpt+refit:refit_steps=4",
    "ste:steps=6,validation=0,batch=8",  // one part, which is all of the batches
};

void ExpectSameMatrices(const PruneResult& a, const PruneResult& b, const std::string& what) {
  ASSERT_EQ(a.matrices.size(), b.matrices.size()) << what;
  for (size_t i = 0; i < a.matrices.size(); ++i) {
    EXPECT_EQ(a.matrices[i].mask, b.matrices[i].mask) << what;
    EXPECT_THAT(a.matrices[i].weights.flat(),
                ::testing::ElementsAreArray(b.matrices[i].weights.flat()))
        << what;
  }
}

struct Row {
  const char* sentence;
  Problem (*make)();
};
const Row kRows[] = {
    {"projections", [] { return LayerToSearch(); }},
    {"fused with held out batches",
     [] {
       Problem problem = FusedContractProblem();
       problem.held_out = problem.calibration.Clone();
       return problem;
     }},
};

// Whether a method learns from parts of the calibration batches, each a set of its own.
bool HasParts(absl::string_view text) {
  const bool whole = text.find("batch=8") != absl::string_view::npos;
  return !whole && (text.substr(0, 3) == "ste" || text.substr(0, 5) == "joint" ||
                    text.find("+refit") != absl::string_view::npos);
}

// Calibration and held-out batches: two, whatever is run, evaluated and judged.
TEST(PreparedJob, BuildsTheDenseAttentionOfEachSetOfBatchesOnce) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.sentence);
    const Problem problem = row.make();
    const int64_t before = DenseAttentionStore::Made();
    const auto prepared = PreparedProblem::Create(problem).value();
    ResultJudge judge(*prepared);
    for (const char* text : kMethods) {
      if (HasParts(text)) continue;
      const PruneResult result =
          Succeed(ParseMethod(text).value()->Prune(*prepared, {.evaluate_every = 2}));
      EXPECT_TRUE(judge.Judge(result).ok()) << text;
    }
    EXPECT_EQ(DenseAttentionStore::Made() - before, 2);
  }
}

TEST(PreparedJob, GivesEveryMethodTheBitsAndTheScoreThatItHasAlone) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.sentence);
    const Problem problem = row.make();
    const auto prepared = PreparedProblem::Create(problem, {.threads = 2}).value();
    ResultJudge judge(*prepared);
    for (const char* text : kMethods) {
      const PruneResult alone = RunMethod(text, problem);
      const PruneResult shared = Succeed(ParseMethod(text).value()->Prune(*prepared));
      ExpectSameMatrices(shared, alone, text);
      const Score expected = Judge(problem, alone).value(), score = judge.Judge(shared).value();
      EXPECT_EQ(score.calibration.per_head, expected.calibration.per_head) << text;
      EXPECT_EQ(score.held_out->relative_error, expected.held_out->relative_error) << text;
      EXPECT_EQ(score.calibration.linear_error, expected.calibration.linear_error) << text;
      EXPECT_EQ(ToString(score.theory.delta), ToString(expected.theory.delta)) << text;
    }
  }
}

TEST(PreparedJob, HasTheSameBitsWhateverIsKeptOfTheDenseAttention) {
  for (const Row& row : kRows) {
    const Problem problem = row.make();
    for (const char* text : kMethods) {
      const PruneResult kept = RunMethod(text, problem);
      for (const DenseAttention attention :
           {DenseAttention::kRebuild, DenseAttention::kRecompute}) {
        ExpectSameMatrices(
            Succeed(ParseMethod(text).value()->Prune(problem, {}, {.attention = attention})), kept,
            text);
      }
    }
  }
}

TEST(PreparedJob, TellsHowFarPreparingAndJudgingAre) {
  const Problem problem = LayerToSearch();
  const auto prepared = PreparedProblem::Create(problem).value();
  std::vector<double> shares;
  const ShareDone keep = [&shares](double share) { shares.push_back(share); };
  ASSERT_TRUE(prepared->Calibration(keep).ok());
  ASSERT_FALSE(shares.empty());
  EXPECT_EQ(shares.back(), 1.0);
  shares.clear();
  const PruneResult moved = Succeed(ParseMethod("sparsegpt").value()->Prune(*prepared));
  ASSERT_TRUE(ResultJudge(*prepared).Judge(moved, keep).ok());
  // Weights moved: two passes over each of calibration and held out, in one chunk; and the dense
  // attention of the held-out batches, which nobody has asked for before.
  EXPECT_THAT(shares, ::testing::ElementsAre(0.2, 0.4, 0.6, 0.8, 1.0));
}

// A dense logit that overflows is every method's error and the judge's, in the same words.
TEST(PreparedJob, RefusesDenseLogitsThatOverflowAtEveryUse) {
  Problem problem = FusedContractProblem();
  problem.weights = FusedWeights{Matrix::Constant(8, 8, 3e38f), {}, {}};
  const auto prepared = PreparedProblem::Create(problem).value();
  std::vector<std::string> messages;
  for (int time = 0; time < 2; ++time) {
    messages.emplace_back(prepared->Calibration().status().message());
    messages.emplace_back(ParseMethod("gd:lambda=1").value()->Prune(*prepared).status().message());
  }
  EXPECT_THAT(messages, Each(HasSubstr("must give logits that are finite in float32")));
}

}  // namespace
}  // namespace attnprune::testing
