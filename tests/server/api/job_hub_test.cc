#include "server/api/job_hub.h"

#include <algorithm>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/api/backend.h"
#include "tests/support/value_or_die.h"

namespace attnprune::api {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::ValueOrDie;

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
class JobHubTest : public ::testing::Test {
 protected:
  std::shared_ptr<JobWatch> Join() {
    return hub().Watch(claim_.id, Pace::kCrowd, [] {});
  }
  std::vector<std::shared_ptr<JobWatch>> JoinMany(int watches) {
    std::vector<std::shared_ptr<JobWatch>> crowd;
    for (int i = 0; i < watches; ++i) crowd.push_back(Join());
    return crowd;
  }
  void Append(const std::vector<NewEvent>& events) { backend_.Append(claim_, events); }
  void Succeed() { ASSERT_TRUE(backend_.jobs().Finish(claim_, JobState::kSucceeded, {}, "").ok()); }
  static SharedBatch Read(const JobWatch& watch, int64_t after) {
    return ValueOrDie(watch.Read(after, Detail::kThinned));
  }
  // All that follows `place`, if there are no news of events after `newest`.
  static std::vector<SharedBatch> ReadOn(const JobWatch& watch, LogPlace& place,
                                         int64_t newest = 0) {
    std::vector<SharedBatch> batches;
    while (!place.ended() && place.MayHaveMore(newest)) {
      batches.push_back(ValueOrDie(watch.Read(place.after(), place.detail())));
      place.Advance(*batches.back());
    }
    return batches;
  }
  static std::vector<int> StepsOf(const std::vector<SharedBatch>& batches) {
    std::vector<int> steps;
    for (const SharedBatch& batch : batches) {
      for (const int step : api::StepsOf(batch)) steps.push_back(step);
    }
    return steps;
  }
  JobHub& hub() { return backend_.hub(); }

  Backend backend_;
  const std::string name_ = backend_.Create(backend_.GoodJob()).name();
  const JobClaim claim_ = backend_.Claim();
};

TEST_F(JobHubTest, GivesAllAtTheSamePlaceTheSameMessages) {
  const auto feed = Join(), other = Join();
  Append(Steps(1, 3));
  const SharedBatch batch = Read(*feed, 2);
  EXPECT_THAT(api::StepsOf(batch), ElementsAre(1, 2, 3));
  EXPECT_EQ(Read(*other, 2), batch) << "not read again";
  EXPECT_EQ(batch->last, 5);
}

TEST_F(JobHubTest, NeverKeepsThatThereWasNothing) {
  const auto feed = Join();
  EXPECT_EQ(Read(*feed, 2)->last, 2);
  Append(Steps(1, 1));
  EXPECT_THAT(api::StepsOf(Read(*feed, 2)), ElementsAre(1));
}

TEST_F(JobHubTest, LeavesOutMostOfTheProgressThatHasPiledUp) {
  const auto feed = Join();
  Append(Steps(1, 16));
  EXPECT_EQ(api::StepsOf(Read(*feed, 2)).size(), 16u);
  Append({Step(17), Step(18, true), Step(19, false, "joint"), {EventKind::kWarning, "mind"}});
  Append(Steps(20, 200));
  const SharedBatch batch = Read(*feed, 18);
  EXPECT_THAT(api::StepsOf(batch), ElementsAre(18, 19, 219)) << "newest and evaluated, by method";
  EXPECT_EQ(batch->events.size(), 4u) << "and the warning";
  EXPECT_EQ(batch->last, 222);
}

TEST_F(JobHubTest, SendsACrowdFewerStepsEach) {
  EXPECT_EQ(JobHub::MaxProgress(0), 16);
  EXPECT_EQ(JobHub::MaxProgress(16), 16);
  EXPECT_EQ(JobHub::MaxProgress(32), 8);
  EXPECT_EQ(JobHub::MaxProgress(200), 1);
  EXPECT_EQ(JobHub::MaxProgress(1'000'000), 1);

  const auto feed = Join();
  Append(Steps(1, 9));
  EXPECT_EQ(api::StepsOf(Read(*feed, 2)).size(), 9u);
  const auto crowd = JoinMany(32);
  EXPECT_THAT(api::StepsOf(Read(*feed, 3)), ElementsAre(9));
}

TEST_F(JobHubTest, ServesAWatcherFarBehindFromTheStore) {
  const auto feed = Join();
  for (int round = 0; round < 10; ++round) {
    Append({{EventKind::kWarning, std::to_string(round)}});
    Read(*feed, 2 + round);
  }
  const SharedBatch batch = Read(*feed, 2);
  EXPECT_EQ(batch->events.size(), 10u);
}

TEST_F(JobHubTest, LosesNothingForAWatcherThatBeginsWhereAnOldBatchStands) {
  Append(Steps(1, 1));
  const auto feed = Join();
  Read(*feed, 2);                                                         // up to 3
  LogPlace place = ValueOrDie(hub().Open(access::Everyone(), name_, 2));  // replays up to 3
  Read(*feed, 3);
  Append(Steps(2, 1));
  Read(*feed, 3);       // kept: 3 to 4
  Append(Steps(3, 1));  // told before the watcher had joined
  const auto watch = Join();
  EXPECT_THAT(StepsOf(ReadOn(*watch, place)), ElementsAre(1, 2, 3));
  EXPECT_FALSE(place.MayHaveMore(5));
  EXPECT_TRUE(place.MayHaveMore(6)) << "news of a newer event";
}

TEST_F(JobHubTest, ReplaysEveryStepHoweverManyWatch) {
  Append(Steps(1, 500));
  const auto crowd = JoinMany(500);
  LogPlace place = ValueOrDie(hub().Open(access::Everyone(), name_, 0));
  std::vector<int> expected;
  for (int step = 1; step <= 500; ++step) expected.push_back(step);
  EXPECT_THAT(StepsOf(ReadOn(*crowd.front(), place)), ElementsAreArray(expected));
}

TEST_F(JobHubTest, CountsTheWatchesOfEachJob) {
  EXPECT_EQ(hub().CountWatches(claim_.id), 0U);
  auto one = Join();
  const auto another = Join();
  EXPECT_EQ(hub().CountWatches(claim_.id), 2U);
  const std::shared_ptr<JobWatch> same = one;
  EXPECT_EQ(hub().CountWatches(claim_.id), 2U) << "however many hold one";
  one.reset();
  EXPECT_EQ(hub().CountWatches(claim_.id), 2U);
  EXPECT_EQ(hub().CountWatches("another"), 0U);
}

TEST_F(JobHubTest, WakesAWatcherWhenAnotherServerHasWritten) {
  int wakes = 0;
  const auto watch = hub().Watch(claim_.id, Pace::kCrowd, [&wakes] { ++wakes; });
  const auto change = [&](int64_t newest) {
    hub().OnRemoteChange(
        {.job_id = claim_.id, .state = JobState::kRunning, .newest_sequence = newest});
  };
  change(5);
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(watch->TakeNews(), 5);
  change(5);
  change(4);  // late
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(watch->TakeNews(), 5);
  Append({Step(1)});  // event 3, told late
  EXPECT_EQ(watch->TakeNews(), 5);
  change(6);
  EXPECT_EQ(watch->TakeNews(), 6);
}

TEST_F(JobHubTest, WakesACrowdAtOnceWhenAJobHasEndedElsewhere) {
  int wakes = 0;
  const auto crowd = JoinMany(2 * JobHub::kNoCrowd);
  const auto watch = hub().Watch(claim_.id, Pace::kCrowd, [&wakes] { ++wakes; });
  const auto change = [&](JobState state, int64_t newest) {
    hub().OnRemoteChange({.job_id = claim_.id, .state = state, .newest_sequence = newest});
  };
  change(JobState::kRunning, 3);
  watch->TakeNews();
  change(JobState::kRunning, 4);  // in the same moment
  EXPECT_EQ(wakes, 1);
  change(JobState::kSucceeded, 5);
  EXPECT_EQ(wakes, 2);
}

TEST_F(JobHubTest, OpensAPlaceThatTheLogHas) {
  const auto code = [&](const std::string& name, int64_t after) {
    return hub().Open(access::Everyone(), name, after).status().code();
  };
  EXPECT_EQ(code(name_, 0), absl::StatusCode::kOk);
  EXPECT_EQ(code(name_, 2), absl::StatusCode::kOk);
  EXPECT_EQ(code(name_, 3), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(name_, -1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("jobs/nobody", 0), absl::StatusCode::kNotFound);
  EXPECT_EQ(code("nobody", 0), absl::StatusCode::kInvalidArgument);
  Append(std::vector<NewEvent>(5, {EventKind::kWarning, "w"}));  // 3 to 7
  ASSERT_TRUE(backend_.jobs().CompactEvents(claim_.id, {.others = 2}).ok());
  EXPECT_EQ(code(name_, 4), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(code(name_, 5), absl::StatusCode::kOk);
}

TEST_F(JobHubTest, OpensAtTheEndOfAJobThatHasEnded) {
  Succeed();  // 3
  EXPECT_TRUE(ValueOrDie(hub().Open(access::Everyone(), name_, 3)).ended());
  LogPlace place = ValueOrDie(hub().Open(access::Everyone(), name_, 2));
  EXPECT_FALSE(place.ended());
  ReadOn(*Join(), place);
  EXPECT_TRUE(place.ended());
  EXPECT_TRUE(place.replayed());
}

// Watchers on threads of their own follow a job that goes on; each is woken for what it has not
// read, and comes to the end with every warning seen.
TEST_F(JobHubTest, BringsEveryWatcherToTheEndWhileTheJobGoesOn) {
  constexpr int kWatchers = 25, kWarnings = 50;
  std::vector<std::jthread> watchers;
  std::vector<int> warnings(kWatchers, 0);
  for (int& seen : warnings) {
    watchers.emplace_back([this, &seen] {
      std::counting_semaphore<> woken(0);
      LogPlace place = ValueOrDie(hub().Open(access::Everyone(), name_, 0));
      const auto watch = hub().Watch(claim_.id, Pace::kCrowd, [&woken] { woken.release(); });
      for (int64_t newest = watch->newest(); !place.ended(); newest = watch->TakeNews()) {
        for (const SharedBatch& batch : ReadOn(*watch, place, newest)) {
          seen += static_cast<int>(std::count_if(
              batch->events.begin(), batch->events.end(),
              [](const auto& event) { return event->event_case() == v1::JobEvent::kWarning; }));
        }
        if (!place.ended()) woken.acquire();
      }
    });
  }
  for (int i = 0; i < kWarnings; ++i) {
    Append(Steps(10 * i, 10));
    Append({{EventKind::kWarning, "mind"}});
  }
  Succeed();
  watchers.clear();  // joins
  EXPECT_THAT(warnings, Each(kWarnings));
  EXPECT_EQ(hub().CountWatches(claim_.id), 0U);
}

}  // namespace
}  // namespace attnprune::api
