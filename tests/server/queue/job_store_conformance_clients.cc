// What clients see: creating, listing, cancelling, deleting, reading events.
#include <gmock/gmock.h>

#include <tuple>

#include "core/base/field_error.h"
#include "tests/server/queue/job_store_conformance.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;
using enum absl::StatusCode;

TEST_P(JobStoreConformance, KeepsWhatWasAskedForByteForByte) {
  NewJob job;
  job.request_id = "request-1";
  job.request_digest = std::string("\0\xff", 2);
  job.priority = -1000;
  job.timeout = absl::Seconds(90);
  job.labels = {{"team", "vision"}, {"empty", ""}};
  job.spec = std::string("\0spec\xfe\0", 7);
  job.origin = {"request/7", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
  const std::string id = CreateJob(job);
  Reopen();
  const JobRecord record = Get(id);
  EXPECT_THAT(record.id, MatchesRegex("[a-z0-9-]{1,63}"));
  EXPECT_EQ(record.state, JobState::kQueued);
  EXPECT_EQ(record.request_id, job.request_id);
  EXPECT_EQ(record.request_digest, job.request_digest);
  EXPECT_EQ(record.priority, -1000);
  EXPECT_EQ(record.timeout, absl::Seconds(90));
  EXPECT_EQ(record.labels, job.labels);
  EXPECT_EQ(record.spec, job.spec);
  EXPECT_EQ(record.origin.request_id, job.origin.request_id);
  EXPECT_EQ(record.origin.traceparent, job.origin.traceparent);
  EXPECT_EQ(record.create_time, clock().Now());
  EXPECT_FALSE(record.start_time.has_value());
  EXPECT_FALSE(record.end_time.has_value());
}

TEST_P(JobStoreConformance, CreateWithAKnownRequestGivesTheSameJob) {
  const std::string id = CreateJob(WithRequest("r", "digest"));
  Reopen();
  const auto again = store().Create(WithRequest("r", "digest"));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->job.id, id);
  EXPECT_FALSE(again->created);
  EXPECT_THAT(Events(id), SizeIs(1));
}

TEST_P(JobStoreConformance, AKnownRequestRepeatedByAnotherCallKeepsTheFirstOnesOrigin) {
  NewJob job = WithRequest("r", "digest");
  job.origin.request_id = "first";
  const std::string id = CreateJob(job);
  job.origin.request_id = "second";
  ASSERT_TRUE(store().Create(job).ok());
  EXPECT_EQ(Get(id).origin.request_id, "first");
}

TEST_P(JobStoreConformance, CreateRefusesAKnownRequestIdWithAnotherRequest) {
  CreateJob(WithRequest("r", "digest"));
  EXPECT_EQ(CodeOf(store().Create(WithRequest("r", "other"))), kAlreadyExists);
}

TEST_P(JobStoreConformance, JobsWithoutARequestIdAreAllNew) {
  EXPECT_NE(CreateJob(WithRequest("", "d")), CreateJob(WithRequest("", "d")));
}

TEST_P(JobStoreConformance, ADeletedJobsRequestIdIsFree) {
  const std::string id = CreateJob(WithRequest("r", "digest"));
  ASSERT_TRUE(store().RequestCancel(id).ok());
  ASSERT_TRUE(store().Delete(id).ok());
  EXPECT_NE(CreateJob(WithRequest("r", "other")), id);
}

TEST_P(JobStoreConformance, AFullQueueRefusesNewJobsOnly) {
  CreateJob(WithRequest("r", "digest"));
  for (int i = 1; i < kMaxQueued; ++i) CreateJob();
  EXPECT_EQ(CodeOf(store().Create(NewJob())), kResourceExhausted);
  EXPECT_TRUE(store().Create(WithRequest("r", "digest")).ok());
  Claim();
  EXPECT_TRUE(store().Create(NewJob()).ok()) << "a place is free again";
  EXPECT_EQ(CodeOf(store().Create(NewJob())), kResourceExhausted);
}

TEST_P(JobStoreConformance, UnknownJobsAreNotFound) {
  EXPECT_EQ(CodeOf(store().Get("nobody")), kNotFound);
  EXPECT_EQ(CodeOf(store().RequestCancel("nobody")), kNotFound);
  EXPECT_EQ(CodeOf(store().Delete("nobody")), kNotFound);
  EXPECT_EQ(CodeOf(store().ReadEvents("nobody", 0, 1)), kNotFound);
  EXPECT_EQ(CodeOf(store().ReadLogExtent("nobody")), kNotFound);
  EXPECT_EQ(CodeOf(store().CompactEvents("nobody", {})), kNotFound);
}

// --- List ---

std::vector<std::string> Ids(const JobPage& page) {
  std::vector<std::string> ids;
  for (const JobRecord& job : page.jobs) ids.push_back(job.id);
  return ids;
}

TEST_P(JobStoreConformance, ListsNewestFirstInPages) {
  const std::string a = CreateJob(), b = CreateJob(), c = CreateJob();
  const auto first = store().List({}, 2, "");
  ASSERT_TRUE(first.ok());
  EXPECT_THAT(Ids(*first), ElementsAre(c, b));
  const auto second = store().List({}, 2, first->next_page_token);
  ASSERT_TRUE(second.ok());
  EXPECT_THAT(Ids(*second), ElementsAre(a));
  EXPECT_EQ(second->next_page_token, "");
}

TEST_P(JobStoreConformance, AFullLastPageHasNoNextOne) {
  CreateJob();
  CreateJob();
  const auto page = store().List({}, 2, "");
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->next_page_token, "");
}

TEST_P(JobStoreConformance, PagesNeitherRepeatNorHideJobsWhenOthersComeAndGo) {
  const std::string a = CreateJob(), b = CreateJob(), c = CreateJob(), d = CreateJob();
  const auto first = store().List({}, 2, "");
  ASSERT_TRUE(first.ok());
  EXPECT_THAT(Ids(*first), ElementsAre(d, c));
  CreateJob();
  ASSERT_TRUE(store().RequestCancel(c).ok());
  ASSERT_TRUE(store().Delete(c).ok());  // the job the token stands behind
  Reopen();
  const auto second = store().List({}, 2, first->next_page_token);
  ASSERT_TRUE(second.ok());
  EXPECT_THAT(Ids(*second), ElementsAre(b, a));
}

TEST_P(JobStoreConformance, ListFiltersByStateAndByEveryLabel) {
  const std::string a = CreateJob(WithLabels({{"team", "a"}, {"kind", "x"}}));
  const std::string b = CreateJob(WithLabels({{"team", "a"}}));
  const std::string c = CreateJob(WithLabels({{"team", "b"}, {"kind", "x"}}));
  ASSERT_TRUE(store().RequestCancel(b).ok());
  const auto list = [&](const JobFilter& filter) { return Ids(*store().List(filter, 10, "")); };
  EXPECT_THAT(list({{}, {{"team", "a"}}}), ElementsAre(b, a));
  EXPECT_THAT(list({{}, {{"team", "a"}, {"kind", "x"}}}), ElementsAre(a));
  EXPECT_THAT(list({{JobState::kCancelled}, {}}), ElementsAre(b));
  EXPECT_THAT(list({{JobState::kCancelled, JobState::kQueued}, {}}), ElementsAre(c, b, a));
  EXPECT_THAT(list({{JobState::kQueued}, {{"kind", "x"}}}), ElementsAre(c, a));
  EXPECT_THAT(list({{}, {{"kind", "y"}}}), IsEmpty());
}

TEST_P(JobStoreConformance, APageTokenServesItsOwnFilterOnly) {
  CreateJob(WithLabels({{"team", "a"}}));
  CreateJob(WithLabels({{"team", "a"}}));
  const JobFilter filter = {{}, {{"team", "a"}}};
  const std::string token = store().List(filter, 1, "")->next_page_token;
  EXPECT_TRUE(store().List(filter, 5, token).ok()) << "the page size may change";
  for (const JobFilter& other : {JobFilter{}, JobFilter{{JobState::kQueued}, filter.labels}}) {
    const absl::Status status = store().List(other, 1, token).status();
    EXPECT_EQ(status.code(), kInvalidArgument);
    EXPECT_EQ(FieldAtFault(status), "page_token");
  }
}

TEST_P(JobStoreConformance, AMadeUpPageTokenIsRefused) {
  CreateJob();
  CreateJob();
  std::string damaged = store().List({}, 1, "")->next_page_token;
  damaged[4] = damaged[4] == 'A' ? 'B' : 'A';
  for (const std::string& token : {std::string("x"), std::string("!!!!"), damaged}) {
    EXPECT_EQ(CodeOf(store().List({}, 1, token)), kInvalidArgument) << token;
  }
  EXPECT_EQ(CodeOf(store().List({}, 0, "")), kInvalidArgument);
}

// --- Cancel and delete ---

TEST_P(JobStoreConformance, CancellingAQueuedJobEndsItAtOnce) {
  const std::string id = CreateJob();
  const auto job = store().RequestCancel(id);
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->state, JobState::kCancelled);
  EXPECT_EQ(job->end_time, clock().Now());
  EXPECT_EQ(Events(id).back().kind, EventKind::kTerminal);
  EXPECT_EQ(Events(id).back().state, JobState::kCancelled);
  EXPECT_FALSE(store().Claim("worker", absl::Seconds(1))->has_value());
}

TEST_P(JobStoreConformance, CancellingARunningJobIsTheWorkersToDo) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  const auto job = store().RequestCancel(id);
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->state, JobState::kRunning);
  EXPECT_TRUE(job->cancel_requested);
  EXPECT_TRUE(store().RenewLease(claim, absl::Seconds(1))->cancel_requested);
  EXPECT_TRUE(store().Finish(claim, JobState::kCancelled, {}, "").ok());
}

TEST_P(JobStoreConformance, ACancelRequestOutlivesTheWorker) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().RequestCancel(id).ok());
  ASSERT_TRUE(store().Requeue(claim, RequeueCause::kWorkerLost, "worker lost").ok());
  EXPECT_EQ(Get(id).state, JobState::kCancelled);
}

TEST_P(JobStoreConformance, ACancelRequestOutlivesTheServer) {
  const std::string id = CreateJob();
  Claim();
  ASSERT_TRUE(store().RequestCancel(id).ok());
  Reopen();
  EXPECT_EQ(Get(id).state, JobState::kCancelled);
  EXPECT_EQ(Events(id).back().kind, EventKind::kTerminal);
}

TEST_P(JobStoreConformance, CancellingAJobThatHasEndedChangesNothing) {
  const std::string id = CreateJob();
  ASSERT_TRUE(store().Finish(Claim(), JobState::kSucceeded, {}, "").ok());
  const auto job = store().RequestCancel(id);
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->state, JobState::kSucceeded);
  EXPECT_FALSE(job->cancel_requested);
  EXPECT_THAT(Events(id), SizeIs(3));
}

TEST_P(JobStoreConformance, DeletesJobsThatHaveEndedOnly) {
  const std::string id = CreateJob();
  EXPECT_EQ(CodeOf(store().Delete(id)), kFailedPrecondition);
  const JobClaim claim = Claim();
  EXPECT_EQ(CodeOf(store().Delete(id)), kFailedPrecondition);
  ASSERT_TRUE(store().Finish(claim, JobState::kSucceeded, {}, "").ok());
  EXPECT_TRUE(store().Delete(id).ok());
  EXPECT_EQ(CodeOf(store().Get(id)), kNotFound);
  EXPECT_EQ(CodeOf(store().ReadEvents(id, 0, 1)), kNotFound);
  EXPECT_EQ(CodeOf(store().RenewLease(claim, absl::Seconds(1))), kAborted);
}

TEST_P(JobStoreConformance, TensorsAreReferredToUntilTheJobIsDeleted) {
  NewJob first, second;
  first.tensor_digests = {"aa", "bb", "aa"};
  second.tensor_digests = {"bb", "cc"};
  const std::string id = CreateJob(first);
  CreateJob(second);
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().FinishMethod(claim, 0, "result", {"mask", "bb"}).ok());
  ASSERT_TRUE(store().Finish(claim, JobState::kSucceeded, {}, "").ok());
  Reopen();
  EXPECT_THAT(*store().ReferencedDigests(), ElementsAre("aa", "bb", "cc", "mask"));
  ASSERT_TRUE(store().Delete(id).ok());
  EXPECT_THAT(*store().ReferencedDigests(), ElementsAre("bb", "cc"));
}

TEST_P(JobStoreConformance, ARunsStateIsKeptUntilTheNextOneAndGoesWhenItHasSucceeded) {
  NewJob run;
  run.kind = JobKind::kRun;
  const std::string id = CreateJob(run);
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().FinishMethod(claim, 0, "r", {"mask"}, {{"a", "b"}}).ok());
  EXPECT_THAT(*store().ReferencedDigests(), ElementsAre("a", "b", "mask"));
  ASSERT_TRUE(store().FinishMethod(claim, 1, "r", {}).ok());
  Reopen();
  EXPECT_THAT(*store().ReferencedDigests(), ElementsAre("a", "b", "mask"));
  ASSERT_TRUE(store().FinishMethod(Claim(), 2, "r", {}, {{"b", "c"}}).ok());
  EXPECT_THAT(*store().ReferencedDigests(), ElementsAre("b", "c", "mask"));
  const JobRecord job = Get(id);
  ASSERT_TRUE(store().Finish({id, job.fence}, JobState::kFailed, {}, "").ok());
  EXPECT_THAT(*store().ReferencedDigests(), ElementsAre("b", "c", "mask"));
  ASSERT_TRUE(store().Resume(id).ok());
  ASSERT_TRUE(store().Finish(Claim(), JobState::kSucceeded, {}, "").ok());
  EXPECT_THAT(*store().ReferencedDigests(), ElementsAre("mask"));
}

TEST_P(JobStoreConformance, OnlyARunThatFailedOrWasCancelledIsResumed) {
  NewJob run;
  run.kind = JobKind::kRun;
  run.timeout = absl::Seconds(10);
  const std::string id = CreateJob(run), job = CreateJob();
  EXPECT_EQ(KindOf(id), JobKind::kRun);
  EXPECT_EQ(KindOf(job), JobKind::kMethods);
  EXPECT_EQ(CodeOf(store().Resume(id)), kFailedPrecondition) << "queued";
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().FinishMethod(claim, 0, "kept", {}).ok());
  ASSERT_TRUE(
      store().Finish(claim, JobState::kFailed, {absl::StatusCode::kInternal, "why"}, "why").ok());
  const int64_t ended = Get(id).next_sequence;

  const JobRecord resumed = *store().Resume(id);
  EXPECT_EQ(resumed.state, JobState::kQueued);
  EXPECT_EQ(resumed.failure.code, absl::StatusCode::kOk);
  EXPECT_FALSE(resumed.start_time.has_value());
  EXPECT_FALSE(resumed.end_time.has_value());
  EXPECT_THAT(resumed.results, ElementsAre("kept"));
  EXPECT_EQ(Events(id).back().sequence, ended);
  EXPECT_EQ(Events(id).back().payload, "resumed");
  EXPECT_EQ(CodeOf(store().FinishMethod(claim, 1, "stale", {})), kAborted);
  Reopen();
  ASSERT_EQ(Claim().id, id);
  ASSERT_TRUE(store().RequestCancel(id).ok());
  ASSERT_TRUE(store().Finish({id, Get(id).fence}, JobState::kCancelled, {}, "").ok());
  EXPECT_FALSE(store().Resume(id)->cancel_requested);

  ASSERT_TRUE(store().RequestCancel(job).ok());
  EXPECT_EQ(CodeOf(store().Resume(job)), kFailedPrecondition) << "not a run";
  EXPECT_EQ(CodeOf(store().Resume("r-none")), kNotFound);
}

TEST_P(JobStoreConformance, RunsAndJobsAreListedApart) {
  NewJob run;
  run.kind = JobKind::kRun;
  const std::string id = CreateJob(run), job = CreateJob();
  ASSERT_EQ(store().List({}, 10, "")->jobs.size(), 1u);
  EXPECT_EQ(store().List({}, 10, "")->jobs[0].id, job);
  const JobFilter runs = {.kind = JobKind::kRun};
  ASSERT_EQ(store().List(runs, 10, "")->jobs.size(), 1u);
  EXPECT_EQ(store().List(runs, 10, "")->jobs[0].id, id);
}

TEST_P(JobStoreConformance, CountsEveryState) {
  CreateJob();
  CreateJob();
  ASSERT_TRUE(store().RequestCancel(CreateJob()).ok());
  Claim();
  using enum JobState;
  EXPECT_EQ(*store().CountByState(),
            (std::map<JobState, int64_t>{
                {kQueued, 1}, {kRunning, 1}, {kSucceeded, 0}, {kFailed, 0}, {kCancelled, 1}}));
}

// --- Compaction ---

std::vector<int64_t> Sequences(const std::vector<StoredEvent>& events) {
  std::vector<int64_t> sequences;
  for (const StoredEvent& event : events) sequences.push_back(event.sequence);
  return sequences;
}

TEST_P(JobStoreConformance, CompactionThinsProgressOutAndKeepsTheEndsOfTheCurve) {
  const std::string id = CreateJob();  // sequence 1: queued
  const JobClaim claim = Claim();      // 2: running
  const std::vector<NewEvent> eight(8, ProgressEvent("p"));
  ASSERT_EQ(*store().AppendEvents(claim, eight), 3);  // 3 to 10
  ASSERT_EQ(*store().FinishMethod(claim, 0, "result", {}), 11);
  ASSERT_TRUE(store().CompactEvents(id, {.progress = 5}).ok());
  EXPECT_THAT(Sequences(Events(id)), ElementsAre(1, 2, 3, 4, 6, 8, 10, 11));
  ASSERT_TRUE(store().CompactEvents(id, {.progress = 5}).ok());
  EXPECT_THAT(Sequences(Events(id)), ElementsAre(1, 2, 3, 4, 6, 8, 10, 11)) << "they fit";
  ASSERT_TRUE(store().CompactEvents(id, {.progress = 2}).ok());
  EXPECT_THAT(Sequences(Events(id)), ElementsAre(1, 2, 3, 10, 11));
  ASSERT_TRUE(store().CompactEvents(id, {.progress = 1}).ok());
  EXPECT_THAT(Sequences(Events(id)), ElementsAre(1, 2, 10, 11));
  EXPECT_EQ(Get(id).oldest_sequence, 1);
  EXPECT_EQ(CodeOf(store().CompactEvents(id, {.progress = 0})), kInvalidArgument);
}

// The points of the error curves: of 20 steps, 3 to 22, every fifth was evaluated.
TEST_P(JobStoreConformance, CompactionDropsEvaluatedProgressLast) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  std::vector<NewEvent> steps(20, ProgressEvent("p"));
  for (size_t i = 4; i < steps.size(); i += 5) steps[i] = {EventKind::kEvaluated, "e"};
  ASSERT_EQ(*store().AppendEvents(claim, steps), 3);
  const auto progress_after = [&](int64_t limit) {
    EXPECT_TRUE(store().CompactEvents(id, {.progress = limit}).ok());
    return Sequences(Events(id, 2));
  };
  EXPECT_THAT(progress_after(12), ElementsAre(3, 5, 7, 8, 10, 12, 13, 15, 17, 18, 20, 22));
  EXPECT_THAT(progress_after(7), ElementsAre(3, 7, 12, 13, 17, 22)) << "steps first";
  EXPECT_THAT(progress_after(5), ElementsAre(3, 7, 12, 17, 22)) << "all evaluated ones, the ends";
  EXPECT_EQ(Events(id, 21).front().kind, EventKind::kEvaluated);
  EXPECT_THAT(progress_after(4), ElementsAre(3, 12, 22)) << "nothing else was left";
  EXPECT_THAT(progress_after(2), ElementsAre(3, 22));
  EXPECT_THAT(progress_after(1), ElementsAre(22));
  EXPECT_EQ(Get(id).oldest_sequence, 1);
}

TEST_P(JobStoreConformance, SequencesGoOnAfterCompactionAndReopening) {
  const std::string id = CreateJob();
  JobClaim claim = Claim();
  ASSERT_EQ(*store().AppendEvents(claim, std::vector<NewEvent>(10, ProgressEvent("p"))), 3);
  ASSERT_TRUE(store().CompactEvents(id, {.progress = 1, .others = 1}).ok());
  EXPECT_EQ(*store().AppendEvents(claim, {ProgressEvent("p")}), 13);
  Reopen();         // 14: queued again
  claim = Claim();  // 15: running
  EXPECT_EQ(*store().AppendEvents(claim, {ProgressEvent("p")}), 16);
}

TEST_P(JobStoreConformance, SaysSoWhenMoreThanProgressWasDropped) {
  const std::string id = CreateJob();  // 1
  const JobClaim claim = Claim();      // 2
  ASSERT_TRUE(store()
                  .AppendEvents(claim, {{EventKind::kWarning, "w"},   // 3
                                        ProgressEvent("p"),           // 4
                                        {EventKind::kWarning, "w"}})  // 5
                  .ok());
  ASSERT_TRUE(store().CompactEvents(id, {.others = 2}).ok());
  EXPECT_EQ(Get(id).oldest_sequence, 3);
  const absl::Status status = store().ReadEvents(id, 0, 10).status();
  EXPECT_EQ(status.code(), kOutOfRange);
  EXPECT_EQ(OldestSequence(status), 3);
  EXPECT_EQ(CodeOf(store().ReadEvents(id, 1, 10)), kOutOfRange);
  EXPECT_THAT(Sequences(Events(id, 2)), ElementsAre(3, 4, 5));
  EXPECT_FALSE(OldestSequence(absl::OkStatus()).has_value());
}

TEST_P(JobStoreConformance, TellsWhereALogBeginsAndEnds) {
  const auto extent = [this](const std::string& id) {
    const absl::StatusOr<LogExtent> log = store().ReadLogExtent(id);
    EXPECT_TRUE(log.ok()) << log.status();
    return std::tuple(log->state, log->oldest_sequence, log->newest_sequence);
  };
  const std::string id = CreateJob();
  EXPECT_EQ(extent(id), std::tuple(JobState::kQueued, 1, 1));
  const JobClaim claim = Claim();
  ASSERT_TRUE(store()
                  .AppendEvents(claim, std::vector<NewEvent>(5, {EventKind::kWarning, "w"}))
                  .ok());  // 3 to 7
  EXPECT_EQ(extent(id), std::tuple(JobState::kRunning, 1, 7));
  ASSERT_TRUE(store().CompactEvents(id, {.others = 2}).ok());
  EXPECT_EQ(extent(id), std::tuple(JobState::kRunning, 6, 7));
  ASSERT_TRUE(store().Finish(claim, JobState::kSucceeded, {}, "").ok());
  EXPECT_EQ(extent(id), std::tuple(JobState::kSucceeded, 6, 8));
}

TEST_P(JobStoreConformance, EventsAreReadInPages) {
  const std::string id = CreateJob();
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().AppendEvents(claim, std::vector<NewEvent>(5, ProgressEvent("p"))).ok());
  EXPECT_THAT(Sequences(*store().ReadEvents(id, 2, 3)), ElementsAre(3, 4, 5));
  EXPECT_THAT(*store().ReadEvents(id, 7, 3), IsEmpty());
  EXPECT_EQ(CodeOf(store().ReadEvents(id, 0, 0)), kInvalidArgument);
}

}  // namespace
}  // namespace attnprune::testing
