// Runs in independent order: parts that several workers do.
#include "server/execution/run_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "attnprune/v1/prune_service.pb.h"
#include "core/base/mutex.h"
#include "server/execution/worker_pool.h"
#include "tests/server/api/run_parts_fixture.h"
#include "tests/server/execution/failing_store.h"

namespace attnprune::api {
namespace {

using ::testing::HasSubstr;

TEST_F(RunParts, DoneByAHelperGiveTheSameBits) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const int64_t blobs = Blobs();
  const std::string name = Create(Independent()).name();
  int part_done = -1;
  WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
    StopSignal stop;
    EXPECT_TRUE(Help(part, &stop));
    for (const PartStatus& status : Parts(name)) {
      if (status.done && status.part == part.claim.part) part_done = status.part;
    }
  });
  EXPECT_EQ(part_done, 1) << "the second block, while the worker has the first";
  EXPECT_EQ(Get(name).state(), v1::SUCCEEDED) << Get(name).failure().message();
  EXPECT_EQ(Verdict(Get(name)), expected);
  EXPECT_EQ(Blobs(), blobs) << "hidden states are left";
}

TEST_F(RunParts, GivenBackByAHelperAreDoneByTheRunsOwnWorker) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const std::string name = Create(Independent()).name();
  bool helped = false;
  WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
    StopSignal draining;
    draining.Request(StopReason::kDraining);
    EXPECT_FALSE(Help(part, &draining));
    helped = true;
  });
  EXPECT_TRUE(helped);
  EXPECT_EQ(Verdict(Get(name)), expected);
}

TEST_F(RunParts, ThatAHelperCannotDoAreLeftToTheRunsOwnWorker) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const std::string name = Create(Independent()).name();
  bool given_back = false;
  WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
    ClaimedPart damaged = part;
    damaged.job.spec = "not a run";
    RunHelper helper(&backend_.jobs(), &backend_.tensors());
    StopSignal stop;
    EXPECT_FALSE(helper.Help(damaged, Options(), &stop));
    const auto again = ValueOrDie(backend_.jobs().ClaimPart(absl::Hours(1)));
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(again->claim.part, part.claim.part);
    EXPECT_FALSE(helper.Help(*again, Options(), &stop)) << "it leaves the run alone";
    given_back = true;
  });
  EXPECT_TRUE(given_back);
  EXPECT_EQ(Verdict(Get(name)), expected);
}

TEST_F(RunParts, WhoseHiddenStatesAreLostComputeThemAnew) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const std::string name = Create(Independent()).name();
  WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
    ASSERT_FALSE(part.states.empty());
    ASSERT_TRUE(backend_.tensors().Remove(part.states[0]).ok());
    StopSignal stop;
    EXPECT_TRUE(Help(part, &stop));
  });
  EXPECT_EQ(Verdict(Get(name)), expected);
  std::vector<std::string> warnings;
  for (const v1::JobEvent& event : Events(name)) {
    if (!event.warning().empty()) warnings.push_back(event.warning());
  }
  EXPECT_THAT(warnings, ::testing::ElementsAre(HasSubstr("hidden states before block 1")));
}

// A write that the store refuses leaves the run to another attempt, as it leaves a job.
TEST_F(RunParts, WhoseStoreFailsLeaveTheRunToAnotherAttempt) {
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const std::string name = Create(Independent()).name();
  for (int write = 1; write < 12; write += 3) {
    SCOPED_TRACE(write);
    testing::FailingStore failing(&backend_.jobs(), [write](int count) {
      return count == write ? absl::InternalError("disk I/O error") : absl::OkStatus();
    });
    const absl::optional<JobRecord> job = ValueOrDie(backend_.jobs().Claim("test", absl::Hours(1)));
    ASSERT_TRUE(job.has_value());
    StopSignal stop;
    RunJob(*job, &failing, &backend_.tensors(), Options(), &stop);
    if (Get(name).state() == v1::SUCCEEDED) break;
    ASSERT_EQ(Get(name).state(), v1::RUNNING);
    ASSERT_TRUE(backend_.jobs()
                    .Requeue({job->id, job->fence}, RequeueCause::kWorkerLost, "the lease is over")
                    .ok());
  }
  if (Get(name).state() != v1::SUCCEEDED) WorkOn(name);
  EXPECT_EQ(Verdict(Get(name)), expected);
}

TEST_F(RunParts, LeaveTheSameBitsHoweverOftenTheRunIsStoppedInBetween) {
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const int looks = clock_.looks();
  ASSERT_GT(looks, 50);
  for (int look = 1; look <= looks; look += looks / 5) {
    SCOPED_TRACE(look);
    const std::string name = Create(Independent()).name();
    StopSignal stop;
    clock_.SetHook(look, [&] { stop.Request(StopReason::kDraining); });
    Work(&stop);
    if (Get(name).state() == v1::QUEUED) WorkOn(name);
    EXPECT_EQ(Verdict(Get(name)), expected);
  }
}

// Ends of jobs, as a pool's store tells of them.
class EndListener final : public JobStoreListener {
 public:
  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override {
    MutexLock lock(&mutex_);
    for (const StoredEvent& event : events) {
      if (event.kind == EventKind::kTerminal) ended_.insert(job_id);
      progress_ += IsProgress(event.kind) ? 1 : 0;
      v1::Progress progress;
      const bool step = IsProgress(event.kind) && progress.ParseFromString(event.payload) &&
                        progress.run().step() > 0;
      if (step) ++steps_in_[progress.run().block()];
    }
    changed_.NotifyAll();
  }
  void OnCancelRequested(const std::string&) override {}

  void AwaitEnd(const std::string& name) {
    MutexLock lock(&mutex_);
    changed_.Wait(
        &mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ended_.count(name.substr(5)) > 0; });
  }
  // Some from now on.
  void AwaitSteps(int block) {
    MutexLock lock(&mutex_);
    int& steps = steps_in_[block] = 0;
    changed_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return steps >= 20; });
  }
  void AwaitProgress(int events) {
    MutexLock lock(&mutex_);
    changed_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return progress_ >= events; });
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::set<std::string> ended_ ABSL_GUARDED_BY(mutex_);
  std::map<int, int> steps_in_ ABSL_GUARDED_BY(mutex_);  // told of methods, by block
  int progress_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A pool on the test's stores, and what it tells.
class RunPartsInAPool : public RunParts {
 protected:
  ~RunPartsInAPool() override {
    pool_->Drain(absl::InfiniteDuration());
    backend_.jobs().SetListener(nullptr);
  }

  void Start(int workers) {
    WorkerPoolOptions options;
    options.workers = workers;
    options.runner = Options();
    options.runner.clock = &real_;
    options.upkeep_interval = absl::Hours(1);
    pool_ = std::make_unique<WorkerPool>(options, &backend_.jobs(), &backend_.tensors());
    listeners_ =
        std::make_unique<JobListeners>(std::vector<JobStoreListener*>{&ends_, pool_.get()});
    backend_.jobs().SetListener(listeners_.get());
    pool_->Start();
  }
  // A run whose first two parts never end; two workers are at a step of theirs.
  std::string CreateEndless() {
    v1::Run endless = Independent();
    endless.mutable_attention_method()->set_name("gd");
    (*endless.mutable_attention_method()->mutable_parameters())["steps"] = 1'000'000;
    std::string run = Create(endless).name();
    ends_.AwaitSteps(0);
    ends_.AwaitSteps(1);
    return run;
  }
  void Cancel(const std::string& run) {
    ASSERT_TRUE(backend_.runs().CancelRun(access::Everyone(), run).ok());
    ends_.AwaitEnd(run);
  }

  EndListener ends_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<JobListeners> listeners_;
};

TEST_F(RunPartsInAPool, AreDoneByAllItsWorkers) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  Start(3);
  const std::string name = Create(Independent()).name();
  ends_.AwaitEnd(name);
  EXPECT_EQ(Verdict(Get(name)), expected);

  v1::Run other = Independent();
  other.mutable_method()->set_name("alps");
  other.mutable_method()->clear_parameters();
  const std::string cancelled = Create(other).name();
  ends_.AwaitProgress(1);
  Cancel(cancelled);
}

TEST_F(RunPartsInAPool, AreGivenBackWhereAJobWaitsAndTakenUpBehindTheirLastStep) {
  checkpoint_interval_ = absl::Hours(1);
  Start(2);
  const std::string run = CreateEndless();
  ends_.AwaitEnd(backend_.Create(backend_.GoodJob()).name());
  EXPECT_EQ(Get(run).state(), v1::RUNNING);
  ends_.AwaitSteps(1);
  Cancel(run);
  EXPECT_EQ(Get(run).state(), v1::CANCELLED);
  int last = 0;
  for (const v1::JobEvent& event : Events(run)) {
    const v1::RunProgress& progress = event.run_progress();
    if (progress.block() != 1 || progress.step() == 0) continue;
    EXPECT_GT(progress.step(), last);
    last = progress.step();
  }
}

TEST_F(RunPartsInAPool, AreAllGivenBackWithTheirStepsWhenItDrains) {
  checkpoint_interval_ = absl::Hours(1);
  Start(2);
  CreateEndless();
  pool_->Drain(absl::InfiniteDuration());
  ASSERT_TRUE(ValueOrDie(backend_.jobs().Claim("test", absl::Hours(1))).has_value());
  for (int part = 0; part < 2; ++part) {
    const auto claimed = ValueOrDie(backend_.jobs().ClaimPart(absl::Hours(1)));
    ASSERT_TRUE(claimed.has_value());
    EXPECT_TRUE(ValueOrDie(backend_.jobs().ReadCheckpoint(claimed->claim)).has_value()) << part;
  }
}

}  // namespace
}  // namespace attnprune::api
