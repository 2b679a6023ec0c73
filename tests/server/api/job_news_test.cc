// When JobHub wakes watchers: no store, and a clock that the test sets.

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/api/job_hub.h"

namespace attnprune::api {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SetClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
};

class JobNewsTest : public ::testing::Test {
 protected:
  // As many watchers of the job; what the first one is told is noted in `told_`.
  void Subscribe(int watchers, Pace pace = Pace::kCrowd) {
    for (int i = 0; i < watchers; ++i) {
      watches_.push_back(hub_.Watch("job", pace, [this, i] { woken_ = woken_ || i == 0; }));
    }
  }
  void Write(EventKind kind, const std::string& job = "job") {
    StoredEvent event;
    event.sequence = ++sequence_;
    event.kind = kind;
    hub_.OnEvents(job, {event});
    if (watches_.empty() || watches_[0]->newest() != sequence_) return;
    told_.push_back(std::to_string(sequence_) + (woken_ ? " now" : " later"));
    if (woken_) watches_[0]->TakeNews();
    woken_ = false;
  }
  void Wait(absl::Duration time) { clock_.now += time; }

  SetClock clock_;
  JobHub hub_{nullptr, &clock_};
  bool woken_ = false;
  std::vector<std::string> told_;
  std::vector<std::shared_ptr<JobWatch>> watches_;
  int64_t sequence_ = 0;
};

TEST_F(JobNewsTest, AreToldToTheJobsWatchersOnly) {
  Subscribe(1);
  Write(EventKind::kProgress, "another");
  EXPECT_THAT(told_, IsEmpty());
  Write(EventKind::kProgress);
  watches_.clear();
  Write(EventKind::kProgress);
  EXPECT_THAT(told_, ElementsAre("2 now"));
}

TEST_F(JobNewsTest, WakeAFewWatchersAtEveryWrite) {
  Subscribe(JobHub::kNoCrowd);
  for (int i = 0; i < 3; ++i) Write(EventKind::kProgress);
  EXPECT_THAT(told_, ElementsAre("1 now", "2 now", "3 now"));
}

TEST_F(JobNewsTest, WakeACrowdForProgressNoMoreThanSoManyTimesASecond) {
  Subscribe(2 * JobHub::kWakesPerSecond);  // every two seconds
  Write(EventKind::kProgress);
  Wait(absl::Milliseconds(1999));
  Write(EventKind::kProgress);
  Wait(absl::Milliseconds(1));
  Write(EventKind::kProgress);
  Write(EventKind::kProgress);
  EXPECT_THAT(told_, ElementsAre("1 now", "2 later", "3 now", "4 later"));
}

TEST_F(JobNewsTest, WakeACrowdAtOnceForAllThatIsNotProgress) {
  Subscribe(1000);
  Write(EventKind::kProgress);
  for (const EventKind kind : {EventKind::kWarning, EventKind::kMethodResult,
                               EventKind::kStateChange, EventKind::kTerminal}) {
    Write(kind);
  }
  EXPECT_THAT(told_, ElementsAre("1 now", "2 now", "3 now", "4 now", "5 now"));
}

TEST_F(JobNewsTest, WakeACrowdThoughTheClockWasSetBack) {
  Subscribe(1000);
  Write(EventKind::kProgress);
  Wait(-absl::Hours(1));
  Write(EventKind::kProgress);
  EXPECT_THAT(told_, ElementsAre("1 now", "2 now"));
}

TEST_F(JobNewsTest, WakeAWatcherWithAPaceOfItsOwnAtEveryWriteThoughThereIsACrowd) {
  Subscribe(1, Pace::kEveryWrite);
  Subscribe(1000);
  for (int i = 0; i < 3; ++i) Write(EventKind::kProgress);
  EXPECT_THAT(told_, ElementsAre("1 now", "2 now", "3 now"));
}

TEST_F(JobNewsTest, AreOneWakeUntilTheWatcherTakesThem) {
  int wakes = 0;
  const auto watch = hub_.Watch("job", Pace::kCrowd, [&] { ++wakes; });
  for (int i = 0; i < 3; ++i) Write(EventKind::kProgress);
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(watch->TakeNews(), 3);
  Write(EventKind::kProgress);
  EXPECT_EQ(wakes, 2);
}

TEST(TurnInterval, GrowsWithTheWatchers) {
  EXPECT_EQ(TurnInterval(1, 2000), absl::Microseconds(500));
  EXPECT_EQ(TurnInterval(500, 2000), absl::Milliseconds(250));
}

}  // namespace
}  // namespace attnprune::api
