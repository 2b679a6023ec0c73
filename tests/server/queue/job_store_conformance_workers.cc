// What workers see: claims, fences, checkpoints, events, ends; and the listener.
#include <gmock/gmock.h>

#include <random>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/server/queue/job_store_conformance.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using enum absl::StatusCode;

TEST_P(JobStoreConformance, ClaimMakesAJobTheWorkersOwn) {
  const std::string id = CreateJob();
  clock().Advance(absl::Seconds(5));
  const auto job = store().Claim("worker 7", absl::Seconds(30));
  ASSERT_TRUE(job.ok() && job->has_value());
  EXPECT_EQ((*job)->id, id);
  EXPECT_EQ((*job)->state, JobState::kRunning);
  EXPECT_EQ((*job)->lease_owner, "worker 7");
  EXPECT_EQ((*job)->lease_until, clock().Now() + absl::Seconds(30));
  EXPECT_EQ((*job)->start_time, clock().Now());
  EXPECT_EQ((*job)->attempt, 1);
  EXPECT_EQ(Events(id).back().state, JobState::kRunning);
  EXPECT_FALSE(store().Claim("another", absl::Seconds(30))->has_value());
}

TEST_P(JobStoreConformance, ClaimAgreesWithTheScheduler) {
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) CreateJob(WithPriority(static_cast<int>(random() % 5) - 2));
  for (int i = 0; i < 60; ++i) {
    const absl::StatusOr<Snapshot> snapshot = store().ReadOutstanding();
    ASSERT_TRUE(snapshot.ok());
    const OutstandingJob* next = NextJob(*snapshot);
    ASSERT_NE(next, nullptr);
    const JobClaim claim = Claim();
    ASSERT_EQ(claim.id, next->id);
    if (i % 7 == 0) {
      ASSERT_TRUE(store().Requeue(claim, RequeueCause::kDraining, "").ok());
      ASSERT_EQ(Claim().id, next->id) << "a requeued job keeps its place";
    }
  }
}

TEST_P(JobStoreConformance, PrioritiesOutliveTheServer) {
  const std::string low = CreateJob(WithPriority(-5)), middle = CreateJob();
  const std::string high = CreateJob(WithPriority(5));
  Reopen();
  EXPECT_EQ(Claim().id, high);
  EXPECT_EQ(Claim().id, middle);
  EXPECT_EQ(Claim().id, low);
}

TEST_P(JobStoreConformance, TwoThreadsThatClaimGetDifferentJobs) {
  for (int i = 0; i < 100; ++i) CreateJob();
  std::vector<std::string> claimed[2];
  {
    std::vector<std::jthread> threads;
    for (auto& ids : claimed) {
      threads.emplace_back([this, &ids] {
        while (true) {
          const auto job = store().Claim("worker", absl::Seconds(30));
          if (!job.ok() || !job->has_value()) return;
          ids.push_back((*job)->id);
        }
      });
    }
  }
  std::set<std::string> all(claimed[0].begin(), claimed[0].end());
  all.insert(claimed[1].begin(), claimed[1].end());
  EXPECT_EQ(all.size(), 100u);
  EXPECT_EQ(claimed[0].size() + claimed[1].size(), 100u);
}

TEST_P(JobStoreConformance, RenewingMovesTheLease) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  clock().Advance(absl::Seconds(20));
  const auto lease = store().RenewLease(claim, absl::Seconds(30));
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(lease->until, clock().Now() + absl::Seconds(30));
  EXPECT_FALSE(lease->cancel_requested);
  EXPECT_EQ(Get(id).lease_until, lease->until);
}

// --- Fences ---

// Every write of a worker, with the name that a failure shows.
std::vector<std::pair<const char*, absl::Status>> AllWorkerWrites(JobStore& store,
                                                                  const JobClaim& claim) {
  return {{"RenewLease", store.RenewLease(claim, absl::Seconds(1)).status()},
          {"SaveCheckpoint", store.SaveCheckpoint(claim, "stale")},
          {"ReadCheckpoint", store.ReadCheckpoint(claim).status()},
          {"AppendEvents", store.AppendEvents(claim, {ProgressEvent("stale")}).status()},
          {"FinishMethod", store.FinishMethod(claim, 0, "stale", {}).status()},
          {"Requeue", store.Requeue(claim, RequeueCause::kWorkerLost, "")},
          {"Finish", store.Finish(claim, JobState::kFailed, {kInternal, "stale"}, "")}};
}

std::string Summary(JobStore& store, const std::string& id) {
  const JobRecord job = *store.Get(id);
  return absl::StrCat(ToString(job.state), " ", job.fence, " ", job.next_sequence, " ",
                      job.results.size(), " ", job.lease_owner, " ", job.has_checkpoint);
}

void ExpectAllRefused(JobStore& store, const JobClaim& claim) {
  const std::string before = Summary(store, claim.id);
  for (const auto& [write, status] : AllWorkerWrites(store, claim)) {
    EXPECT_EQ(status.code(), kAborted) << write << ": " << status;
  }
  EXPECT_EQ(Summary(store, claim.id), before);
}

TEST_P(JobStoreConformance, ALapsedClaimIsRefusedEveryWriteOnceTheJobIsRequeued) {
  CreateJob();
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().Requeue(claim, RequeueCause::kWorkerLost, "").ok());
  ExpectAllRefused(store(), claim);
}

TEST_P(JobStoreConformance, ALapsedClaimIsRefusedEveryWriteOnceTheJobIsClaimedAnew) {
  CreateJob();
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().Requeue(claim, RequeueCause::kDraining, "").ok());
  const JobClaim newer = Claim();
  EXPECT_GT(newer.fence, claim.fence);
  ExpectAllRefused(store(), claim);
  EXPECT_TRUE(store().AppendEvents(newer, {ProgressEvent("fresh")}).ok());
}

TEST_P(JobStoreConformance, ALapsedClaimIsRefusedEveryWriteAfterTheEnd) {
  CreateJob();
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().Finish(claim, JobState::kSucceeded, {}, "").ok());
  ExpectAllRefused(store(), claim);
}

TEST_P(JobStoreConformance, ALapsedClaimIsRefusedEveryWriteAfterTheServerRestarted) {
  CreateJob();
  const JobClaim claim = Claim();
  Reopen();
  ExpectAllRefused(store(), claim);
}

TEST_P(JobStoreConformance, ALeaseThatIsOverLapsesOnlyWhenSomebodyActs) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  clock().Advance(absl::Hours(1));
  EXPECT_TRUE(store().AppendEvents(claim, {ProgressEvent("late")}).ok());
  const Snapshot snapshot = *store().ReadOutstanding();
  const std::vector<Action> actions = Overdue(snapshot, {});
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(actions[0].kind, Action::Kind::kRequeue);
  EXPECT_TRUE(store().Requeue(actions[0].claim, RequeueCause::kWorkerLost, "").ok());
  EXPECT_EQ(Get(id).state, JobState::kQueued);
}

TEST_P(JobStoreConformance, ADecisionOnAnOldSnapshotIsRefused) {
  CreateJob();
  const JobClaim first = Claim();
  const OutstandingJob seen = (*store().ReadOutstanding()).jobs[0];
  ASSERT_TRUE(store().Requeue(first, RequeueCause::kDraining, "").ok());
  Claim();
  EXPECT_EQ(CodeOf(store().Requeue({seen.id, seen.fence}, RequeueCause::kWorkerLost, "")),
            kAborted);
}

// --- Ends ---

TEST_P(JobStoreConformance, AnEndIsOneTerminalEventAndFinal) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  clock().Advance(absl::Seconds(9));
  ASSERT_TRUE(
      store().Finish(claim, JobState::kFailed, {kDeadlineExceeded, "too slow"}, "why").ok());
  Reopen();
  const JobRecord job = Get(id);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.failure.code, kDeadlineExceeded);
  EXPECT_EQ(job.failure.message, "too slow");
  EXPECT_EQ(job.end_time, clock().Now());
  EXPECT_EQ(job.lease_owner, "");
  const StoredEvent last = Events(id).back();
  EXPECT_EQ(last.kind, EventKind::kTerminal);
  EXPECT_EQ(last.state, JobState::kFailed);
  EXPECT_EQ(last.attempt, 1);
  EXPECT_EQ(last.payload, "why");
  EXPECT_EQ(last.sequence, job.next_sequence - 1);
}

TEST_P(JobStoreConformance, FinishGoesWhereTheStateTableAllows) {
  for (const JobState to : kJobStates) {
    CreateJob();
    const JobClaim running = Claim();
    const bool allowed = IsTerminal(to);
    EXPECT_EQ(store().Finish(running, to, {}, "").ok(), allowed) << ToString(to);
    if (!allowed) {
      ASSERT_TRUE(store().Finish(running, JobState::kFailed, {}, "").ok());
    }
  }
  for (const JobState to : kJobStates) {
    const std::string id = CreateJob();
    const JobClaim queued = {id, Get(id).fence};
    const absl::Status status = store().Finish(queued, to, {}, "");
    const bool allowed = IsTerminal(to) && CanMove(JobState::kQueued, to);
    EXPECT_EQ(status.code(), allowed ? kOk : kFailedPrecondition) << ToString(to);
    store().RequestCancel(id).IgnoreError();
  }
}

TEST_P(JobStoreConformance, ResultsComeInOrderAndWithTheirEvents) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  EXPECT_EQ(CodeOf(store().FinishMethod(claim, 1, "b", {})), kFailedPrecondition);
  ASSERT_EQ(*store().FinishMethod(claim, 0, "result a", {}), 3);
  EXPECT_EQ(CodeOf(store().FinishMethod(claim, 0, "again", {})), kFailedPrecondition);
  ASSERT_EQ(*store().FinishMethod(claim, 1, std::string("\0b", 2), {}), 4);
  Reopen();
  EXPECT_THAT(Get(id).results, ElementsAre("result a", std::string("\0b", 2)));
  const std::vector<StoredEvent> events = Events(id, 2);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].kind, EventKind::kMethodResult);
  EXPECT_EQ(events[0].payload, "result a");
  EXPECT_EQ(events[1].method_index, 1);
  EXPECT_EQ(events[1].payload, std::string("\0b", 2));
}

TEST_P(JobStoreConformance, AppendRefusesEventsThatAreTheStoresOwn) {
  CreateJob();
  const JobClaim claim = Claim();
  for (const EventKind kind :
       {EventKind::kStateChange, EventKind::kMethodResult, EventKind::kTerminal}) {
    EXPECT_EQ(CodeOf(store().AppendEvents(claim, {{kind, ""}})), kInvalidArgument);
  }
}

// --- Checkpoints ---

TEST_P(JobStoreConformance, TheLastCheckpointIsThereForTheNextWorker) {
  CreateJob();
  JobClaim claim = Claim();
  EXPECT_FALSE(store().ReadCheckpoint(claim)->has_value());
  ASSERT_TRUE(store().SaveCheckpoint(claim, "first").ok());
  const std::string large(3 << 20, '\x5a');
  ASSERT_TRUE(store().SaveCheckpoint(claim, large).ok());
  EXPECT_EQ(*store().ReadCheckpoint(claim), large);
  Reopen();
  claim = Claim();
  EXPECT_EQ(*store().ReadCheckpoint(claim), large);
  ASSERT_TRUE(store().SaveCheckpoint(claim, "").ok());
  EXPECT_EQ(*store().ReadCheckpoint(claim), "") << "an empty one is one";
}

TEST_P(JobStoreConformance, AFinishedMethodsCheckpointIsDropped) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().SaveCheckpoint(claim, "of method 0").ok());
  EXPECT_TRUE(Get(id).has_checkpoint);
  ASSERT_TRUE(store().FinishMethod(claim, 0, "result", {}).ok());
  EXPECT_FALSE(Get(id).has_checkpoint);
  EXPECT_FALSE(store().ReadCheckpoint(claim)->has_value());
}

// --- Lost workers ---

TEST_P(JobStoreConformance, ReopeningRequeuesRunningJobsAtOnce) {
  const std::string id = CreateJob();
  Claim();
  clock().Advance(absl::Seconds(3));
  Reopen();
  const JobRecord job = Get(id);
  EXPECT_EQ(job.state, JobState::kQueued);
  EXPECT_EQ(job.lease_owner, "");
  EXPECT_EQ(job.losses, 1);
  const StoredEvent last = Events(id).back();
  EXPECT_EQ(last.kind, EventKind::kStateChange);
  EXPECT_EQ(last.state, JobState::kQueued);
  EXPECT_THAT(last.payload, ::testing::HasSubstr("worker lost"));
  EXPECT_EQ(Claim().id, id);
  EXPECT_EQ(Get(id).attempt, 2);
  EXPECT_EQ(Get(id).start_time, clock().Now() - absl::Seconds(3)) << "of the first attempt";
}

TEST_P(JobStoreConformance, AJobThatLosesEveryWorkerFailsInTheEnd) {
  const std::string id = CreateJob();
  for (int i = 0; i < SchedulerPolicy().max_losses; ++i) {
    Claim();
    Reopen();
    ASSERT_EQ(Get(id).state, JobState::kQueued);
  }
  Claim();
  Reopen();
  EXPECT_EQ(Get(id).state, JobState::kFailed);
  EXPECT_EQ(Get(id).failure.code, kInternal);
}

TEST_P(JobStoreConformance, GettingFurtherForgivesLostWorkers) {
  const std::string id = CreateJob();
  Claim();
  Reopen();
  JobClaim claim = Claim();
  EXPECT_EQ(Get(id).losses, 1);
  ASSERT_TRUE(store().SaveCheckpoint(claim, "further").ok());
  EXPECT_EQ(Get(id).losses, 0);
  Reopen();
  claim = Claim();
  ASSERT_TRUE(store().FinishMethod(claim, 0, "r", {}).ok());
  EXPECT_EQ(Get(id).losses, 0);
}

TEST_P(JobStoreConformance, DrainingIsNoLoss) {
  const std::string id = CreateJob();
  ASSERT_TRUE(store().Requeue(Claim(), RequeueCause::kDraining, "server draining").ok());
  EXPECT_EQ(Get(id).losses, 0);
  EXPECT_EQ(Events(id).back().payload, "server draining");
}

TEST_P(JobStoreConformance, TheSnapshotShowsQueuedAndRunningJobs) {
  NewJob timed = WithPriority(3);
  timed.timeout = absl::Minutes(2);
  const std::string a = CreateJob(timed), b = CreateJob();
  ASSERT_TRUE(store().RequestCancel(CreateJob()).ok());
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().RequestCancel(a).ok());
  const Snapshot snapshot = *store().ReadOutstanding();
  EXPECT_EQ(snapshot.now, clock().Now());
  ASSERT_EQ(snapshot.jobs.size(), 2u);
  EXPECT_EQ(snapshot.jobs[0].id, a);
  EXPECT_EQ(snapshot.jobs[0].state, JobState::kRunning);
  EXPECT_EQ(snapshot.jobs[0].fence, claim.fence);
  EXPECT_EQ(snapshot.jobs[0].timeout, absl::Minutes(2));
  EXPECT_EQ(snapshot.jobs[0].lease_until, clock().Now() + absl::Seconds(30));
  EXPECT_TRUE(snapshot.jobs[0].cancel_requested);
  EXPECT_EQ(snapshot.jobs[1].id, b);
  EXPECT_EQ(snapshot.jobs[1].state, JobState::kQueued);
}

TEST_P(JobStoreConformance, TheTimedSnapshotShowsAllThatTimeCanSayAnythingOf) {
  NewJob timed = WithPriority(3);
  timed.timeout = absl::Minutes(2);
  const std::string requeued = CreateJob(timed);
  ASSERT_TRUE(store().Requeue(Claim(), RequeueCause::kDraining, "").ok());
  CreateJob();
  const std::string urgent = CreateJob(WithPriority(4));
  Claim();
  const Snapshot snapshot = *store().ReadTimed();
  EXPECT_EQ(snapshot.now, clock().Now());
  std::set<std::string> seen;
  for (const OutstandingJob& job : snapshot.jobs) seen.insert(job.id);
  EXPECT_EQ(seen.count(requeued), 1u);
  EXPECT_EQ(seen.count(urgent), 1u);
}

// --- The listener ---

class Recorder final : public JobStoreListener {
 public:
  void OnEvents(const std::string& id, absl::Span<const StoredEvent> events) override {
    MutexLock lock(&mutex_);
    for (const StoredEvent& event : events) {
      sequences_[id].push_back(event.sequence);
      origins_.insert(event.origin.request_id);
    }
  }
  void OnCancelRequested(const std::string& id) override {
    MutexLock lock(&mutex_);
    cancelled_.push_back(id);
  }
  std::map<std::string, std::vector<int64_t>> sequences() {
    MutexLock lock(&mutex_);
    return sequences_;
  }
  std::vector<std::string> cancelled() {
    MutexLock lock(&mutex_);
    return cancelled_;
  }
  std::set<std::string> origins() {
    MutexLock lock(&mutex_);
    return origins_;
  }

 private:
  Mutex mutex_;
  std::map<std::string, std::vector<int64_t>> sequences_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> origins_ ABSL_GUARDED_BY(mutex_);
};

TEST_P(JobStoreConformance, TheListenerHearsOfTheRequestThatMadeTheJobWithEveryEvent) {
  Recorder recorder;
  store().SetListener(&recorder);
  NewJob job;
  job.origin.request_id = "order/66";
  const std::string id = CreateJob(job);
  ASSERT_TRUE(store().Requeue(Claim(), RequeueCause::kDraining, "").ok());
  store().SetListener(nullptr);
  Reopen();
  store().SetListener(&recorder);
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().AppendEvents(claim, {ProgressEvent("p")}).ok());
  ASSERT_TRUE(store().FinishMethod(claim, 0, "r", {}).ok());
  ASSERT_TRUE(store().Finish(claim, JobState::kSucceeded, {}, "").ok());
  store().SetListener(nullptr);
  EXPECT_THAT(recorder.sequences()[id], SizeIs(7));
  EXPECT_THAT(recorder.origins(), ElementsAre("order/66"));
}

TEST_P(JobStoreConformance, TheListenerHearsOfCancelRequestsOnceAndOfRunningJobsOnly) {
  Recorder recorder;
  store().SetListener(&recorder);
  const std::string running = CreateJob();
  Claim();
  const std::string queued = CreateJob();
  ASSERT_TRUE(store().RequestCancel(running).ok());
  ASSERT_TRUE(store().RequestCancel(running).ok());
  ASSERT_TRUE(store().RequestCancel(queued).ok());
  store().SetListener(nullptr);
  EXPECT_THAT(recorder.cancelled(), ElementsAre(running));
  EXPECT_THAT(recorder.sequences()[queued], ElementsAre(1, 2));
}

TEST_P(JobStoreConformance, TheListenerHearsNothingOfWritesThatFail) {
  CreateJob();
  const JobClaim claim = Claim();
  Recorder recorder;
  store().SetListener(&recorder);
  ASSERT_FALSE(store().FinishMethod(claim, 5, "r", {}).ok());
  ASSERT_FALSE(store().AppendEvents({claim.id, claim.fence + 1}, {ProgressEvent("p")}).ok());
  store().SetListener(nullptr);
  EXPECT_THAT(recorder.sequences(), IsEmpty());
}

// Workers and clients at once: for each job the listener hears every event once and in order, and
// every job ends.
TEST_P(JobStoreConformance, ManyThreadsLeaveEveryJobWithOneWholeHistory) {
  Recorder recorder;
  store().SetListener(&recorder);
  constexpr int kThreads = 3, kJobs = 12;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([this, t] {
        for (int i = 0; i < kJobs; ++i) {
          const std::string id = CreateJob(WithPriority(t));
          if (i % 4 == t) store().RequestCancel(id).IgnoreError();
          const auto job = store().Claim("worker", absl::Seconds(30));
          if (!job.ok() || !job->has_value()) continue;
          const JobClaim claim = {(*job)->id, (*job)->fence};
          EXPECT_TRUE(store().SaveCheckpoint(claim, "state").ok());
          EXPECT_TRUE(store().AppendEvents(claim, {ProgressEvent("p"), ProgressEvent("p")}).ok());
          EXPECT_TRUE(store().List({}, 5, "").ok());
          EXPECT_TRUE(store().RenewLease(claim, absl::Seconds(30)).ok());
          EXPECT_TRUE(store().FinishMethod(claim, 0, "r", {}).ok());
          EXPECT_TRUE(store().Finish(claim, JobState::kSucceeded, {}, "").ok());
        }
      });
    }
  }
  while (store().Claim("worker", absl::Seconds(30))->has_value()) {
  }
  store().SetListener(nullptr);
  const auto heard = recorder.sequences();
  EXPECT_EQ(heard.size(), static_cast<size_t>(kThreads * kJobs));
  for (const auto& [id, sequences] : heard) {
    const std::vector<StoredEvent> events = Events(id);
    ASSERT_EQ(sequences.size(), events.size());
    for (size_t i = 0; i < events.size(); ++i) {
      EXPECT_EQ(events[i].sequence, static_cast<int64_t>(i) + 1);
      EXPECT_EQ(sequences[i], static_cast<int64_t>(i) + 1);
    }
  }
}

}  // namespace
}  // namespace attnprune::testing
