#include "client/cli/views/waiting_view.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1000);

v1::Waiting Wait(int ahead, const std::vector<std::string>& running, int64_t seconds) {
  v1::Waiting waiting;
  waiting.set_ahead(ahead);
  waiting.mutable_running()->Assign(running.begin(), running.end());
  waiting.mutable_may_start_time()->set_seconds(absl::ToUnixSeconds(kNow) + seconds);
  return waiting;
}

v1::JobEvent State(v1::JobState state, int attempt) {
  v1::JobEvent event;
  event.mutable_state_change()->set_state(state);
  event.mutable_state_change()->set_attempt(attempt);
  return event;
}

v1::JobEvent Heartbeat(const v1::Waiting& waiting) {
  v1::JobEvent event;
  *event.mutable_heartbeat()->mutable_waiting() = waiting;
  return event;
}

TEST(WaitingText, NamesThoseAtWorkAndTheTime) {
  EXPECT_EQ(WaitingText(Wait(2, {"jobs/x", "runs/r-y"}, 240), kNow),
            "2 ahead, jobs/x and runs/r-y at work; may start in 4 min");
  EXPECT_EQ(WaitingText(Wait(0, {"jobs/x"}, 12), kNow), "next, jobs/x at work; may start in 12 s");
  EXPECT_EQ(WaitingText(Wait(1, {"a", "b", "c"}, -1), kNow),
            "1 ahead, a, b and c at work; may start now");
  EXPECT_EQ(WaitingText(Wait(1, {"a", "b", "c", "d", "e"}, 7800), kNow),
            "1 ahead, a, b, c and 2 more at work; may start in 2 h 10 min");
}

TEST(WaitingText, IsEmptyWhereAWorkerIsFree) { EXPECT_EQ(WaitingText(Wait(0, {}, 0), kNow), ""); }

TEST(QueuePlaceText, IsAnOrdinal) {
  std::vector<std::string> places;
  for (const int ahead : {0, 1, 2, 3, 10, 11, 12, 20, 110, 111}) {
    places.push_back(QueuePlaceText(Wait(ahead, {}, 0)));
  }
  EXPECT_THAT(places, ::testing::ElementsAre("1st", "2nd", "3rd", "4th", "11th", "12th", "13th",
                                             "21st", "111th", "112th"));
}

TEST(WaitingView, TellsWhatIsWaitedForOnceTheLogHasComeThere) {
  v1::Job job;
  job.set_attempt(1);
  *job.mutable_waiting() = Wait(0, {"jobs/x"}, 12);
  WaitingView view(job);
  EXPECT_EQ(view.News(kNow), "");
  for (const v1::JobEvent& past : {State(v1::QUEUED, 0), State(v1::RUNNING, 1)}) {
    view.Apply(past);
    EXPECT_EQ(view.News(kNow), "");
  }
  view.Apply(State(v1::QUEUED, 1));
  EXPECT_EQ(view.News(kNow), "waits for a worker: next, jobs/x at work; may start in 12 s");
  view.Apply(State(v1::RUNNING, 2));
  EXPECT_EQ(view.Line(kNow), "");
  view.Apply(Heartbeat(Wait(0, {"jobs/x"}, 12)));
  EXPECT_EQ(view.Line(kNow), "") << "a second behind";
  view.Apply(State(v1::QUEUED, 2));
  EXPECT_EQ(view.Line(kNow), "") << "not known yet";
}

TEST(WaitingView, TellsItAgainOnlyWhereItIsSomethingElse) {
  WaitingView view{v1::Run()};
  view.Apply(State(v1::QUEUED, 0));
  view.Apply(Heartbeat(Wait(2, {"jobs/x"}, 100)));
  EXPECT_NE(view.News(kNow), "");
  view.Apply(Heartbeat(Wait(2, {"jobs/x"}, 50)));
  EXPECT_EQ(view.News(kNow), "") << "the time alone is no news";
  EXPECT_EQ(view.Line(kNow), "waits for a worker: 2 ahead, jobs/x at work; may start in 50 s");
  view.Apply(Heartbeat(Wait(1, {"jobs/x"}, 50)));
  EXPECT_EQ(view.News(kNow), "waits for a worker: 1 ahead, jobs/x at work; may start in 50 s");
  v1::JobEvent ended;
  ended.mutable_run_terminal();
  view.Apply(ended);
  EXPECT_EQ(view.Line(kNow), "");
}

}  // namespace
}  // namespace attnprune::cli
