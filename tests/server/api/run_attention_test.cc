// Runs whose queries and keys are pruned together, and runs whose blocks lose different shares.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/field_error.h"
#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class AttentionRuns : public Runs {
 protected:
  v1::Run ByAttention(const std::string& method, const char* golden = kGolden) {
    v1::Run run = GoldenRun(golden, &backend_.tensors());
    run.mutable_attention_method()->set_name(method);
    return run;
  }
  static v1::Run WithOwl(v1::Run run, double outlier = 2) {
    run.mutable_allocation()->mutable_owl()->set_outlier(outlier);
    return run;
  }
};

TEST_F(AttentionRuns, HaveQueriesAndKeysInOneResultWithTheErrorOfTheirAttention) {
  const v1::Run created = Create(ByAttention("kfac"));
  const v1::Run run = WorkOn(created.name());
  ASSERT_EQ(run.state(), v1::SUCCEEDED) << run.failure().message();
  EXPECT_EQ(run.results_done(), run.results_total());
  std::map<std::string, int> methods;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      const bool attends = tensor.maps(0) == "q" || tensor.maps(0) == "k";
      ++methods[tensor.method()];
      EXPECT_EQ(tensor.method() == "kfac", attends) << tensor.name();
      EXPECT_THAT(result.tensors(), SizeIs(attends ? 2 : 1));
      EXPECT_EQ(tensor.has_attention_calibration_error(), attends);
      EXPECT_EQ(tensor.has_attention_held_out_error(), attends);
      if (!attends) continue;
      EXPECT_GT(tensor.attention_held_out_error(), 0);
      EXPECT_LT(tensor.attention_held_out_error(), 1);
      EXPECT_GT(tensor.held_out_error(), 0);
      EXPECT_EQ(tensor.attention_calibration_error(),
                result.tensors(0).attention_calibration_error());
    }
  }
  EXPECT_THAT(methods, ElementsAre(std::pair("kfac", 4), std::pair("sparsegpt", 10)));
}

TEST_F(AttentionRuns, TellTheStepsOfTheMethod) {
  const std::string name = Create(ByAttention("kfac")).name();
  WorkOn(name);
  int steps = 0;
  for (const v1::JobEvent& event : Events(name)) {
    const v1::RunProgress& progress = event.run_progress();
    if (progress.method() != "kfac" || progress.step() == 0) continue;
    EXPECT_THAT(progress.maps(), ElementsAre("q", "k"));
    EXPECT_LE(progress.step(), progress.steps());
    steps = std::max(steps, progress.step());
  }
  EXPECT_GT(steps, 1);
}

TEST_F(AttentionRuns, PruneTheRestOfAFusedTensorByTheMethodForLinearMaps) {
  v1::Run run = ByAttention("wanda", "gpt2-sparsegpt");
  run.mutable_method()->set_name("magnitude");
  run.mutable_method()->clear_parameters();
  const v1::Run done = WorkOn(Create(run).name());
  ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  const v1::PrunedTensor& fused = done.results(0).tensors(0);
  EXPECT_THAT(fused.maps(), ElementsAre("q", "k", "v"));
  EXPECT_EQ(fused.method(), "wanda");
  EXPECT_TRUE(fused.has_attention_calibration_error());
  EXPECT_NEAR(fused.sparsity(), run.sparsity().fraction(), 0.02);
}

TEST_F(AttentionRuns, EndWithTheSameBitsHoweverOftenTheyAreStoppedInBetween) {
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(ByAttention("kfac")).name()));
  ExpectTheSameHoweverOftenStopped(ByAttention("kfac"), expected, 12);
}

TEST_F(AttentionRuns, GiveTheSameBitsWithinAnyMemory) {
  const std::string name = Create(ByAttention("joint")).name();
  const std::string in_memory = Verdict(WorkOn(name));
  EXPECT_EQ(Verdict(WorkOn(Create(ByAttention("joint")).name(), /*memory_budget=*/1)), in_memory);
}

TEST_F(AttentionRuns, TakeTheInputsOfTheDenseModelInIndependentOrder) {
  v1::Run run = ByAttention("wanda");
  run.set_order(v1::INDEPENDENT);
  const v1::Run done = WorkOn(Create(run).name());
  ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  EXPECT_TRUE(done.results(0).tensors(0).has_attention_held_out_error());
}

TEST_F(AttentionRuns, PruneTowardsTheDenseTarget) {
  v1::Run run = ByAttention("kfac");
  run.set_dense_target(0.5);
  const v1::Run done = WorkOn(Create(run).name());
  ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  EXPECT_LT(done.results(0).tensors(0).attention_held_out_error(), 1);
}

TEST_F(AttentionRuns, CountTheMethodInTheirEstimate) {
  v1::Run run = ByAttention("joint");
  const v1::RunEstimate without = EstimateOf(Golden()), with = EstimateOf(run);
  EXPECT_GT(with.seconds(), 2 * without.seconds());
  (*run.mutable_attention_method()->mutable_parameters())["steps"] = 4000;
  EXPECT_GT(EstimateOf(run).seconds(), 1.5 * with.seconds());
  EXPECT_GE(with.memory_bytes(), without.memory_bytes());
}

TEST_F(AttentionRuns, ThatCannotBeAreRefusedWithWhatDecides) {
  const auto rule = [](v1::Run& run, const char* pattern) -> v1::Rule& {
    v1::Rule& added = *run.add_rules();
    added.set_pattern(pattern);
    return added;
  };
  const std::vector<Spoilt> rows = {
      {"run.attention_method.name", "must be one of",
       [](v1::Run& run) { run.mutable_attention_method()->set_name("none"); }},
      {"run.attention_method.parameters", "no parameter",
       [](v1::Run& run) { (*run.mutable_attention_method()->mutable_parameters())["etas"] = 1; }},
      {"run.attention_method", "k_proj.weight alone: run.rules[0] (q) takes model.layers.0",
       [&](v1::Run& run) { rule(run, "q").set_skip(true); }},
      {"run.attention_method", "q_proj.weight alone: run.rules[0] (k) takes model.layers.0",
       [&](v1::Run& run) { rule(run, "k").mutable_method()->set_name("wanda"); }},
      {"run.attention_method", "have one sparsity for q and k of a block",
       [&](v1::Run& run) { rule(run, "k").mutable_sparsity()->set_fraction(0.25); }},
      {"run.attention_method", "as run.allocation shares it out",
       [&](v1::Run& run) {
         run.mutable_allocation()->mutable_owl();
         *rule(run, "k").mutable_sparsity() = run.sparsity();
       }},
      {"run.attention_method", "got none: run.rules take them all",
       [&](v1::Run& run) {
         rule(run, "q").set_skip(true);
         rule(run, "k").mutable_method()->set_name("wanda");
       }},
      {"run.calibration.ids", "differ in every row",
       [&](v1::Run& run) {
         const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 5, 5, 5};
         const char* const bytes = reinterpret_cast<const char*>(ids.data());
         v1::TokenIds& tokens = *run.mutable_calibration();
         tokens = StoredTokens({4, 4}, 3, 1, &backend_.tensors());
         tokens.mutable_ids()->set_sha256(ValueOrDie(
             backend_.tensors().Put(absl::Span<const char>(bytes, ids.size() * sizeof(int32_t)))));
       }},
      {"run.allocation.kind", "owl, progression or by_loss",
       [](v1::Run& run) { run.mutable_allocation(); }},
      {"run.allocation", "be absent where run.sparsity is n_of_m, got 2:4",
       [](v1::Run& run) {
         run.mutable_allocation()->mutable_owl();
         run.mutable_sparsity()->mutable_n_of_m()->set_n(2);
         run.mutable_sparsity()->mutable_n_of_m()->set_m(4);
       }},
      {"run.allocation.owl.outlier", "above 0",
       [](v1::Run& run) { run.mutable_allocation()->mutable_owl()->set_outlier(0); }},
      {"run.allocation.owl.limit", "[0, 0.5], got 0.6",
       [](v1::Run& run) { run.mutable_allocation()->mutable_owl()->set_limit(0.6); }},
      {"run.allocation.progression.step", "[-1, 1], got 2",
       [](v1::Run& run) { run.mutable_allocation()->mutable_progression()->set_step(2); }},
      {"run.allocation", "give every block a sparsity in [0, 1)",
       [](v1::Run& run) { run.mutable_allocation()->mutable_progression()->set_step(1); }},
  };
  ExpectRefused(ByAttention("kfac"), rows);
}

TEST_F(AttentionRuns, LeaveQueriesAndKeysToARuleThatTakesBoth) {
  v1::Run run = ByAttention("wanda");
  v1::Rule& rule = *run.add_rules();
  rule.set_pattern("model.layers.0.*");
  rule.mutable_method()->set_name("magnitude");
  const v1::Run done = WorkOn(Create(run).name());
  ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  for (const v1::RunResult& result : done.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      EXPECT_EQ(tensor.has_attention_calibration_error(),
                result.block() == 1 && (tensor.maps(0) == "q" || tensor.maps(0) == "k"));
    }
  }
}

TEST_F(AttentionRuns, WithAnOwlAllocationStoreItOnceAndPruneByIt) {
  const v1::Run created = Create(WithOwl(Golden()));
  EXPECT_EQ(created.results_total(), Create(Golden()).results_total() + 1);
  clock_.SetHook(0, [] {});
  const v1::Run run = WorkOn(created.name());
  ASSERT_EQ(run.state(), v1::SUCCEEDED) << run.failure().message();
  EXPECT_EQ(run.results_done(), run.results_total());
  std::vector<double> sparsities;
  for (const v1::RunResult& result : run.results()) {
    if (result.block_sparsities_size() == 0) continue;
    EXPECT_TRUE(sparsities.empty()) << "twice";
    sparsities.assign(result.block_sparsities().begin(), result.block_sparsities().end());
  }
  ASSERT_THAT(sparsities, SizeIs(2));
  EXPECT_NE(sparsities[0], sparsities[1]);
  EXPECT_NEAR((sparsities[0] + sparsities[1]) / 2, Golden().sparsity().fraction(), 1e-12);
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      EXPECT_EQ(tensor.asked().fraction(), sparsities[static_cast<size_t>(result.block())]);
      EXPECT_NEAR(tensor.sparsity(), tensor.asked().fraction(), 2e-3);
    }
  }
  WorkOn(Create(Golden()).name());  // the one that was created for its count
}

TEST_F(AttentionRuns, WithAnOwlAllocationEndWithTheSameBitsHoweverOftenTheyAreStopped) {
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(WithOwl(Golden())).name()));
  EXPECT_THAT(expected, HasSubstr("block_sparsities"));
  ExpectTheSameHoweverOftenStopped(WithOwl(Golden()), expected, 12);
}

TEST_F(AttentionRuns, WithAnOwlAllocationKnowItInEveryPartOfIndependentOrder) {
  v1::Run run = WithOwl(Golden());
  run.set_order(v1::INDEPENDENT);
  const v1::Run done = WorkOn(Create(run).name());
  ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  std::set<double> asked;
  for (const v1::RunResult& result : done.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      asked.insert(tensor.asked().fraction());
    }
  }
  EXPECT_THAT(asked, SizeIs(2));
}

TEST_F(AttentionRuns, WithAnAllocationLeaveWhatARuleSays) {
  v1::Run run = Golden();
  run.mutable_sparsity()->set_fraction(0.5);
  run.mutable_allocation()->mutable_progression()->set_step(0.2);
  v1::Rule& rule = *run.add_rules();
  rule.set_pattern("down");
  rule.mutable_sparsity()->set_fraction(0.25);
  const v1::Run done = WorkOn(Create(run).name());
  ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  for (const v1::RunResult& result : done.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      const double shared = result.block() == 0 ? 0.4 : 0.6;
      EXPECT_DOUBLE_EQ(tensor.asked().fraction(), tensor.maps(0) == "down" ? 0.25 : shared);
    }
  }
}

// rho = 0.99 and a limit of 0.5: the block with fewer outliers would lose 1.49.
TEST_F(AttentionRuns, WithAnOwlAllocationThatLeavesTheRangeFailByIt) {
  v1::Run run = WithOwl(Golden());
  run.mutable_sparsity()->set_fraction(0.99);
  run.mutable_allocation()->mutable_owl()->set_limit(0.5);
  const v1::Run done = WorkOn(Create(run).name());
  EXPECT_EQ(done.state(), v1::FAILED);
  EXPECT_THAT(done.failure().message(),
              HasSubstr("run.allocation must give every block a sparsity in [0, 1), got 1.49"));
}

}  // namespace
}  // namespace attnprune::api
