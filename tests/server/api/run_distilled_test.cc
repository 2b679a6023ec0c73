// Runs whose kept weights are trained at the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

class DistilledRuns : public Runs {
 protected:
  v1::Run Distilled(int steps = 24) {
    v1::Run run = Golden();
    run.mutable_distillation()->set_steps(steps);
    run.mutable_distillation()->set_rate(0.01);
    return run;
  }
  static v1::Trained ResultOf(const v1::Run& run) {
    v1::Trained distilled;
    int found = 0;
    for (const v1::RunResult& result : run.results()) {
      if (!result.has_distilled()) continue;
      distilled = result.distilled();
      ++found;
    }
    EXPECT_EQ(found, 1);
    return distilled;
  }
  static double LossOf(const v1::Run& run) {
    return run.results(run.results_size() - 1).model_score().difference();
  }
  std::string BytesOf(const v1::TensorRef& tensor) {
    const int64_t size = ValueOrDie(backend_.tensors().SizeOf(tensor.sha256()));
    std::string bytes(static_cast<size_t>(size), '\0');
    const auto reader = ValueOrDie(backend_.tensors().OpenForReading(tensor.sha256()));
    EXPECT_TRUE(reader->ReadAt(0, absl::MakeSpan(bytes)).ok());
    return bytes;
  }
};

TEST_F(DistilledRuns, GiveEveryPrunedTensorOtherWeightsAndPredictMoreLikeTheDenseModel) {
  v1::Run without = Distilled();
  without.clear_distillation();
  const v1::Run plain = Done(without), trained = Done(Distilled());
  EXPECT_EQ(trained.results_total(), plain.results_total() + 1);
  const v1::Trained distilled = ResultOf(trained);
  EXPECT_EQ(distilled.steps(), 24);
  EXPECT_GT(distilled.best_step(), 0);
  EXPECT_LT(distilled.best_loss(), distilled.start_loss());
  EXPECT_GE(distilled.validation_rows(), 1);
  EXPECT_EQ(distilled.training_rows() + distilled.validation_rows(),
            trained.calibration().lengths_size());
  std::map<std::string, std::string> before;
  for (const v1::RunResult& result : trained.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      before[tensor.name()] = tensor.weights().sha256();
    }
  }
  EXPECT_EQ(static_cast<size_t>(distilled.weights_size()), before.size());
  for (const v1::TensorRef& weights : distilled.weights()) {
    EXPECT_NE(weights.sha256(), before.at(weights.name()));
  }
  EXPECT_LT(LossOf(trained), LossOf(plain));
}

TEST_F(DistilledRuns, LeaveZerosZero) {
  const v1::Run run = Done(Distilled());
  std::map<std::string, v1::TensorRef> trained;
  const v1::Trained distilled = ResultOf(run);
  for (const v1::TensorRef& weights : distilled.weights()) trained[weights.name()] = weights;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      const v1::TensorRef& after = trained.at(tensor.name());
      EXPECT_EQ(after.dtype(), tensor.weights().dtype());
      const std::string mask = BytesOf(tensor.mask()), bytes = BytesOf(after);
      const size_t element = bytes.size() / static_cast<size_t>(tensor.size());
      for (size_t i = 0; i < static_cast<size_t>(tensor.size()); ++i) {
        const bool kept = (static_cast<uint8_t>(mask[i / 8]) >> (i % 8) & 1) != 0;
        if (kept) continue;
        ASSERT_EQ(bytes.substr(i * element, element), std::string(element, '\0'))
            << tensor.name() << " " << i;
      }
    }
  }
}

TEST_F(DistilledRuns, EndWithTheSameBitsHoweverOftenTheyAreStopped) {
  v1::Run run = Distilled(6);
  run.clear_held_out();
  for (const auto& [interval, stops] : {std::pair(absl::ZeroDuration(), 6), {absl::Hours(1), 3}}) {
    checkpoint_interval_ = interval;
    clock_.SetHook(0, [] {});
    const std::string expected = Verdict(Done(run));
    ExpectTheSameHoweverOftenStopped(run, expected, stops);
  }
}

TEST_F(DistilledRuns, StartTheTrainingOverWhereWhatWasSavedOfItIsLost) {
  checkpoint_interval_ = absl::ZeroDuration();
  v1::Run run = Distilled(6);
  run.clear_held_out();
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(Done(run));
  const auto [name, checkpoint] =
      DrainedWhere(run, clock_.looks(), 1, [](const auto& saved) { return saved.has_training(); });
  ASSERT_EQ(checkpoint.training().layers_size(), 2);
  ASSERT_TRUE(backend_.tensors().Remove(checkpoint.training().layers(1)).ok());
  EXPECT_EQ(Verdict(WorkOn(name)), expected);
  EXPECT_THAT(Warnings(name), ::testing::Contains(::testing::HasSubstr("training that was saved")));
}

TEST_F(DistilledRuns, GiveTheSameBitsWithinAnyMemory) {
  const std::string in_memory = Verdict(Done(Distilled()));
  EXPECT_EQ(Verdict(WorkOn(Create(Distilled()).name(), /*memory_budget=*/1)), in_memory);
}

TEST_F(DistilledRuns, AreTheSameWhateverIsHeldOut) {
  const auto weights_of = [](const v1::Run& run) {
    const v1::Trained distilled = ResultOf(run);
    std::vector<std::string> digests;
    for (const v1::TensorRef& weights : distilled.weights()) digests.push_back(weights.sha256());
    return digests;
  };
  v1::Run run = Distilled();
  const std::vector<std::string> expected = weights_of(Done(run));
  *run.mutable_held_out() = StoredTokens({7, 3}, 2, 5, &backend_.tensors());
  EXPECT_EQ(weights_of(Done(run)), expected);
  run.clear_held_out();
  EXPECT_EQ(weights_of(Done(run)), expected);
}

TEST_F(DistilledRuns, TrainOnSampledRowsTooAndDecideByRealOnes) {
  v1::Run run = Distilled();
  const v1::Trained alone = ResultOf(Done(run));
  run.mutable_sampled()->set_rows(5);
  const v1::Trained more = ResultOf(Done(run));
  EXPECT_EQ(more.training_rows(), alone.training_rows() + 5);
  EXPECT_EQ(more.validation_rows(), alone.validation_rows());
}

TEST_F(DistilledRuns, LetTheStartStandWhereNoTrainingIsBetter) {
  v1::Run without = Distilled();
  without.clear_distillation();
  v1::Run wild = Distilled(12);
  wild.mutable_distillation()->set_rate(1);
  const v1::Run done = Done(wild);
  EXPECT_EQ(ResultOf(done).best_step(), 0);
  EXPECT_EQ(ResultOf(done).weights_size(), 0);
  EXPECT_EQ(LossOf(done), LossOf(Done(without)));
}

TEST_F(DistilledRuns, TellOfTheTraining) {
  const std::string name = Create(Distilled(5)).name();
  WorkOn(name);
  double before = 0;
  std::vector<int> steps;
  for (const v1::JobEvent& event : Events(name)) {
    if (!event.has_run_progress()) continue;
    const v1::RunProgress& progress = event.run_progress();
    EXPECT_GE(progress.share(), before - 1e-9);
    before = progress.share();
    if (progress.phase() == v1::DISTILLING && progress.step() > 0) {
      EXPECT_EQ(progress.steps(), 5);
      EXPECT_GT(progress.loss(), 0);
      steps.push_back(progress.step());
    }
  }
  EXPECT_THAT(steps, ::testing::ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(DistilledRuns, LeaveNothingBehindBesideTheirWeights) {
  const v1::Run asked = Distilled();
  checkpoint_interval_ = absl::ZeroDuration();
  const int64_t before = Blobs();
  const v1::Run run = Done(asked);
  int64_t stored = 0;
  for (const v1::RunResult& result : run.results()) {
    stored += 2 * result.tensors_size() + result.distilled().weights_size();
  }
  const int64_t states = 3;  // behind the last block
  EXPECT_LE(Blobs() - before, stored + states);
}

TEST_F(DistilledRuns, CountItInTheirEstimate) {
  v1::Run without = Distilled();
  without.clear_distillation();
  EXPECT_GT(EstimateOf(Distilled()).seconds(), EstimateOf(without).seconds());
  EXPECT_GT(EstimateOf(Distilled(2400)).seconds(), EstimateOf(Distilled()).seconds());
  EXPECT_GT(EstimateOf(Distilled()).disk_bytes(), EstimateOf(without).disk_bytes());
  EXPECT_GE(EstimateOf(Distilled()).memory_bytes(), EstimateOf(without).memory_bytes());
}

TEST_F(DistilledRuns, ThatCannotBeAreRefused) {
  const std::vector<Spoilt> rows = {
      {"run.distillation", "must be absent in INDEPENDENT order",
       [](v1::Run& run) { run.set_order(v1::INDEPENDENT); }},
      {"run.distillation", "must have 2 calibration rows that are not held out, got 1",
       [this](v1::Run& run) {
         *run.mutable_calibration() = StoredTokens({9}, 3, 2, &backend_.tensors());
       }},
      {"run.distillation.steps", "must be in [1, 100000], or 0, got -1",
       [](v1::Run& run) { run.mutable_distillation()->set_steps(-1); }},
      {"run.distillation.rows", "must be in [1, 1024], or 0, got 1025",
       [](v1::Run& run) { run.mutable_distillation()->set_rows(1025); }},
      {"run.distillation.rate", "must be above 0 and at most 1, got 0",
       [](v1::Run& run) { run.mutable_distillation()->set_rate(0); }},
      {"run.distillation.rate", "must be above 0 and at most 1, got nan",
       [](v1::Run& run) {
         run.mutable_distillation()->set_rate(std::numeric_limits<double>::quiet_NaN());
       }},
  };
  ExpectRefused(Distilled(), rows);
}

TEST_F(DistilledRuns, OfAModelWithoutAHeadAreRefused) { ExpectRefusedWithoutAHead(Distilled()); }

}  // namespace
}  // namespace attnprune::api
