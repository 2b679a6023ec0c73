// Runs with calibration rows that the dense model writes itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/base/field_error.h"
#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

using ::testing::HasSubstr;

class SampledRuns : public Runs {
 protected:
  v1::Run Sampled(int rows = 5) {
    v1::Run run = Golden();
    run.mutable_sampled()->set_rows(rows);
    return run;
  }
  // Everything that calibration rows do.
  v1::Run OfAllStages() {
    v1::Run run = Sampled();
    run.mutable_method()->set_name("alps");
    run.mutable_method()->clear_parameters();
    run.mutable_sparsity()->set_fraction(0.5);
    run.mutable_curvature();
    run.mutable_allocation()->mutable_by_loss();
    run.set_dense_target(0.5);
    return run;
  }
  static v1::TensorRef RowsOf(const v1::Run& run) {
    v1::TensorRef rows;
    int found = 0;
    for (const v1::RunResult& result : run.results()) {
      if (!result.has_sampled_rows()) continue;
      rows = result.sampled_rows();
      ++found;
    }
    EXPECT_EQ(found, 1);
    return rows;
  }
};

TEST_F(SampledRuns, KeepTheRowsAndPruneOtherWeightsByThem) {
  v1::Run without = Sampled();
  without.clear_sampled();
  const v1::Run plain = Done(without), sampled = Done(Sampled());
  EXPECT_EQ(sampled.results_total(), plain.results_total() + 1);
  const v1::TensorRef rows = RowsOf(sampled);
  EXPECT_EQ(rows.dtype(), v1::I32);
  const auto& lengths = sampled.calibration().lengths();
  int64_t tokens = 0;
  for (int i = 0; i < 5; ++i) tokens += lengths[i % lengths.size()];
  ASSERT_EQ(rows.shape_size(), 1);
  EXPECT_EQ(rows.shape(0), tokens);
  EXPECT_EQ(ValueOrDie(backend_.tensors().SizeOf(rows.sha256())), 4 * tokens);
  EXPECT_NE(plain.results(0).tensors(0).weights().sha256(),
            sampled.results(0).tensors(0).weights().sha256());
}

TEST_F(SampledRuns, TellOfTheWriting) {
  const std::string name = Create(OfAllStages()).name();
  WorkOn(name);
  double before = 0;
  bool seen = false;
  for (const v1::JobEvent& event : Events(name)) {
    if (!event.has_run_progress()) continue;
    seen = seen || event.run_progress().phase() == v1::SAMPLING;
    EXPECT_GE(event.run_progress().share(), before - 1e-9);
    before = event.run_progress().share();
  }
  EXPECT_TRUE(seen);
  EXPECT_NEAR(before, 1, 1e-9);
}

TEST_F(SampledRuns, EndWithTheSameBitsHoweverOftenTheyAreStopped) {
  const v1::Run run = OfAllStages();
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(Done(run));
  ExpectTheSameHoweverOftenStopped(run, expected, 6);
}

TEST_F(SampledRuns, GoOnWithTheTokensThatWereWritten) {
  checkpoint_interval_ = absl::ZeroDuration();
  const v1::Run run = Sampled();
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(Done(run));
  const auto [name, checkpoint] = DrainedWhere(
      run, clock_.looks() / 2, 1, [](const auto& saved) { return saved.has_sampling(); });
  ASSERT_EQ(checkpoint.sampling().lengths_size(), 5);
  EXPECT_GT(checkpoint.sampling().lengths(0), 4) << "the prefix";
  EXPECT_EQ(Verdict(WorkOn(name)), expected);
  EXPECT_THAT(Warnings(name), ::testing::IsEmpty());
}

TEST_F(SampledRuns, StartOverWhereWhatWasWrittenIsDamaged) {
  checkpoint_interval_ = absl::ZeroDuration();
  const v1::Run run = Sampled();
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(Done(run));
  const int looks = clock_.looks();
  const auto damage = [&](const std::function<void(v1::RunCheckpoint::Sampling&)>& spoil) {
    auto [name, checkpoint] =
        DrainedWhere(run, looks / 2, 1, [](const auto& saved) { return saved.has_sampling(); });
    spoil(*checkpoint.mutable_sampling());
    const JobRecord job = *ValueOrDie(backend_.jobs().Claim("test", absl::Hours(1)));
    const JobClaim claim{job.id, job.fence};
    ASSERT_TRUE(backend_.jobs().SaveCheckpoint(claim, checkpoint.SerializeAsString()).ok());
    ASSERT_TRUE(backend_.jobs().Requeue(claim, RequeueCause::kDraining, "").ok());
    EXPECT_EQ(Verdict(WorkOn(name)), expected);
    EXPECT_THAT(Warnings(name), ::testing::Contains(HasSubstr("rows that were saved")));
  };
  damage([](auto& sampling) { sampling.set_lengths(0, 1 << 20); });
  damage([](auto& sampling) { sampling.set_ids(0, sampling.ids(0) + 1); });
}

TEST_F(SampledRuns, GiveTheSameBitsWithinAnyMemory) {
  const std::string in_memory = Verdict(Done(OfAllStages()));
  EXPECT_EQ(Verdict(WorkOn(Create(OfAllStages()).name(), /*memory_budget=*/1)), in_memory);
}

TEST_F(SampledRuns, WriteOtherRowsByAnotherSeedTemperatureOrPrefix) {
  const std::string rows = RowsOf(Done(Sampled())).sha256();
  EXPECT_EQ(RowsOf(Done(Sampled())).sha256(), rows);
  v1::Run seed = Sampled(), temperature = Sampled(), prefix = Sampled();
  seed.set_seed(seed.seed() + 1);
  temperature.mutable_sampled()->set_temperature(0.1);
  prefix.mutable_sampled()->set_prefix(2);
  for (const v1::Run& run : {seed, temperature, prefix}) {
    EXPECT_NE(RowsOf(Done(run)).sha256(), rows);
  }
}

TEST_F(SampledRuns, NeverWriteOnFromHeldOutRows) {
  v1::Run run = Sampled();
  run.mutable_calibration()->CopyFrom(StoredTokens({9, 9}, 3, 2, &backend_.tensors()));
  run.clear_held_out();
  run.set_held_out_fraction(0.5);
  v1::Run alone = Sampled();
  alone.mutable_calibration()->CopyFrom(StoredTokens({9}, 3, 2, &backend_.tensors()));
  v1::Run other = alone;
  other.mutable_calibration()->CopyFrom(StoredTokens({9}, 3 + 9 * 2, 2, &backend_.tensors()));
  const std::string of_half = RowsOf(Done(run)).sha256();
  EXPECT_THAT(of_half, ::testing::AnyOf(RowsOf(Done(alone)).sha256(), RowsOf(Done(other)).sha256()))
      << "as if the held-out row were not there";
}

TEST_F(SampledRuns, CountTheRowsInTheirEstimate) {
  const v1::RunEstimate few = EstimateOf(Sampled(2)), many = EstimateOf(Sampled(2000));
  EXPECT_GT(many.seconds(), few.seconds());
  EXPECT_GT(many.disk_bytes(), few.disk_bytes());
  EXPECT_GT(many.memory_bytes(), few.memory_bytes());
}

TEST_F(SampledRuns, ThatCannotBeAreRefused) {
  const std::vector<Spoilt> rows = {
      {"run.sampled", "must be absent in INDEPENDENT order",
       [](v1::Run& run) { run.set_order(v1::INDEPENDENT); }},
      {"run.sampled.rows", "must be in [1, 1048576], got 0",
       [](v1::Run& run) { run.mutable_sampled()->set_rows(0); }},
      {"run.sampled.temperature", "must be in [0.01, 10], got 0",
       [](v1::Run& run) { run.mutable_sampled()->set_temperature(0); }},
      {"run.sampled.temperature", "must be in [0.01, 10], got nan",
       [](v1::Run& run) {
         run.mutable_sampled()->set_temperature(std::numeric_limits<double>::quiet_NaN());
       }},
      {"run.sampled.prefix", "must be in [1, 1048576], or 0, got -1",
       [](v1::Run& run) { run.mutable_sampled()->set_prefix(-1); }},
  };
  ExpectRefused(Sampled(), rows);
}

TEST_F(SampledRuns, OfAModelWithoutAHeadAreRefused) { ExpectRefusedWithoutAHead(Sampled()); }

}  // namespace
}  // namespace attnprune::api
