// Runs whose kept weights are trained block by block.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

constexpr int kSampled = 16;

class ReconstructedRuns : public Runs {
 protected:
  v1::Run Reconstructed(int steps = 24) {
    v1::Run run = Golden();
    run.mutable_method()->set_name("wanda");  // which leaves much to gain
    run.mutable_method()->clear_parameters();
    run.mutable_curvature();
    run.mutable_sampled()->set_rows(kSampled);
    run.set_dense_target(0.5);
    run.mutable_reconstruction()->set_steps(steps);
    run.mutable_reconstruction()->set_rate(0.005);
    return run;
  }
  static v1::Run Without(v1::Run run) {
    run.clear_reconstruction();
    run.clear_curvature();  // nothing else reads it
    return run;
  }
  // By block.
  static std::map<int, v1::Trained> TrainingsOf(const v1::Run& run) {
    std::map<int, v1::Trained> trained;
    for (const v1::RunResult& result : run.results()) {
      if (!result.has_reconstructed()) continue;
      EXPECT_FALSE(trained.contains(result.block()));
      trained[result.block()] = result.reconstructed();
    }
    return trained;
  }
  static std::vector<std::string> WeightsOf(const v1::Run& run) {
    std::vector<std::string> digests;
    for (const auto& [block, trained] : TrainingsOf(run)) {
      for (const v1::TensorRef& weights : trained.weights()) digests.push_back(weights.sha256());
    }
    return digests;
  }
};

TEST_F(ReconstructedRuns, TrainEveryBlockAndGoOnWithWhatItHasBecome) {
  const v1::Run plain = Done(Without(Reconstructed())), run = Done(Reconstructed());
  EXPECT_EQ(run.results_total(), plain.results_total() + 3);
  const std::map<int, v1::Trained> trained = TrainingsOf(run);
  ASSERT_EQ(trained.size(), 2u);
  for (const auto& [block, of_block] : trained) {
    SCOPED_TRACE(block);
    EXPECT_EQ(of_block.steps(), 24);
    EXPECT_GT(of_block.best_step(), 0);
    EXPECT_LT(of_block.best_loss(), of_block.start_loss());
    EXPECT_GE(of_block.validation_rows(), 1);
    EXPECT_EQ(of_block.training_rows() + of_block.validation_rows(),
              run.calibration().lengths_size() + kSampled);
    EXPECT_EQ(of_block.weights_size(), 7);
  }
  const auto first_of = [](const v1::Run& of, int block) {
    for (const v1::RunResult& result : of.results()) {
      if (result.block() == block && result.tensors_size() > 0) return result.tensors(0);
    }
    return v1::PrunedTensor();
  };
  EXPECT_EQ(first_of(run, 0).weights().sha256(), first_of(plain, 0).weights().sha256());
  EXPECT_NE(first_of(run, 1).weights().sha256(), first_of(plain, 1).weights().sha256());
}

TEST_F(ReconstructedRuns, EndWithTheSameBitsHoweverOftenTheyAreStopped) {
  v1::Run run = Reconstructed(6);
  run.clear_held_out();
  for (const auto& [interval, stops] : {std::pair(absl::ZeroDuration(), 8), {absl::Hours(1), 3}}) {
    checkpoint_interval_ = interval;
    clock_.SetHook(0, [] {});
    const std::string expected = Verdict(Done(run));
    ExpectTheSameHoweverOftenStopped(run, expected, stops);
  }
}

TEST_F(ReconstructedRuns, GoOnInTheMiddleOfATraining) {
  checkpoint_interval_ = absl::ZeroDuration();
  v1::Run run = Reconstructed(6);
  run.clear_held_out();
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(Done(run));
  const auto [name, checkpoint] =
      DrainedWhere(run, clock_.looks(), 1, [](const auto& saved) { return saved.has_training(); });
  EXPECT_EQ(Verdict(WorkOn(name)), expected);
  EXPECT_GT(checkpoint.training().steps(), 0);
  EXPECT_EQ(checkpoint.block(), 1);
  std::vector<int> steps;
  for (const v1::JobEvent& event : Events(name)) {
    const v1::RunProgress& progress = event.run_progress();
    const bool of_it = progress.phase() == v1::RECONSTRUCTING && progress.block() == 1;
    if (of_it && progress.step() > 0) steps.push_back(progress.step());
  }
  EXPECT_THAT(steps, ::testing::ElementsAre(1, 2, 3, 4, 5, 6));  // none of them twice
}

// Though no save is due for an hour.
TEST_F(ReconstructedRuns, SaveTheStepsOfATrainingWhenTheServerDrains) {
  checkpoint_interval_ = absl::Hours(1);
  v1::Run run = Reconstructed(40);
  run.clear_held_out();
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(Done(run));
  const auto [name, checkpoint] = DrainedWhere(
      run, clock_.looks() - 5, 5, [](const auto& saved) { return saved.training().steps() >= 3; });
  EXPECT_EQ(Verdict(WorkOn(name)), expected);
}

TEST_F(ReconstructedRuns, GiveTheSameBitsWithinAnyMemory) {
  const std::string in_memory = Verdict(Done(Reconstructed()));
  EXPECT_EQ(Verdict(WorkOn(Create(Reconstructed()).name(), /*memory_budget=*/1)), in_memory);
}

TEST_F(ReconstructedRuns, AreTheSameWhateverIsHeldOut) {
  v1::Run run = Reconstructed();
  const std::vector<std::string> expected = WeightsOf(Done(run));
  *run.mutable_held_out() = StoredTokens({7, 3}, 2, 5, &backend_.tensors());
  EXPECT_EQ(WeightsOf(Done(run)), expected);
  run.clear_held_out();
  EXPECT_EQ(WeightsOf(Done(run)), expected);
}

TEST_F(ReconstructedRuns, NeedNeitherACurvatureNorADenseTarget) {
  v1::Run run = Reconstructed();
  run.clear_curvature();
  EXPECT_EQ(TrainingsOf(Done(run)).size(), 2u);
  run.clear_dense_target();
  EXPECT_EQ(TrainingsOf(Done(run)).size(), 2u);
}

TEST_F(ReconstructedRuns, LeaveABlockThatStaysDense) {
  v1::Run run = Reconstructed();
  v1::Rule& rule = *run.add_rules();
  rule.set_pattern("model.layers.0.*");
  rule.set_skip(true);
  const std::map<int, v1::Trained> trained = TrainingsOf(Done(run));
  EXPECT_FALSE(trained.contains(0));
  EXPECT_TRUE(trained.contains(1));
}

TEST_F(ReconstructedRuns, LetTheStartStandWhereNoTrainingIsBetter) {
  v1::Run wild = Reconstructed(12);
  wild.mutable_reconstruction()->set_rate(1);
  const v1::Run done = Done(wild), plain = Done(Without(wild));
  for (const auto& [block, trained] : TrainingsOf(done)) {
    EXPECT_EQ(trained.best_step(), 0);
    EXPECT_EQ(trained.weights_size(), 0);
  }
  EXPECT_EQ(done.results(done.results_size() - 1).model_score().difference(),
            plain.results(plain.results_size() - 1).model_score().difference());
}

TEST_F(ReconstructedRuns, AreDistilledFromWhatTheyHaveBecome) {
  v1::Run run = Reconstructed(6);
  run.mutable_distillation()->set_steps(12);
  run.mutable_distillation()->set_rate(0.005);
  checkpoint_interval_ = absl::ZeroDuration();
  clock_.SetHook(0, [] {});
  const v1::Run done = Done(run);
  ASSERT_TRUE(done.results(done.results_size() - 2).has_distilled());
  const v1::Run alone = Done(Without(run));
  EXPECT_NE(done.results(done.results_size() - 2).distilled().start_loss(),
            alone.results(alone.results_size() - 2).distilled().start_loss());
  clock_.SetHook(0, [] {});
  ExpectTheSameHoweverOftenStopped(run, Verdict(Done(run)), 2);
}

TEST_F(ReconstructedRuns, LeaveNothingBehindBesideTheirWeights) {
  checkpoint_interval_ = absl::ZeroDuration();
  const v1::Run asked = Reconstructed();
  const int64_t before = Blobs();
  const v1::Run run = Done(asked);
  int64_t stored = 0;
  for (const v1::RunResult& result : run.results()) {
    stored += 2 * result.tensors_size() + result.reconstructed().weights_size();
  }
  const int64_t states = 4;  // behind the last block
  EXPECT_LE(Blobs() - before, stored + states);
}

TEST_F(ReconstructedRuns, CountItInTheirEstimate) {
  const v1::RunEstimate with = EstimateOf(Reconstructed()),
                        without = EstimateOf(Without(Reconstructed()));
  EXPECT_GT(with.seconds(), without.seconds());
  EXPECT_GT(EstimateOf(Reconstructed(2400)).seconds(), with.seconds());
  EXPECT_GT(with.disk_bytes(), without.disk_bytes());
}

TEST_F(ReconstructedRuns, ThatCannotBeAreRefused) {
  const std::vector<Spoilt> rows = {
      {"run.reconstruction", "must be absent in INDEPENDENT order",
       [](v1::Run& run) {
         run.clear_dense_target();
         run.set_order(v1::INDEPENDENT);
       }},
      {"run.reconstruction", "must have 2 calibration rows that are not held out, got 1",
       [this](v1::Run& run) {
         *run.mutable_calibration() = StoredTokens({9}, 3, 2, &backend_.tensors());
       }},
      {"run.reconstruction.steps", "must be in [1, 100000], or 0, got -1",
       [](v1::Run& run) { run.mutable_reconstruction()->set_steps(-1); }},
      {"run.reconstruction.rows", "must be in [1, 1024], or 0, got 1025",
       [](v1::Run& run) { run.mutable_reconstruction()->set_rows(1025); }},
      {"run.reconstruction.rate", "must be above 0 and at most 1, got 0",
       [](v1::Run& run) { run.mutable_reconstruction()->set_rate(0); }},
  };
  ExpectRefused(Reconstructed(), rows);
}

}  // namespace
}  // namespace attnprune::api
