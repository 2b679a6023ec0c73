// What upkeep asks for: jobs that ended long ago.
#include <gmock/gmock.h>

#include "tests/server/queue/job_store_conformance.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using enum absl::StatusCode;

constexpr absl::Duration kKeep = absl::Hours(24 * 30);

std::string CancelledJob(JobStore& store, const NewJob& job = {}) {
  std::string id = store.Create(job)->job.id;
  EXPECT_TRUE(store.RequestCancel(id).ok());
  return id;
}

TEST_P(JobStoreConformance, DeletesWhatEndedLongerAgoThanItIsKept) {
  const std::string old = CancelledJob(store());
  clock().Advance(kKeep);
  const std::string recent = CancelledJob(store());
  EXPECT_THAT(*store().DeleteEnded(kKeep, 10), IsEmpty()) << "just as long";
  clock().Advance(absl::Nanoseconds(1));
  EXPECT_THAT(*store().DeleteEnded(kKeep, 10), ElementsAre(old));
  EXPECT_EQ(CodeOf(store().Get(old)), kNotFound);
  EXPECT_EQ(Get(recent).state, JobState::kCancelled);
  EXPECT_THAT(*store().DeleteEnded(kKeep, 10), IsEmpty());
}

TEST_P(JobStoreConformance, NeverDeletesWhatHasNotEnded) {
  const std::string running = CreateJob();
  Claim();
  const std::string queued = CreateJob();
  clock().Advance(100 * kKeep);
  EXPECT_THAT(*store().DeleteEnded(kKeep, 10), IsEmpty());
  EXPECT_EQ(Get(running).state, JobState::kRunning);
  EXPECT_EQ(Get(queued).state, JobState::kQueued);
}

TEST_P(JobStoreConformance, KeepsARunThatWasResumed) {
  const std::string id = CancelledJob(store(), {.kind = JobKind::kRun});
  clock().Advance(2 * kKeep);
  ASSERT_TRUE(store().Resume(id).ok());
  EXPECT_THAT(*store().DeleteEnded(kKeep, 10), IsEmpty());
  ASSERT_TRUE(store().RequestCancel(id).ok());
  EXPECT_THAT(*store().DeleteEnded(kKeep, 10), IsEmpty()) << "it has just ended again";
}

TEST_P(JobStoreConformance, DeletesOldJobsSomeAtATimeWithAllThatIsTheirs) {
  NewJob job = WithRequest("r", "digest");
  job.tensor_digests = {"tensor"};
  const std::string first = CancelledJob(store(), job);
  const std::string second = CancelledJob(store()), third = CancelledJob(store());
  clock().Advance(2 * kKeep);
  EXPECT_THAT(*store().DeleteEnded(kKeep, 2), ElementsAre(first, second));
  EXPECT_THAT(*store().ReferencedDigests(), IsEmpty());
  EXPECT_NE(CreateJob(WithRequest("r", "other")), first) << "its request_id is free";
  Reopen();
  EXPECT_THAT(*store().DeleteEnded(kKeep, 2), ElementsAre(third));
  EXPECT_EQ(CodeOf(store().DeleteEnded(kKeep, 0)), kInvalidArgument);
}

}  // namespace
}  // namespace attnprune::testing
