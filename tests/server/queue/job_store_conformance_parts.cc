// Parts of running jobs: one job done by several workers.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/server/queue/job_store_conformance.h"

namespace attnprune::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using enum absl::StatusCode;

constexpr absl::Duration kLease = kPartLease;

TEST_P(JobStoreConformance, PartsArePickedInOrderAndOnlyOnce) {
  const JobClaim run = RunWithParts(2);
  const ClaimedPart first = ClaimPart(), second = ClaimPart();
  EXPECT_EQ(first.job.id, run.id);
  EXPECT_EQ(first.claim.part, 0);
  EXPECT_THAT(first.states, ElementsAre("state 0"));
  EXPECT_EQ(second.claim.part, 1);
  EXPECT_TRUE(NoPartIsOpen());
}

TEST_P(JobStoreConformance, PartsOfTheJobThatRunsFirstComeFirst) {
  RunWithParts(1);
  const JobClaim urgent = RunWithParts(1, /*priority=*/5);
  EXPECT_EQ(ClaimPart().job.id, urgent.id);
}

TEST_P(JobStoreConformance, PartsOfOneJobAloneCanBeAskedFor) {
  RunWithParts(1, /*priority=*/5);
  const JobClaim run = RunWithParts(1);
  EXPECT_EQ(ClaimPart(run.id).job.id, run.id);
  EXPECT_FALSE(store().ClaimPart(run.id, "helper", kLease)->has_value());
}

TEST_P(JobStoreConformance, PartsOpenedTwiceAreOne) {
  const JobClaim run = RunWithParts(1);
  EXPECT_TRUE(store().OpenPart(run, 0, {"another"}).ok());
  EXPECT_THAT(ClaimPart().states, ElementsAre("state 0"));
  EXPECT_TRUE(NoPartIsOpen());
  EXPECT_EQ(CodeOf(store().OpenPart(run, -1, {})), kInvalidArgument);
}

TEST_P(JobStoreConformance, PartsStoreResultsAndEventsOfTheirJob) {
  const JobClaim run = RunWithParts(2);
  const JobClaim first = ClaimPart().claim, second = ClaimPart().claim;
  EXPECT_TRUE(store().FinishMethod(second, 0, "of 1", {"a tensor"}).ok());
  EXPECT_TRUE(store().FinishMethod(first, 0, "of 0", {}).ok());
  EXPECT_TRUE(store().FinishMethod(second, 1, "of 1 too", {}).ok());
  EXPECT_TRUE(store().AppendEvents(first, {{ProgressEvent("p")}}).ok());
  EXPECT_EQ(CodeOf(store().FinishMethod(second, 1, "again", {})), kFailedPrecondition);
  EXPECT_THAT(Get(run.id).results, ElementsAre("of 1", "of 0", "of 1 too"));
  EXPECT_EQ(Events(run.id).back().payload, "p");
  const auto parts = *store().ReadParts(run.id);
  EXPECT_EQ(parts[0].results, 1);
  EXPECT_EQ(parts[1].results, 2);
  EXPECT_THAT(*store().ReferencedDigests(), IsSupersetOf({"a tensor", "state 0", "state 1"}));
}

TEST_P(JobStoreConformance, PartsDropTheirStatesOnceTheyAreDone) {
  const JobClaim run = RunWithParts(1);
  const JobClaim part = ClaimPart().claim;
  ASSERT_TRUE(store().FinishPart(part).ok());
  EXPECT_TRUE((*store().ReadParts(run.id))[0].done);
  EXPECT_THAT(*store().ReferencedDigests(), Not(Contains("state 0")));
  EXPECT_EQ(CodeOf(store().FinishPart(part)), kAborted);
  EXPECT_EQ(CodeOf(store().FinishPart(run)), kInvalidArgument);
  EXPECT_TRUE(NoPartIsOpen());
}

TEST_P(JobStoreConformance, PartsAreOpenAgainWhenTheLeaseIsOver) {
  RunWithParts(1);
  const JobClaim lost = ClaimPart().claim;
  clock().Advance(kLease / 2);
  EXPECT_TRUE(store().RenewLease(lost, kLease).ok());
  clock().Advance(kLease / 2);
  EXPECT_TRUE(NoPartIsOpen());
  clock().Advance(kLease / 2);
  EXPECT_EQ(ClaimPart().claim.part, 0);
  EXPECT_EQ(CodeOf(store().FinishMethod(lost, 0, "late", {})), kAborted);
  EXPECT_EQ(CodeOf(store().RenewLease(lost, kLease)), kAborted);
}

TEST_P(JobStoreConformance, PartsAreOpenAgainWhenGivenBack) {
  RunWithParts(1);
  const JobClaim part = ClaimPart().claim;
  ASSERT_TRUE(store().FinishMethod(part, 0, "one", {}).ok());
  ASSERT_TRUE(store().Requeue(part, RequeueCause::kDraining, "draining").ok());
  EXPECT_EQ(ClaimPart().results, 1);
  EXPECT_EQ(CodeOf(store().AppendEvents(part, {{ProgressEvent("late")}})), kAborted);
}

TEST_P(JobStoreConformance, PartsStayAsTheyAreWhenTheirJobIsQueuedAgainAndNoClaimOnThemHolds) {
  const JobClaim run = RunWithParts(2);
  const JobClaim done = ClaimPart().claim, open = ClaimPart().claim;
  ASSERT_TRUE(store().FinishPart(done).ok());
  ASSERT_TRUE(store().Requeue(run, RequeueCause::kWorkerLost, "").ok());
  EXPECT_EQ(CodeOf(store().AppendEvents(open, {{ProgressEvent("late")}})), kAborted);
  EXPECT_TRUE(NoPartIsOpen()) << "of a job that does not run";
  Claim();
  EXPECT_EQ(ClaimPart().claim.part, 1);
  EXPECT_TRUE(NoPartIsOpen());
}

TEST_P(JobStoreConformance, PartsOutliveTheServer) {
  RunWithParts(1);
  ASSERT_TRUE(store().FinishMethod(ClaimPart().claim, 0, "one", {}).ok());
  Reopen();
  Claim();
  const ClaimedPart part = ClaimPart();
  EXPECT_EQ(part.results, 1);
  EXPECT_THAT(part.states, ElementsAre("state 0"));
}

TEST_P(JobStoreConformance, PartsCannotBeClaimedOfAJobThatIsToBeCancelled) {
  const JobClaim run = RunWithParts(1);
  ASSERT_TRUE(store().RequestCancel(run.id).ok());
  EXPECT_TRUE(NoPartIsOpen());
}

TEST_P(JobStoreConformance, PartsEndTheirJobOnlyAsFailed) {
  const JobClaim run = RunWithParts(2);
  const JobClaim part = ClaimPart().claim, other = ClaimPart().claim;
  EXPECT_EQ(CodeOf(store().Finish(part, JobState::kSucceeded, {}, "")), kFailedPrecondition);
  EXPECT_EQ(CodeOf(store().Finish(part, JobState::kCancelled, {}, "")), kFailedPrecondition);
  ASSERT_TRUE(store().Finish(part, JobState::kFailed, {kInternal, "singular"}, "").ok());
  EXPECT_EQ(Get(run.id).failure.message, "singular");
  EXPECT_EQ(CodeOf(store().FinishMethod(other, 0, "late", {})), kAborted);
}

TEST_P(JobStoreConformance, PartsAreThereForAResumedJobAndGoWithOneThatSucceeds) {
  const JobClaim run = RunWithParts(1);
  ASSERT_TRUE(store().Finish(run, JobState::kFailed, {kInternal, ""}, "").ok());
  ASSERT_TRUE(store().Resume(run.id).ok());
  const JobClaim again = Claim();
  EXPECT_EQ((*store().ReadParts(run.id)).size(), 1u);
  ASSERT_TRUE(store().Finish(again, JobState::kSucceeded, {}, "").ok());
  EXPECT_THAT(*store().ReadParts(run.id), IsEmpty());
  EXPECT_THAT(*store().ReferencedDigests(), IsEmpty());
}

TEST_P(JobStoreConformance, PartsKeepNoCheckpoint) {
  RunWithParts(1);
  EXPECT_EQ(CodeOf(store().SaveCheckpoint(ClaimPart().claim, "bytes")), kFailedPrecondition);
}

}  // namespace
}  // namespace attnprune::testing
