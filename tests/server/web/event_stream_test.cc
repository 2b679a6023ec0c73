// Live events over real sockets: replay, follow, resume, crowds, slow readers, ends.
#include <google/protobuf/util/json_util.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/web/event_feed.h"
#include "tests/server/http/http_client.h"
#include "tests/server/web/web_fixture.h"

namespace attnprune::web {
namespace {

using http::HttpClient;
using http::Received;
using http::ReceivedEvent;
using http::WaitFor;

using ::testing::ElementsAre;

std::string EventsOf(const v1::Job& job) { return absl::StrCat("/api/v1/", job.name(), "/events"); }

v1::JobEvent EventIn(const ReceivedEvent& received) {
  v1::JobEvent event;
  const auto status = google::protobuf::util::JsonStringToMessage(received.data, &event);
  EXPECT_TRUE(status.ok()) << received.data;
  EXPECT_EQ(received.id, absl::StrCat(event.sequence()));
  return event;
}

// A viewer of a job; skips the line that says when to come back.
struct Viewer {
  Viewer(Web& web, const v1::Job& job, const std::string& query = "",
         const std::string& headers = "", int receive_buffer = 0)
      : client(web.port(), receive_buffer), head(client.Open(EventsOf(job) + query, headers)) {
    if (head.status == 200) {
      EXPECT_TRUE(client.Next().has_value());
    }
  }

  v1::JobEvent Next() {
    const absl::optional<ReceivedEvent> received = client.Next();
    EXPECT_TRUE(received.has_value()) << "the stream has ended";
    return received.has_value() ? EventIn(*received) : v1::JobEvent();
  }
  // All to the end, which must be announced.
  std::vector<v1::JobEvent> Rest() {
    std::vector<v1::JobEvent> events;
    while (absl::optional<ReceivedEvent> received = client.Next()) {
      if (received->event == "end") {
        EXPECT_FALSE(client.Next().has_value());
        return events;
      }
      events.push_back(EventIn(*received));
    }
    ADD_FAILURE() << "the stream has ended without \"event: end\"";
    return events;
  }

  HttpClient client;
  Received head;
};

std::vector<int64_t> SequencesOf(const std::vector<v1::JobEvent>& events) {
  std::vector<int64_t> sequences;
  sequences.reserve(events.size());
  for (const v1::JobEvent& event : events) sequences.push_back(event.sequence());
  return sequences;
}

TEST(EventStream, ReplaysAnEndedJobAndSaysThatItIsOver) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  web.AddProgress(claim, 1, 200);  // more than one read
  ASSERT_TRUE(web.jobs().Finish(claim, JobState::kSucceeded, {}, "").ok());
  Viewer viewer(web, job);
  EXPECT_EQ(viewer.head.headers.at("content-type"), "text/event-stream");
  const std::vector<v1::JobEvent> events = viewer.Rest();
  ASSERT_EQ(events.size(), 203U);  // queued, running, 200 steps, the end
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].sequence(), static_cast<int64_t>(i) + 1);
  }
  EXPECT_EQ(events.back().terminal().DebugString(),
            web.api().GetJob(access::Everyone(), job.name())->DebugString());
}

TEST(EventStream, FollowsARunningJob) {
  Web web;
  const v1::Job job = web.Create();
  Viewer viewer(web, job);
  EXPECT_EQ(viewer.Next().state_change().state(), v1::QUEUED);
  const JobClaim claim = web.Claim();
  EXPECT_EQ(viewer.Next().state_change().state(), v1::RUNNING);
  for (int step = 1; step <= 50; ++step) {
    web.AddProgress(claim, step, step);
    EXPECT_EQ(viewer.Next().progress().step(), step);
  }
  ASSERT_TRUE(web.jobs().Finish(claim, JobState::kCancelled, {}, "").ok());
  EXPECT_EQ(viewer.Rest().back().terminal().state(), v1::CANCELLED);
  EXPECT_TRUE(viewer.client.ClosedByServer());
}

TEST(EventStream, GoesOnAfterTheLastEventThatWasSeen) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  web.AddProgress(claim, 1, 5);  // sequences 3 to 7
  Viewer by_header(web, job, "", "Last-Event-ID: 5\r\n");
  EXPECT_EQ(by_header.Next().sequence(), 6);
  Viewer by_query(web, job, "?after_sequence=6");
  EXPECT_EQ(by_query.Next().sequence(), 7);
  // A browser that comes back to the address it had sends both: the header is newer.
  Viewer by_both(web, job, "?after_sequence=2", "Last-Event-ID: 6\r\n");
  EXPECT_EQ(by_both.Next().sequence(), 7);
  web.AddWarning(claim, "all hear this");
  for (Viewer* viewer : {&by_query, &by_both}) EXPECT_EQ(viewer->Next().warning(), "all hear this");
}

TEST(EventStream, HasNothingForWhoHasSeenTheEnd) {
  Web web;
  const v1::Job job = web.Create();
  ASSERT_TRUE(web.jobs().RequestCancel(job.name().substr(5)).ok());
  Viewer viewer(web, job);
  const std::string last = absl::StrCat(viewer.Rest().back().sequence());
  HttpClient again(web.port());
  EXPECT_EQ(again.Get(EventsOf(job), "Last-Event-ID: " + last + "\r\n").status, 204);
}

TEST(EventStream, RefusesAPlaceThatTheLogDoesNotHave) {
  Web web;
  const v1::Job job = web.Create();
  HttpClient client(web.port());
  for (const char* after : {"99", "-1", "x", "1.5"}) {
    EXPECT_EQ(client.Get(absl::StrCat(EventsOf(job), "?after_sequence=", after)).status, 400)
        << after;
  }
  EXPECT_EQ(client.Get(EventsOf(job), "Last-Event-ID: nine\r\n").status, 400);
  EXPECT_EQ(client.Get(EventsOf(job) + "?from=1").status, 400);
}

TEST(EventStream, RefusesHistoryThatWasCompactedAway) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  for (int i = 0; i < 10; ++i) web.AddWarning(claim, "w");
  ASSERT_TRUE(web.jobs().CompactEvents(claim.id, {.progress = 1, .others = 3}).ok());
  HttpClient client(web.port());
  const Received received = client.Get(EventsOf(job));
  EXPECT_EQ(received.status, 400);
  // 12 events but the newest three; what the page reads (server/web/page/js/api.js).
  EXPECT_THAT(received.body, ::testing::HasSubstr(R"("status":"OUT_OF_RANGE")"));
  EXPECT_THAT(received.body, ::testing::HasSubstr(R"("metadata":{"oldest_sequence":"10"})"));
}

TEST(EventStream, SendsACommentWhereThereIsNothingToSay) {
  Web web(absl::Milliseconds(20));
  const v1::Job job = web.Create();
  Viewer viewer(web, job);
  EXPECT_EQ(viewer.Next().state_change().state(), v1::QUEUED);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(viewer.client.Next()->comment, "heartbeat");
  web.Claim();
  while (true) {
    const absl::optional<ReceivedEvent> received = viewer.client.Next();
    ASSERT_TRUE(received.has_value());
    if (received->comment.empty()) {
      EXPECT_EQ(EventIn(*received).state_change().state(), v1::RUNNING);
      break;
    }
  }
}

TEST(EventStream, NeedsHttp11) {
  Web web;
  const v1::Job job = web.Create();
  HttpClient client(web.port());
  client.Send(absl::StrCat("GET ", EventsOf(job), " HTTP/1.0\r\nHost: localhost\r\n\r\n"));
  EXPECT_EQ(client.Receive().status, 505);
}

TEST(EventStream, LeavesRoomForRequestsHoweverManyLookOn) {
  constexpr int kConnections = 8, kViewers = 7;
  static_assert(MaxViewers(kConnections) == kViewers);
  Web web(absl::Hours(1), kConnections);
  const v1::Job job = web.Create();
  std::vector<std::unique_ptr<Viewer>> crowd;
  for (int i = 0; i < kViewers; ++i) crowd.push_back(std::make_unique<Viewer>(web, job));
  HttpClient client(web.port());
  const Received refused = client.Get(EventsOf(job));
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, ::testing::HasSubstr("no more than 7 streams"));
  EXPECT_EQ(client.Get("/metrics").status, 200);
  crowd.pop_back();
  WaitFor([&] { return web.metrics().viewers < kViewers; });
  EXPECT_EQ(client.Open(EventsOf(job)).status, 200);
}

// Joined at different times, all see each state change, warning and the end, in order.
TEST(EventStream, GivesACrowdTheSame) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  std::vector<std::unique_ptr<Viewer>> crowd;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 20; ++i) crowd.push_back(std::make_unique<Viewer>(web, job));
    web.AddProgress(claim, 100 * round + 1, 100 * round + 100);
    web.AddWarning(claim, absl::StrCat(round));
  }
  WaitFor([&] { return web.metrics().viewers == 100; });
  ASSERT_TRUE(web.jobs().Finish(claim, JobState::kSucceeded, {}, "").ok());
  for (const auto& viewer : crowd) {
    const std::vector<v1::JobEvent> events = viewer->Rest();
    std::vector<std::string> warnings;
    for (size_t i = 1; i < events.size(); ++i) {
      EXPECT_GT(events[i].sequence(), events[i - 1].sequence());
      if (events[i].event_case() == v1::JobEvent::kWarning) warnings.push_back(events[i].warning());
    }
    EXPECT_THAT(warnings, ElementsAre("0", "1", "2", "3", "4"));
    EXPECT_TRUE(events.back().has_terminal());
  }
  WaitFor([&] { return web.metrics().viewers == 0; });
}

// What does not fit the connection's buffers is not kept for the sleeper: it is sent thinned out
// when the sleeper reads again.
TEST(EventStream, LosesNoWarningForAReaderWhoSleeps) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  Viewer sleeper(web, job, "", "", 4096);
  Viewer awake(web, job);
  constexpr int kWrites = 300, kSteps = 40;
  for (int i = 0; i < kWrites; ++i) {
    web.AddProgress(claim, kSteps * i + 1, kSteps * (i + 1));
    web.AddWarning(claim, absl::StrCat(i));
  }
  ASSERT_TRUE(web.jobs().Finish(claim, JobState::kSucceeded, {}, "").ok());
  EXPECT_TRUE(awake.Rest().back().has_terminal());  // is not held up by the other
  int warnings = 0, steps = 0;
  for (const v1::JobEvent& event : sleeper.Rest()) {
    if (event.has_progress()) ++steps;
    if (event.event_case() == v1::JobEvent::kWarning) {
      EXPECT_EQ(event.warning(), absl::StrCat(warnings++));
    }
  }
  EXPECT_EQ(warnings, kWrites);
  EXPECT_LT(steps, kWrites * kSteps / 2);
}

// A browser that is cut off and comes back with the last id misses nothing.
TEST(EventStream, MissesNothingThroughBrokenConnections) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  std::vector<int64_t> seen;
  for (int i = 1; i <= 20; ++i) {
    web.AddWarning(claim, "w");
    Viewer viewer(web, job, "",
                  seen.empty() ? "" : absl::StrCat("Last-Event-ID: ", seen.back(), "\r\n"));
    seen.push_back(viewer.Next().sequence());
  }
  ASSERT_TRUE(web.jobs().Finish(claim, JobState::kSucceeded, {}, "").ok());
  Viewer last(web, job, "", absl::StrCat("Last-Event-ID: ", seen.back(), "\r\n"));
  for (const int64_t sequence : SequencesOf(last.Rest())) seen.push_back(sequence);
  ASSERT_EQ(seen.size(), 23U);  // queued, running, 20 warnings, the end
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], static_cast<int64_t>(i) + 1);
}

TEST(EventStream, EndsWithoutAnEndWhenTheServerStopsSoThatBrowsersComeBack) {
  Web web;
  const v1::Job job = web.Create();
  Viewer viewer(web, job);
  EXPECT_EQ(viewer.Next().state_change().state(), v1::QUEUED);
  web.host().Shutdown(absl::Now() + absl::Seconds(30));
  EXPECT_FALSE(viewer.client.Next().has_value());
  EXPECT_EQ(web.metrics().viewers, 0);
}

TEST(EventStream, EndsWhenItsJobIsDeleted) {
  Web web;
  const v1::Job job = web.Create();
  const JobClaim claim = web.Claim();
  Viewer viewer(web, job);
  viewer.Next();
  viewer.Next();
  ASSERT_TRUE(
      web.jobs().Finish(claim, JobState::kFailed, {absl::StatusCode::kInternal, "x"}, "").ok());
  ASSERT_TRUE(web.jobs().Delete(claim.id).ok());
  while (viewer.client.Next().has_value()) {  // with the terminal event or without
  }
  HttpClient again(web.port());
  EXPECT_EQ(again.Get(EventsOf(job)).status, 404);
}

TEST(EventChannel, SharesWhatItSendsAmongItsViewers) {
  EXPECT_EQ(api::TurnInterval(1, EventChannel::kPiecesPerSecond), absl::Microseconds(500));
  EXPECT_EQ(api::TurnInterval(500, EventChannel::kPiecesPerSecond), absl::Milliseconds(250));
}

}  // namespace
}  // namespace attnprune::web
