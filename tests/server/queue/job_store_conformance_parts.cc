// Parts of running jobs: one job done by several workers.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/server/queue/job_store_conformance.h"

namespace attnprune::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
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

TEST_P(JobStoreConformance, PartsOfItsOwnJobAreClaimedByItsWorkerWithoutALease) {
  RunWithParts(1, /*priority=*/5);
  const JobClaim run = RunWithParts(2);
  const auto part = store().ClaimOwnPart(run);
  ASSERT_TRUE(part.ok() && part->has_value());
  EXPECT_EQ((*part)->job.id, run.id);
  EXPECT_EQ((*part)->claim.part, 0);
  clock().Advance(2 * kLease);
  ClaimPart();
  EXPECT_EQ(ClaimPart().claim.part, 1) << "the worker still has part 0";
  EXPECT_TRUE(NoPartIsOpen());
  const auto again = store().ClaimOwnPart(run);
  ASSERT_TRUE(again.ok() && again->has_value());
  EXPECT_EQ((*again)->claim.part, 0) << "after an answer that was lost";
  EXPECT_EQ(CodeOf(store().FinishPart((*part)->claim)), kAborted);
}

TEST_P(JobStoreConformance, PartsAreNotForTheWorkerThatHadTheJobBefore) {
  const JobClaim before = RunWithParts(1);
  ASSERT_TRUE(store().Requeue(before, RequeueCause::kWorkerLost, "").ok());
  Claim();
  EXPECT_EQ(CodeOf(store().ClaimOwnPart(before)), kAborted);
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
  EXPECT_TRUE(store().FinishPart(part).ok()) << "once more";
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

TEST_P(JobStoreConformance, PartsCannotEndTheirJob) {
  RunWithParts(1);
  const JobClaim part = ClaimPart().claim;
  for (const JobState state : {JobState::kSucceeded, JobState::kFailed, JobState::kCancelled}) {
    EXPECT_EQ(CodeOf(store().Finish(part, state, {}, "")), kFailedPrecondition);
  }
}

TEST_P(JobStoreConformance, PartsLeaveTheirJobsCheckpointAlone) {
  const JobClaim run = RunWithParts(1);
  ASSERT_TRUE(store().SaveCheckpoint(run, "bytes").ok());
  const JobClaim part = ClaimPart().claim;
  ASSERT_TRUE(store().SaveCheckpoint(part, "of the part").ok());
  ASSERT_TRUE(store().FinishMethod(part, 0, "one", {}).ok());
  EXPECT_EQ(**store().ReadCheckpoint(run), "bytes");
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

// --- Checkpoints of parts ---

TEST_P(JobStoreConformance, PartsHaveACheckpointEachForTheNextClaim) {
  const JobClaim run = RunWithParts(2);
  const JobClaim first = ClaimPart().claim, second = ClaimPart().claim;
  EXPECT_FALSE(store().ReadCheckpoint(first)->has_value());
  ASSERT_TRUE(store().SaveCheckpoint(first, "old").ok());
  ASSERT_TRUE(store().SaveCheckpoint(second, "of 1").ok());
  const std::string large(3 << 20, '\x5a');
  ASSERT_TRUE(store().SaveCheckpoint(first, large).ok());
  EXPECT_FALSE(store().ReadCheckpoint(run)->has_value());
  ASSERT_TRUE(store().Requeue(first, RequeueCause::kDraining, "").ok());
  const JobClaim again = ClaimPart().claim;
  EXPECT_EQ(**store().ReadCheckpoint(again), large);
  EXPECT_EQ(**store().ReadCheckpoint(second), "of 1");
  ASSERT_TRUE(store().SaveCheckpoint(again, "").ok());
  EXPECT_EQ(**store().ReadCheckpoint(again), "") << "an empty one is one";
}

TEST_P(JobStoreConformance, PartsLoseNoCheckpointToAWorkerWhoseClaimHasLapsed) {
  RunWithParts(1);
  const JobClaim lost = ClaimPart().claim;
  ASSERT_TRUE(store().SaveCheckpoint(lost, "bytes").ok());
  clock().Advance(2 * kLease);
  const JobClaim part = ClaimPart().claim;
  EXPECT_EQ(CodeOf(store().SaveCheckpoint(lost, "late")), kAborted);
  EXPECT_EQ(CodeOf(store().ReadCheckpoint(lost)), kAborted);
  EXPECT_EQ(**store().ReadCheckpoint(part), "bytes");
}

TEST_P(JobStoreConformance, PartsDropTheirCheckpointWithAResultAndWhenTheyAreDone) {
  const JobClaim run = RunWithParts(2);
  const JobClaim first = ClaimPart().claim, second = ClaimPart().claim;
  for (const JobClaim& part : {first, second}) {
    ASSERT_TRUE(store().SaveCheckpoint(part, "bytes").ok());
  }
  ASSERT_TRUE(store().FinishMethod(first, 0, "result", {}).ok());
  EXPECT_FALSE(store().ReadCheckpoint(first)->has_value());
  EXPECT_EQ(**store().ReadCheckpoint(second), "bytes");
  ASSERT_TRUE(store().FinishPart(second).ok());
  EXPECT_EQ(CodeOf(store().ReadCheckpoint(second)), kAborted);
  ASSERT_TRUE(store().Requeue(run, RequeueCause::kDraining, "").ok());
  Claim();
  EXPECT_FALSE(store().ReadCheckpoint(ClaimPart().claim)->has_value());
}

TEST_P(JobStoreConformance, PartsKeepTheirCheckpointsWhenTheWorkerOrTheServerIsLost) {
  const JobClaim run = RunWithParts(1);
  ASSERT_TRUE(store().SaveCheckpoint(ClaimPart().claim, "bytes").ok());
  ASSERT_TRUE(store().Requeue(run, RequeueCause::kWorkerLost, "").ok());
  const JobClaim second = Claim();
  const JobClaim own = (*store().ClaimOwnPart(second))->claim;
  EXPECT_EQ(**store().ReadCheckpoint(own), "bytes");
  ASSERT_TRUE(store().SaveCheckpoint(own, "more").ok());
  EXPECT_EQ(Get(run.id).losses, 0) << "it has got further";
  Reopen();
  EXPECT_THAT(Events(run.id).back().payload, HasSubstr("goes on from its checkpoint"));
  Claim();
  EXPECT_EQ(**store().ReadCheckpoint(ClaimPart().claim), "more");
}

TEST_P(JobStoreConformance, PartsDropTheirCheckpointsWhenTheirJobEnds) {
  const JobClaim run = RunWithParts(2);
  for (int part = 0; part < 2; ++part) {
    ASSERT_TRUE(store().SaveCheckpoint(ClaimPart().claim, "bytes").ok());
  }
  ASSERT_TRUE(store().Requeue(run, RequeueCause::kDraining, "").ok());
  ASSERT_TRUE(store().RequestCancel(run.id).ok());
  ASSERT_TRUE(store().Resume(run.id).ok());
  Claim();
  for (int part = 0; part < 2; ++part) {
    EXPECT_FALSE(store().ReadCheckpoint(ClaimPart().claim)->has_value());
  }
}

}  // namespace
}  // namespace attnprune::testing
