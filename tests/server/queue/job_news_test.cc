#include "server/queue/job_news.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune {
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
  // As many watchers of the job; all note in `told` what the first one is told.
  void Subscribe(int watchers) {
    for (int i = 0; i < watchers; ++i) {
      handles_.push_back(news_.Subscribe("job", [this, i](int64_t last, bool at_once) {
        if (i == 0) told_.push_back(std::to_string(last) + (at_once ? " now" : " later"));
      }));
    }
  }
  void Write(EventKind kind, const std::string& job = "job") {
    StoredEvent event;
    event.sequence = ++sequence_;
    event.kind = kind;
    news_.OnEvents(job, {event});
  }
  void Wait(absl::Duration time) { clock_.now += time; }

  SetClock clock_;
  JobNews news_{&clock_};
  std::vector<std::string> told_;
  std::vector<std::shared_ptr<void>> handles_;
  int64_t sequence_ = 0;
};

TEST_F(JobNewsTest, AreToldToTheJobsWatchersOnly) {
  Subscribe(1);
  Write(EventKind::kProgress, "another");
  EXPECT_THAT(told_, IsEmpty());
  Write(EventKind::kProgress);
  handles_.clear();
  Write(EventKind::kProgress);
  EXPECT_THAT(told_, ElementsAre("2 now"));
}

TEST_F(JobNewsTest, WakeAFewWatchersAtEveryWrite) {
  Subscribe(JobNews::kNoCrowd);
  for (int i = 0; i < 3; ++i) Write(EventKind::kProgress);
  EXPECT_THAT(told_, ElementsAre("1 now", "2 now", "3 now"));
}

TEST_F(JobNewsTest, WakeACrowdForProgressNoMoreThanSoManyTimesASecond) {
  Subscribe(2 * JobNews::kWakesPerSecond);  // every two seconds
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

}  // namespace
}  // namespace attnprune
