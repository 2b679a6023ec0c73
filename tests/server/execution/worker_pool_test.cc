#include "server/execution/worker_pool.h"

#include <gmock/gmock.h>

#include "server/queue/job_store.h"
#include "tests/server/execution/execution_fixture.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;

constexpr int kForever = 1'000'000;  // steps

// A pool that knows no time but the test's. It hears of the store's news.
class WorkerPoolTest : public ExecutionTest {
 protected:
  ~WorkerPoolTest() override { Stop(); }

  WorkerPool& Make(int workers) {
    WorkerPoolOptions options;
    options.workers = workers;
    options.runner.clock = &place_.clock();
    options.runner.progress_interval = absl::Milliseconds(10);
    options.runner.retry_interval = absl::Milliseconds(1);
    options.upkeep_interval = absl::Hours(1);
    pool_ = std::make_unique<WorkerPool>(options, &place_.jobs(), &place_.tensors());
    listeners_ = std::make_unique<JobListeners>(std::vector<JobStoreListener*>{&log_, pool_.get()});
    place_.jobs().SetListener(listeners_.get());
    return *pool_;
  }
  WorkerPool& Start(int workers) {
    Make(workers).Start();
    return *pool_;
  }
  void Stop() {
    if (pool_ == nullptr) return;
    pool_->Drain(absl::InfiniteDuration());
    place_.jobs().SetListener(nullptr);
    pool_ = nullptr;
  }
  std::string CreateEndless() { return place_.Create(DescentJob(&place_, kForever)); }
  std::string CreateShort(int priority = 0) { return place_.Create(DescentJob(&place_), priority); }

  EventLog log_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<JobListeners> listeners_;
};

TEST_F(WorkerPoolTest, RunsJobsThatAreCreatedWhileItIsIdle) {
  Start(1);
  for (int i = 0; i < 3; ++i) {
    const std::string id = CreateShort();
    log_.Await(id, JobState::kSucceeded);
  }
}

TEST_F(WorkerPoolTest, TakesTheHighestPriorityFirstAndThenTheOldest) {
  Make(1);
  const std::string low = CreateShort(-1), first = CreateShort(5), second = CreateShort(5),
                    normal = CreateShort();
  pool_->Start();
  log_.Await(low, JobState::kSucceeded);
  EXPECT_THAT(log_.started(), ElementsAre(first, second, normal, low));
}

TEST_F(WorkerPoolTest, TwoWorkersRunTwoJobsAtOnce) {
  Start(2);
  const std::string one = CreateEndless(), two = CreateEndless(), three = CreateShort();
  log_.AwaitProgress(one, 2);
  log_.AwaitProgress(two, 2);
  EXPECT_EQ(place_.Get(three).state, JobState::kQueued);
  EXPECT_EQ((*place_.jobs().CountByState())[JobState::kRunning], 2);
  ASSERT_TRUE(place_.jobs().RequestCancel(one).ok());
  log_.Await(one, JobState::kCancelled);
  log_.Await(three, JobState::kSucceeded);
  ASSERT_TRUE(place_.jobs().RequestCancel(two).ok());
  log_.Await(two, JobState::kCancelled);
}

TEST_F(WorkerPoolTest, ADrainGivesJobsBackWithACheckpointAndJoinsItsThreads) {
  Start(2);
  const std::string one = CreateEndless(), two = CreateEndless();
  log_.AwaitProgress(one, 1);
  log_.AwaitProgress(two, 1);
  EXPECT_TRUE(pool_->Drain(absl::InfiniteDuration()));
  for (const std::string& id : {one, two}) {
    const JobRecord job = place_.Get(id);
    EXPECT_EQ(job.state, JobState::kQueued);
    EXPECT_TRUE(job.has_checkpoint);
    EXPECT_EQ(job.losses, 0);
    EXPECT_EQ(place_.Events(id).back().payload, "server draining");
  }
  CreateShort();
  EXPECT_EQ(log_.started().size(), 2u) << "claimed after the drain";
}

TEST_F(WorkerPoolTest, AnotherPoolGoesOnWhereADrainedOneWas) {
  const std::string undisturbed = place_.Create(DescentJob(&place_, 3000));
  Start(1);
  log_.Await(undisturbed, JobState::kSucceeded);
  const std::string id = place_.Create(DescentJob(&place_, 3000));
  log_.AwaitProgress(id, 1);
  Stop();
  Start(1);
  log_.Await(id, JobState::kSucceeded);
  EXPECT_EQ(Verdict(place_.Result(id)), Verdict(place_.Result(undisturbed)));
}

TEST_F(WorkerPoolTest, DestroyedInTheMiddleItLosesNoJob) {
  Start(1);
  const std::string id = CreateEndless();
  log_.AwaitProgress(id, 1);
  pool_->Drain(absl::ZeroDuration());  // no time for a checkpoint
  Stop();
  EXPECT_EQ(place_.Get(id).state, JobState::kQueued);
  place_.Reopen();
  EXPECT_EQ(place_.Get(id).state, JobState::kQueued);
}

TEST_F(WorkerPoolTest, UpkeepRenewsTheLeasesOfRunningJobs) {
  Start(1);
  const std::string id = CreateEndless();
  log_.AwaitProgress(id, 1);
  for (int i = 0; i < 3; ++i) {
    place_.clock().Advance(absl::Seconds(40));  // longer than the lease
    pool_->RunUpkeep();
    EXPECT_EQ(place_.Get(id).state, JobState::kRunning);
    EXPECT_EQ(place_.Get(id).lease_until, place_.clock().Now() + absl::Seconds(30));
  }
  EXPECT_EQ(place_.Get(id).attempt, 1);
}

TEST_F(WorkerPoolTest, UpkeepTakesBackTheJobOfALostWorkerAndRunsIt) {
  Make(1);
  const std::string id = CreateShort();
  place_.Claim();  // a worker that is never heard of again
  pool_->Start();
  pool_->RunUpkeep();
  EXPECT_EQ(place_.Get(id).state, JobState::kRunning);
  place_.clock().Advance(absl::Seconds(30));
  pool_->RunUpkeep();
  log_.Await(id, JobState::kSucceeded);
  EXPECT_EQ(place_.Get(id).attempt, 2);
}

TEST_F(WorkerPoolTest, AJobTakenAwayIsLetGoOf) {
  Start(1);
  const std::string id = CreateEndless();
  log_.AwaitProgress(id, 1);
  const JobClaim claim{id, place_.Get(id).fence};
  ASSERT_TRUE(place_.jobs().Finish(claim, JobState::kCancelled, {}, "elsewhere").ok());
  pool_->RunUpkeep();
  const std::string next = CreateShort();  // needs the only worker
  log_.Await(next, JobState::kSucceeded);
  EXPECT_EQ(place_.Events(id).back().payload, "elsewhere");
}

TEST_F(WorkerPoolTest, ATimeoutEndsARunningJob) {
  Start(1);
  const std::string id = place_.Create(DescentJob(&place_, kForever), 0, absl::Minutes(1));
  log_.AwaitProgress(id, 1);
  place_.clock().Advance(absl::Minutes(1));
  log_.Await(id, JobState::kFailed);
  EXPECT_EQ(place_.Get(id).failure.code, absl::StatusCode::kDeadlineExceeded);
}

// --- News of other servers ---

TEST_F(WorkerPoolTest, LeavesAJobThatAnotherServerHasTaken) {
  Start(1);
  const std::string lost = CreateEndless();
  log_.AwaitProgress(lost, 1);
  const int64_t fence = place_.Get(lost).fence;
  pool_->OnRemoteChange({.job_id = lost, .state = JobState::kRunning, .fence = fence + 1});
  log_.Await(CreateShort(), JobState::kSucceeded);
  EXPECT_EQ(place_.Get(lost).state, JobState::kRunning) << "it is the other one's to end";
}

TEST_F(WorkerPoolTest, GoesOnThoughNewsOfBeforeItsClaimComeLate) {
  Start(1);
  const std::string id = CreateEndless();
  log_.AwaitProgress(id, 1);
  const int64_t fence = place_.Get(id).fence;
  pool_->OnRemoteChange({.job_id = id, .state = JobState::kQueued, .fence = fence - 1});
  pool_->OnRemoteChange({.job_id = id, .state = JobState::kCancelled, .fence = fence - 1});
  log_.AwaitProgress(id, 5);
  ASSERT_TRUE(place_.jobs().RequestCancel(id).ok());
  log_.Await(id, JobState::kCancelled);
}

TEST_F(WorkerPoolTest, EndsAJobThatAnotherServerWasAskedToCancel) {
  Start(1);
  const std::string id = CreateEndless();
  log_.AwaitProgress(id, 1);
  pool_->OnRemoteChange({.job_id = id,
                         .state = JobState::kRunning,
                         .fence = place_.Get(id).fence,
                         .cancel_requested = true});
  log_.Await(id, JobState::kCancelled);
}

TEST_F(WorkerPoolTest, RunsAJobThatAnotherServerHasMade) {
  Start(1);
  log_.Await(CreateShort(), JobState::kSucceeded);
  place_.jobs().SetListener(&log_);  // as of another server's writes: the pool is not told
  const std::string id = CreateShort();
  pool_->OnRemoteChange({.job_id = id, .state = JobState::kQueued});
  log_.Await(id, JobState::kSucceeded);
}

}  // namespace
}  // namespace attnprune::testing
