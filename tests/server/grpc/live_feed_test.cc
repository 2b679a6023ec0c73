#include "server/api/live_feed.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/api/watch_cursor.h"
#include "tests/server/grpc/service_fixture.h"

namespace attnprune::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

NewEvent Step(int step, bool evaluated = false, const std::string& method = "gd") {
  v1::Progress progress;
  progress.set_method(method);
  progress.set_step(step);
  if (evaluated) progress.set_calibration_error(0.25);
  return {EventKind::kProgress, progress.SerializeAsString()};
}

std::vector<NewEvent> Steps(int first, int count) {
  std::vector<NewEvent> events;
  for (int step = first; step < first + count; ++step) events.push_back(Step(step));
  return events;
}

std::vector<int> StepsOf(const SharedBatch& batch) {
  std::vector<int> steps;
  for (const auto& event : batch->events) {
    if (event->has_progress()) steps.push_back(event->progress().step());
  }
  return steps;
}

// A running job, whose log begins with QUEUED (1) and RUNNING (2).
class LiveFeedTest : public ::testing::Test {
 protected:
  void Append(const std::vector<NewEvent>& events) {
    ASSERT_TRUE(service_.jobs().AppendEvents(claim_, events).ok());
  }
  static SharedBatch Read(LiveFeed& feed, int64_t after) {
    absl::StatusOr<SharedBatch> batch = feed.ReadAfter(after);
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *std::move(batch);
  }

  Service service_;
  const std::string name_ = service_.Create(service_.GoodJob()).name();
  const JobClaim claim_ = service_.Claim();
  LiveFeeds feeds_{&service_.jobs()};
};

TEST_F(LiveFeedTest, GivesAllWhoStandAtTheSamePlaceTheSameMessages) {
  const auto feed = feeds_.Join(claim_.id), other = feeds_.Join(claim_.id);
  EXPECT_EQ(feed, other);
  Append(Steps(1, 3));
  const SharedBatch batch = Read(*feed, 2);
  EXPECT_THAT(StepsOf(batch), ElementsAre(1, 2, 3));
  EXPECT_EQ(Read(*other, 2), batch) << "not read again";
  EXPECT_EQ(batch->last, 5);
}

TEST_F(LiveFeedTest, NeverKeepsThatThereWasNothing) {
  const auto feed = feeds_.Join(claim_.id);
  EXPECT_EQ(Read(*feed, 2)->last, 2);
  Append(Steps(1, 1));
  EXPECT_THAT(StepsOf(Read(*feed, 2)), ElementsAre(1));
}

TEST_F(LiveFeedTest, LeavesOutMostOfTheProgressThatHasPiledUp) {
  const auto feed = feeds_.Join(claim_.id);
  Append(Steps(1, 16));
  EXPECT_EQ(StepsOf(Read(*feed, 2)).size(), 16u);
  Append({Step(17), Step(18, true), Step(19, false, "joint"), {EventKind::kWarning, "mind"}});
  Append(Steps(20, 200));
  const SharedBatch batch = Read(*feed, 18);
  EXPECT_THAT(StepsOf(batch), ElementsAre(18, 19, 219)) << "newest and evaluated, by method";
  EXPECT_EQ(batch->events.size(), 4u) << "and the warning";
  EXPECT_EQ(batch->last, 222);
}

TEST_F(LiveFeedTest, SendsACrowdFewerStepsEach) {
  EXPECT_EQ(LiveFeed::MaxProgress(0), 16);
  EXPECT_EQ(LiveFeed::MaxProgress(16), 16);
  EXPECT_EQ(LiveFeed::MaxProgress(32), 8);
  EXPECT_EQ(LiveFeed::MaxProgress(200), 1);
  EXPECT_EQ(LiveFeed::MaxProgress(1'000'000), 1);

  const auto feed = feeds_.Join(claim_.id);
  Append(Steps(1, 9));
  EXPECT_EQ(StepsOf(Read(*feed, 2)).size(), 9u);
  const std::vector<std::shared_ptr<LiveFeed>> crowd(32, feed);
  EXPECT_THAT(StepsOf(Read(*feed, 3)), ElementsAre(9));
}

TEST_F(LiveFeedTest, ServesAWatcherWhoHasFallenFarBehindFromTheStore) {
  const auto feed = feeds_.Join(claim_.id);
  for (int round = 0; round < 10; ++round) {
    Append({{EventKind::kWarning, std::to_string(round)}});
    Read(*feed, 2 + round);
  }
  const SharedBatch batch = Read(*feed, 2);
  EXPECT_EQ(batch->events.size(), 10u);
}

TEST_F(LiveFeedTest, LosesNothingForACursorThatBeginsWhereAnOldBatchStands) {
  Append(Steps(1, 1));
  const auto feed = feeds_.Join(claim_.id);
  Read(*feed, 2);  // up to 3
  absl::StatusOr<WatchCursor> cursor =
      WatchCursor::Open(&service_.jobs(), &feeds_, name_, 2);  // replays up to 3
  ASSERT_TRUE(cursor.ok());
  Read(*feed, 3);
  Append(Steps(2, 1));
  Read(*feed, 3);       // kept: 3 to 4
  Append(Steps(3, 1));  // told before the cursor's watcher had subscribed
  std::vector<int> steps;
  while (cursor->MayHaveMore(0)) {
    const absl::StatusOr<SharedBatch> batch = cursor->Next();
    ASSERT_TRUE(batch.ok());
    for (const int step : StepsOf(*batch)) steps.push_back(step);
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 3));
  EXPECT_FALSE(cursor->MayHaveMore(5));
  EXPECT_TRUE(cursor->MayHaveMore(6)) << "news of a newer event";
}

TEST_F(LiveFeedTest, ReplaysEveryStepToACursorHoweverManyWatch) {
  Append(Steps(1, 500));
  const auto feed = feeds_.Join(claim_.id);
  const std::vector<std::shared_ptr<LiveFeed>> crowd(500, feed);
  absl::StatusOr<WatchCursor> cursor = WatchCursor::Open(&service_.jobs(), &feeds_, name_, 0);
  ASSERT_TRUE(cursor.ok());
  std::vector<int> steps, expected;
  for (int step = 1; step <= 500; ++step) expected.push_back(step);
  while (cursor->MayHaveMore(0)) {
    for (const int step : StepsOf(*cursor->Next())) steps.push_back(step);
  }
  EXPECT_THAT(steps, ElementsAreArray(expected));
}

}  // namespace
}  // namespace attnprune::rpc
