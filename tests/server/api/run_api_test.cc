// A run through the API and a worker, on real stores: what it gives, however it is disturbed.
#include "server/api/run_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/field_error.h"
#include "core/io/safetensors.h"
#include "server/execution/run_results.h"
#include "tests/server/api/run_fixture.h"
#include "tests/support/paths.h"

namespace attnprune::api {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(Runs, PruneAModelAsThePublishedScriptDoes) {
  const v1::Run run = WorkOn(Create(Golden()).name());
  ASSERT_EQ(run.state(), v1::SUCCEEDED) << run.failure().message();
  EXPECT_EQ(run.results_done(), run.results_total());
  const SafetensorsFile golden = ValueOrDie(
      SafetensorsFile::Open(TestData(absl::StrCat("/sequential/", kGolden, ".safetensors"))));
  int tensors = 0;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      const TensorInfo& kept = *ValueOrDie(golden.Find("mask." + tensor.name()));
      const std::vector<int64_t> mask = ValueOrDie(ToIntegers(kept.dtype, kept.bytes));
      const auto reader = ValueOrDie(backend_.tensors().OpenForReading(tensor.mask().sha256()));
      std::string bits(static_cast<size_t>(reader->size()), '\0');
      ASSERT_TRUE(reader->ReadAt(0, absl::MakeSpan(bits)).ok());
      int differ = 0;
      for (size_t i = 0; i < mask.size(); ++i) {
        differ += (mask[i] != 0) != ((bits[i / 8] >> (i % 8)) & 1) ? 1 : 0;
      }
      EXPECT_EQ(differ, 0) << tensor.name();
      EXPECT_GT(tensor.held_out_error(), 0);
      ++tensors;
    }
  }
  EXPECT_EQ(tensors, 14);
  const std::vector<double> loss = ValueOrDie(ToDoubles(*ValueOrDie(golden.Find("loss_after"))));
  const v1::ModelScore& score = run.results(run.results_size() - 1).model_score();
  EXPECT_NEAR(score.pruned_nats_per_token(), loss[0], 1e-4);
  EXPECT_NEAR(score.difference(), score.pruned_nats_per_token() - score.dense_nats_per_token(),
              1e-12);
}

TEST_F(Runs, TellTheirStagesInOrderAndEndWithTheRun) {
  const std::string name = Create(Golden()).name();
  WorkOn(name);
  std::vector<std::string> seen;
  double share = 0;
  for (const v1::JobEvent& event : Events(name)) {
    if (event.has_run_progress()) {
      const std::string phase = v1::RunPhase_Name(event.run_progress().phase());
      if (event.run_progress().block() == 0 && (seen.empty() || seen.back() != phase)) {
        seen.push_back(phase);
      }
      EXPECT_GE(event.run_progress().share(), share);
      share = event.run_progress().share();
    }
    EXPECT_EQ(event.run_result().states_size(), 0);
  }
  EXPECT_THAT(seen, ElementsAre("READING", "COLLECTING", "PRUNING", "COLLECTING", "PRUNING",
                                "COLLECTING", "PRUNING", "COLLECTING", "PRUNING", "ADVANCING"));
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_EQ(Events(name).back().run_terminal().state(), v1::SUCCEEDED);
}

TEST_F(Runs, EndWithTheSameBitsHoweverOftenTheyAreStoppedInBetween) {
  v1::Run run = Golden();
  run.mutable_method()->set_name("alps");
  run.mutable_method()->clear_parameters();
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(run).name()));
  const int looks = clock_.looks();
  ASSERT_GT(looks, 100);
  for (int look = 1; look <= looks; look += looks / 12) {
    SCOPED_TRACE(look);
    const std::string name = Create(run).name();
    StopSignal stop;
    clock_.SetHook(look, [&] { stop.Request(StopReason::kDraining); });
    Work(&stop);
    const int before = Get(name).results_size();
    if (Get(name).state() == v1::QUEUED) WorkOn(name);
    const v1::Run done = Get(name);
    EXPECT_EQ(done.state(), v1::SUCCEEDED);
    EXPECT_EQ(Verdict(done), expected);
    EXPECT_LE(before, done.results_size());
  }
}

// The store refuses what a worker writes whose claim has lapsed, as after kill -9.
TEST_F(Runs, GoOnFromWhatIsStoredWhenTheWorkerIsLost) {
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(Golden()).name()));
  const int looks = clock_.looks();
  for (int part = 1; part < 6; ++part) {
    const int look = looks * part / 6;
    SCOPED_TRACE(look);
    const std::string name = Create(Golden()).name();
    const std::string id = name.substr(5);
    StopSignal stop;
    clock_.SetHook(look, [&] {
      const JobRecord record = ValueOrDie(backend_.jobs().Get(id));
      ASSERT_TRUE(backend_.jobs()
                      .Requeue({id, record.fence}, RequeueCause::kWorkerLost, "worker lost")
                      .ok());
    });
    Work(&stop);
    ASSERT_EQ(Get(name).state(), v1::QUEUED);
    EXPECT_EQ(Verdict(WorkOn(name)), expected);
  }
}

TEST_F(Runs, GiveTheSameBitsWithTheirHiddenStatesInAFile) {
  const std::string in_memory = Verdict(WorkOn(Create(Golden()).name()));
  EXPECT_EQ(Verdict(WorkOn(Create(Golden()).name(), /*memory_budget=*/1)), in_memory);
}

TEST_F(Runs, KeepNoHiddenStatesOnceTheyHaveSucceeded) {
  v1::Run run = Golden();
  const std::string first = Create(run).name();
  WorkOn(first);
  const int64_t blobs = Blobs();
  // The same tensors once more: a second run adds nothing that stays.
  WorkOn(Create(run).name());
  EXPECT_EQ(Blobs(), blobs);
  std::set<std::string> referenced = ValueOrDie(backend_.jobs().ReferencedDigests());
  const v1::Run done = Get(first);
  for (const v1::RunResult& result : done.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      EXPECT_EQ(referenced.count(tensor.weights().sha256()), 1u);
      EXPECT_EQ(referenced.count(tensor.mask().sha256()), 1u);
    }
  }
}

TEST_F(Runs, AreCancelledAndGoOnWhenTheyAreResumed) {
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(Golden()).name()));
  const int half = clock_.looks() / 2;
  const std::string name = Create(Golden()).name();
  StopSignal stop;
  clock_.SetHook(half, [&] {
    ASSERT_TRUE(backend_.runs().CancelRun(access::Everyone(), name).ok());
    stop.Request(StopReason::kCancelled);
  });
  Work(&stop);
  const v1::Run cancelled = Get(name);
  ASSERT_EQ(cancelled.state(), v1::CANCELLED);
  EXPECT_GT(cancelled.results_size(), 0);
  EXPECT_LT(cancelled.results_size(), cancelled.results_total());
  // What it goes on from is kept from collection.
  const auto referenced = ValueOrDie(backend_.jobs().ReferencedDigests());
  ASSERT_TRUE(backend_.tensors()
                  .Collect({referenced.begin(), referenced.end()}, absl::ZeroDuration())
                  .ok());

  const v1::Run resumed = ValueOrDie(backend_.runs().ResumeRun(access::Everyone(), name));
  EXPECT_EQ(resumed.state(), v1::QUEUED);
  EXPECT_FALSE(resumed.has_end_time());
  clock_.SetHook(0, [] {});
  const v1::Run done = WorkOn(name);
  EXPECT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  EXPECT_EQ(Verdict(done), expected);
  EXPECT_EQ(ValueOrDie(backend_.runs().GetRun(access::Everyone(), name)).attempt(), 2);
  EXPECT_EQ(backend_.runs().ResumeRun(access::Everyone(), name).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(Runs, FailWhereATensorIsDamagedAndGoOnOnceItIsMended) {
  const v1::Run run = Golden();
  const std::string name = Create(run).name();
  const v1::TensorRef& tensor = run.model().tensors(3);
  const MappedFile kept = ValueOrDie(backend_.tensors().Map(
      tensor.sha256(), ValueOrDie(backend_.tensors().SizeOf(tensor.sha256()))));
  const std::vector<char> bytes(kept.bytes().begin(), kept.bytes().end());
  ASSERT_TRUE(backend_.tensors().Remove(tensor.sha256()).ok());
  const v1::Run failed = WorkOn(name);
  ASSERT_EQ(failed.state(), v1::FAILED);
  EXPECT_EQ(failed.failure().code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_THAT(failed.failure().message(), HasSubstr("run.model.tensors[3]: tensor"));
  EXPECT_THAT(failed.failure().message(), HasSubstr("is no longer stored"));
  ASSERT_TRUE(backend_.tensors().Put(bytes).ok());
  ASSERT_TRUE(backend_.runs().ResumeRun(access::Everyone(), name).ok());
  EXPECT_EQ(WorkOn(name).state(), v1::SUCCEEDED);
}

TEST_F(Runs, FailByNameWhereWhatTheyHavePrunedIsLost) {
  clock_.SetHook(0, [] {});
  WorkOn(Create(Golden()).name());
  const int half = clock_.looks() / 2;
  v1::Run other = Golden();
  other.mutable_sparsity()->set_fraction(0.25);  // tensors that no other run has
  const std::string name = Create(other).name();
  StopSignal stop;
  clock_.SetHook(half, [&] { stop.Request(StopReason::kDraining); });
  Work(&stop);
  clock_.SetHook(0, [] {});
  // The newest tensor is of the block that is to go on.
  int newest = 0;
  const v1::Run drained = Get(name);
  for (int i = 0; i < drained.results_size(); ++i) {
    if (drained.results(i).tensors_size() > 0) newest = i;
  }
  ASSERT_EQ(newest, drained.results_size() - 1);
  ASSERT_TRUE(
      backend_.tensors().Remove(drained.results(newest).tensors(0).weights().sha256()).ok());
  const v1::Run failed = WorkOn(name);
  ASSERT_EQ(failed.state(), v1::FAILED);
  EXPECT_EQ(failed.failure().code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_THAT(failed.failure().message(),
              HasSubstr(absl::StrCat("run.results[", newest, "].tensors[0].weights: tensor")));
}

int64_t BytesOf(const v1::TensorRef& tensor) {
  int64_t entries = 1;
  for (const int64_t size : tensor.shape()) entries *= size;
  switch (tensor.dtype()) {
    case v1::BITMASK:
      return (entries + 7) / 8;
    case v1::F32:
      return 4 * entries;
    default:
      ADD_FAILURE() << v1::DType_Name(tensor.dtype());
      return 0;
  }
}

TEST_F(Runs, CountWhatTheDiskHoldsOfThemAlready) {
  clock_.SetHook(0, [] {});
  WorkOn(Create(Golden()).name());
  const int half = clock_.looks() / 2;
  const std::string name = Create(Golden()).name();
  StopSignal stop;
  clock_.SetHook(half, [&] { stop.Request(StopReason::kDraining); });
  Work(&stop);
  std::vector<v1::RunResult> results;
  std::map<std::string, int64_t> held;
  for (const std::string& bytes : ValueOrDie(backend_.jobs().Get(name.substr(5))).results) {
    v1::RunResult& result = results.emplace_back();
    ASSERT_TRUE(result.ParseFromString(bytes));
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      held[tensor.weights().sha256()] = BytesOf(tensor.weights());
      held[tensor.mask().sha256()] = BytesOf(tensor.mask());
    }
  }
  ASSERT_FALSE(held.empty());
  const std::string lost = held.begin()->first;
  for (auto result = results.rbegin(); result != results.rend(); ++result) {
    for (const v1::HiddenStates& states : result->states()) {
      held[states.tensor().sha256()] = BytesOf(states.tensor());
    }
    if (result->states_size() > 0) break;
  }
  int64_t expected = 0;
  for (const auto& [digest, bytes] : held) expected += bytes;
  EXPECT_EQ(StoredBytes(results, backend_.tensors()), expected);
  ASSERT_TRUE(backend_.tensors().Remove(lost).ok());
  EXPECT_EQ(StoredBytes(results, backend_.tensors()), expected - held[lost]);
  EXPECT_EQ(StoredBytes({}, backend_.tensors()), 0);
}

TEST_F(Runs, LeaveWhatRulesSkipAndPruneOthersAsTheyShould) {
  v1::Run run = Golden();
  v1::Rule& skip = *run.add_rules();
  skip.set_pattern("model.layers.0.*");
  skip.set_skip(true);
  v1::Rule& down = *run.add_rules();
  down.set_pattern("down");
  down.mutable_method()->set_name("magnitude");
  down.mutable_sparsity()->mutable_n_of_m()->set_n(2);
  down.mutable_sparsity()->mutable_n_of_m()->set_m(4);
  const v1::Run done = WorkOn(Create(run).name());
  ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
  int tensors = 0;
  for (const v1::RunResult& result : done.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      ++tensors;
      EXPECT_EQ(result.block(), 1);
      const bool is_down = tensor.maps(0) == "down";
      EXPECT_EQ(tensor.method(), is_down ? "magnitude" : "sparsegpt");
      EXPECT_EQ(is_down, tensor.sparsity() == 0.5);
    }
  }
  EXPECT_EQ(tensors, 7);
}

TEST_F(Runs, InIndependentOrderEveryMapSeesTheDenseModel) {
  v1::Run run = Golden();
  run.set_order(v1::INDEPENDENT);
  const v1::Run all = WorkOn(Create(run).name());
  v1::Rule& skip = *run.add_rules();
  skip.set_pattern("model.layers.0.*");
  skip.set_skip(true);
  const v1::Run second = WorkOn(Create(run).name());
  ASSERT_EQ(all.state(), v1::SUCCEEDED);
  std::map<std::string, std::string> digests;
  for (const v1::RunResult& result : all.results()) {
    for (const auto& tensor : result.tensors()) digests[tensor.name()] = tensor.weights().sha256();
  }
  int same = 0;
  for (const v1::RunResult& result : second.results()) {
    for (const auto& tensor : result.tensors()) {
      EXPECT_EQ(digests[tensor.name()], tensor.weights().sha256()) << tensor.name();
      ++same;
    }
  }
  EXPECT_EQ(same, 7);
}

TEST_F(Runs, WithADenseTargetComeOutOtherwiseAndGoOnWithTheSameBits) {
  v1::Run run = Golden();
  run.mutable_method()->set_name("alps");
  run.mutable_method()->clear_parameters();
  const v1::Run plain = WorkOn(Create(run).name());
  run.set_dense_target(0.5);
  clock_.SetHook(0, [] {});
  const v1::Run half = WorkOn(Create(run).name());
  ASSERT_EQ(half.state(), v1::SUCCEEDED) << half.failure().message();
  const auto output_error = [](const v1::Run& done) {
    double error = 0;
    for (const v1::RunResult& result : done.results()) {
      if (result.has_block_score()) error = result.block_score().output_error();
    }
    return error;
  };
  EXPECT_GT(output_error(half), 0);
  EXPECT_NE(output_error(half), output_error(plain));
  const int looks = clock_.looks();
  for (const int look : {looks / 3, looks / 2, looks * 3 / 4}) {
    const std::string name = Create(run).name();
    StopSignal stop;
    clock_.SetHook(look, [&] { stop.Request(StopReason::kDraining); });
    Work(&stop);
    ASSERT_EQ(Get(name).state(), v1::QUEUED);
    EXPECT_EQ(Verdict(WorkOn(name)), Verdict(half));
  }
}

TEST_F(Runs, HoldOutAFractionOfTheirCalibrationRows) {
  v1::Run run = Golden();
  run.clear_held_out();
  EXPECT_FALSE(WorkOn(Create(run).name()).results(0).tensors(0).has_held_out_error());
  run.set_held_out_fraction(0.5);
  const v1::Run done = WorkOn(Create(run).name());
  const int64_t predicted = done.results(done.results_size() - 1).model_score().tokens();
  EXPECT_GT(predicted, 0);
  int64_t longest = 0;
  for (const int64_t length : run.calibration().lengths()) longest += length - 1;
  EXPECT_LT(predicted, longest);
}

TEST_F(Runs, AreListedApartFromJobs) {
  const std::string run = Create(Golden()).name();
  const std::string job = backend_.Create(backend_.GoodJob()).name();
  EXPECT_THAT(run, ::testing::StartsWith("runs/r-"));
  const v1::ListRunsResponse runs = ValueOrDie(backend_.runs().ListRuns(access::Everyone(), {}));
  ASSERT_EQ(runs.runs_size(), 1);
  EXPECT_EQ(runs.runs(0).name(), run);
  EXPECT_EQ(runs.runs(0).model().tensors_size(), 0);
  EXPECT_GT(runs.runs(0).results_total(), 0);
  const v1::ListJobsResponse jobs = ValueOrDie(backend_.api().ListJobs(access::Everyone(), {}));
  ASSERT_EQ(jobs.jobs_size(), 1);
  EXPECT_EQ(jobs.jobs(0).name(), job);
  EXPECT_EQ(
      FieldAtFault(backend_.api().GetJob(access::Everyone(), "jobs/" + run.substr(5)).status()),
      "name");
  EXPECT_EQ(
      FieldAtFault(backend_.runs().GetRun(access::Everyone(), "runs/" + job.substr(5)).status()),
      "name");
}

TEST_F(Runs, SayWhatTheyWaitForWhileTheyAreQueued) {
  const std::string first = Create(Golden()).name();
  const v1::Run second = Create(Golden());
  EXPECT_EQ(second.waiting().ahead(), 1);
  backend_.Claim();
  const v1::ListRunsResponse list = ValueOrDie(backend_.runs().ListRuns(access::Everyone(), {}));
  EXPECT_THAT(list.runs(0).waiting().running(), ElementsAre(first));
  EXPECT_FALSE(list.runs(1).has_waiting());
  EXPECT_FALSE(
      ValueOrDie(backend_.runs().CancelRun(access::Everyone(), second.name())).has_waiting());
  const v1::Run resumed = ValueOrDie(backend_.runs().ResumeRun(access::Everyone(), second.name()));
  EXPECT_THAT(resumed.waiting().running(), ElementsAre(first));
  EXPECT_FALSE(Get(first).has_waiting());
}

TEST_F(Runs, OfARequestThatWasSeenAreTheSameRun) {
  v1::CreateRunRequest request;
  *request.mutable_run() = Golden();
  request.set_request_id("once");
  const v1::Run first = ValueOrDie(backend_.runs().CreateRun(access::Everyone(), request, {}));
  EXPECT_EQ(ValueOrDie(backend_.runs().CreateRun(access::Everyone(), request, {})).name(),
            first.name());
  request.mutable_run()->set_seed(7);
  EXPECT_EQ(backend_.runs().CreateRun(access::Everyone(), request, {}).status().code(),
            absl::StatusCode::kAlreadyExists);
  request.set_request_id("");
  request.set_validate_only(true);
  const v1::Run checked = ValueOrDie(backend_.runs().CreateRun(access::Everyone(), request, {}));
  EXPECT_EQ(checked.name(), "");
  EXPECT_GT(checked.estimate().memory_bytes(), 0);
  EXPECT_GT(checked.estimate().disk_bytes(), 0);
  EXPECT_GT(checked.estimate().seconds(), 0);
}

}  // namespace
}  // namespace attnprune::api
