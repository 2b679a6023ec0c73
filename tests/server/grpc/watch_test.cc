#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/grpc/service_fixture.h"

namespace attnprune::rpc {
namespace {

using ::testing::ElementsAre;

// One WatchJob stream.
class Watcher {
 public:
  Watcher(Service& service, const std::string& name, int64_t after = 0) {
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_after_sequence(after);
    stream_ = service.stub().WatchJob(&context_, request);
  }

  // Waits for the next event. False: the stream has ended.
  bool Read(v1::JobEvent* event) { return stream_->Read(event); }
  v1::JobEvent Next() {
    v1::JobEvent event;
    EXPECT_TRUE(Read(&event)) << "the stream ended";
    return event;
  }
  std::vector<v1::JobEvent> ReadAll() {
    std::vector<v1::JobEvent> events;
    for (v1::JobEvent event; Read(&event);) events.push_back(event);
    return events;
  }
  grpc::Status Finish() { return stream_->Finish(); }
  void Leave() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::JobEvent>> stream_;
};

NewEvent Step(int step, bool evaluated = false, const std::string& method = "gd") {
  v1::Progress progress;
  progress.set_method(method);
  progress.set_step(step);
  progress.set_steps(1000);
  if (evaluated) progress.set_calibration_error(0.25);
  return {EventKind::kProgress, progress.SerializeAsString()};
}

NewEvent Warning(const std::string& text) { return {EventKind::kWarning, text}; }

void Append(Service& service, const JobClaim& claim, const std::vector<NewEvent>& events) {
  const auto appended = service.jobs().AppendEvents(claim, events);
  ASSERT_TRUE(appended.ok()) << appended.status();
}

void Succeed(Service& service, const JobClaim& claim) {
  ASSERT_TRUE(service.jobs().Finish(claim, JobState::kSucceeded, {}, "").ok());
}

// "QUEUED", "step 3", "warning x", "result gd", "terminal SUCCEEDED", "heartbeat".
std::string Describe(const v1::JobEvent& event) {
  switch (event.event_case()) {
    case v1::JobEvent::kStateChange:
      return v1::JobState_Name(event.state_change().state());
    case v1::JobEvent::kProgress:
      return "step " + std::to_string(event.progress().step());
    case v1::JobEvent::kMethodResult:
      return "result " + event.method_result().method();
    case v1::JobEvent::kPhase:
      return "phase " + v1::Phase_Name(event.phase().phase());
    case v1::JobEvent::kWarning:
      return "warning " + event.warning();
    case v1::JobEvent::kHeartbeat:
      return "heartbeat";
    case v1::JobEvent::kTerminal:
      return "terminal " + v1::JobState_Name(event.terminal().state());
    case v1::JobEvent::kRunProgress:
      return "run " + v1::RunPhase_Name(event.run_progress().phase());
    case v1::JobEvent::kRunResult:
      return "block " + std::to_string(event.run_result().block());
    case v1::JobEvent::kRunTerminal:
      return "run terminal " + v1::JobState_Name(event.run_terminal().state());
    case v1::JobEvent::EVENT_NOT_SET:
      break;
  }
  return "nothing";
}

std::vector<std::string> Describe(const std::vector<v1::JobEvent>& events) {
  std::vector<std::string> texts;
  for (const v1::JobEvent& event : events) texts.push_back(Describe(event));
  return texts;
}

TEST(WatchJob, ReplaysAllOfAJobThatHasEnded) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  const JobClaim claim = service.Claim();
  Append(service, claim, {Step(1), Step(2), Warning("mind the gap")});
  v1::MethodResult result;
  result.set_method("gd");
  ASSERT_TRUE(service.jobs().FinishMethod(claim, 0, result.SerializeAsString(), {}).ok());
  Succeed(service, claim);

  Watcher watcher(service, name);
  const std::vector<v1::JobEvent> events = watcher.ReadAll();
  EXPECT_THAT(Describe(events),
              ElementsAre("QUEUED", "RUNNING", "step 1", "step 2", "warning mind the gap",
                          "result gd", "terminal SUCCEEDED"));
  EXPECT_EQ(events.back().terminal().name(), name);
  EXPECT_EQ(events.back().terminal().results_size(), 1);
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].sequence(), static_cast<int64_t>(i + 1));
    EXPECT_TRUE(events[i].has_time());
  }
  EXPECT_TRUE(watcher.Finish().ok()) << "OK only after the terminal event";
}

TEST(WatchJob, FollowsAJobAsItGoesOn) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  Watcher watcher(service, name);
  EXPECT_EQ(Describe(watcher.Next()), "QUEUED");
  const JobClaim claim = service.Claim();
  EXPECT_EQ(Describe(watcher.Next()), "RUNNING");
  for (int step = 1; step <= 20; ++step) {
    Append(service, claim, {Step(step)});
    EXPECT_EQ(Describe(watcher.Next()), "step " + std::to_string(step));
  }
  Succeed(service, claim);
  EXPECT_EQ(Describe(watcher.Next()), "terminal SUCCEEDED");
  EXPECT_TRUE(watcher.ReadAll().empty());
  EXPECT_TRUE(watcher.Finish().ok());
}

TEST(WatchJob, NeverRepeatsAnEventToAWatcherWhoComesBack) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  const JobClaim claim = service.Claim();
  std::vector<std::string> seen;
  int64_t last = 0;
  for (int step = 1; step <= 5; ++step) {
    Append(service, claim, {Step(2 * step - 1), Step(2 * step)});
    Watcher watcher(service, name, last);
    for (int i = 0; i < 2; ++i) {  // leaves with news unread
      const v1::JobEvent event = watcher.Next();
      EXPECT_EQ(event.sequence(), last + 1);
      last = event.sequence();
      seen.push_back(Describe(event));
    }
    watcher.Leave();
  }
  Succeed(service, claim);
  Watcher watcher(service, name, last);
  for (const v1::JobEvent& event : watcher.ReadAll()) seen.push_back(Describe(event));
  EXPECT_THAT(seen,
              ElementsAre("QUEUED", "RUNNING", "step 1", "step 2", "step 3", "step 4", "step 5",
                          "step 6", "step 7", "step 8", "step 9", "step 10", "terminal SUCCEEDED"));
}

TEST(WatchJob, EndsAtOnceForAWatcherWhoHasSeenTheEnd) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  Cancel(service, name);
  const std::vector<v1::JobEvent> events = Watcher(service, name).ReadAll();
  ASSERT_EQ(Describe(events.back()), "terminal CANCELLED");
  Watcher watcher(service, name, events.back().sequence());
  EXPECT_TRUE(watcher.ReadAll().empty());
  EXPECT_TRUE(watcher.Finish().ok());
}

TEST(WatchJob, NamesTheOldestEventWhenHistoryIsCompacted) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  const JobClaim claim = service.Claim();
  std::vector<NewEvent> warnings;
  for (int i = 0; i < 20; ++i) warnings.push_back(Warning(std::to_string(i)));
  Append(service, claim, warnings);
  ASSERT_TRUE(service.jobs().CompactEvents(claim.id, {.progress = 10, .others = 5}).ok());

  Watcher late(service, name, 1);
  EXPECT_TRUE(late.ReadAll().empty());
  const grpc::Status status = late.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  const v1::ErrorInfo detail = ErrorInfoOf(status);
  EXPECT_EQ(detail.reason(), "HISTORY_COMPACTED");
  const int64_t oldest = std::stoll(detail.metadata().at("oldest_sequence"));

  Watcher watcher(service, name, oldest - 1);
  EXPECT_EQ(watcher.Next().sequence(), oldest);
  watcher.Leave();
}

// 2,000 steps of 4 KiB and 20 warnings go by while it reads nothing; what gRPC itself buffers (some
// 64 KiB) and one batch of ours is all that it has been sent.
TEST(WatchJob, CoalescesProgressForAWatcherThatReadsNothingAndLosesNothingElse) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  Watcher watcher(service, name);
  EXPECT_EQ(Describe(watcher.Next()), "QUEUED");
  const JobClaim claim = service.Claim();
  const std::string label(4096, 'g');
  int step = 0;
  for (int round = 0; round < 20; ++round) {
    for (int batch = 0; batch < 10; ++batch) {
      std::vector<NewEvent> events;
      for (int i = 0; i < 10; ++i, ++step) events.push_back(Step(step, step == 1001, label));
      Append(service, claim, events);
    }
    Append(service, claim, {Warning(std::to_string(round))});
  }
  Succeed(service, claim);

  int steps = 0, last_step = -1, warnings = 0, evaluated = 0;
  int64_t last = 1;
  bool ended = false;
  for (const v1::JobEvent& event : watcher.ReadAll()) {
    EXPECT_GT(event.sequence(), last);
    last = event.sequence();
    steps += event.has_progress() ? 1 : 0;
    evaluated += event.has_progress() && event.progress().has_calibration_error() ? 1 : 0;
    if (event.has_progress()) last_step = event.progress().step();
    if (event.event_case() == v1::JobEvent::kWarning) {
      EXPECT_EQ(event.warning(), std::to_string(warnings++));
    }
    ended = event.has_terminal();
  }
  EXPECT_EQ(warnings, 20);
  EXPECT_TRUE(ended);
  EXPECT_EQ(last_step, 1999) << "the newest step is never dropped";
  EXPECT_EQ(evaluated, 1) << "nor is the newest evaluation";
  EXPECT_LT(steps, 1000) << "most of the 2,000 steps were not worth sending";
  EXPECT_TRUE(watcher.Finish().ok());
}

TEST(WatchJob, SendsHeartbeatsOnAnIdleStream) {
  Service service({.heartbeat = absl::Milliseconds(20)});
  const std::string name = service.Create(service.GoodJob()).name();
  Watcher watcher(service, name);
  EXPECT_EQ(Describe(watcher.Next()), "QUEUED");
  for (int i = 0; i < 3; ++i) {
    const v1::JobEvent event = watcher.Next();
    EXPECT_EQ(Describe(event), "heartbeat");
    EXPECT_EQ(event.sequence(), 0);
  }
  service.Claim();
  v1::JobEvent event = watcher.Next();
  while (event.has_heartbeat()) event = watcher.Next();
  EXPECT_EQ(Describe(event), "RUNNING");
  EXPECT_EQ(event.sequence(), 2);
  watcher.Leave();
}

TEST(WatchJob, SaysInHeartbeatsWhatAQueuedJobWaitsFor) {
  Service service({.heartbeat = absl::Milliseconds(20)});
  const std::string first = service.Create(service.GoodJob()).name();
  service.Claim();
  const std::string second = service.Create(service.GoodJob()).name();
  Watcher watcher(service, second), of_running(service, first);
  EXPECT_EQ(Describe(watcher.Next()), "QUEUED");
  const v1::JobEvent event = watcher.Next();
  ASSERT_TRUE(event.heartbeat().has_waiting());
  EXPECT_THAT(event.heartbeat().waiting().running(), ElementsAre(first));
  EXPECT_EQ(event.heartbeat().waiting().ahead(), 0);
  EXPECT_EQ(Describe(of_running.Next()), "QUEUED");
  EXPECT_EQ(Describe(of_running.Next()), "RUNNING");
  const v1::JobEvent running = of_running.Next();
  EXPECT_EQ(Describe(running), "heartbeat");
  EXPECT_FALSE(running.heartbeat().has_waiting());
  watcher.Leave();
  of_running.Leave();
}

TEST(WatchJob, LeavesTheJobAloneWhenAWatcherGoes) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  const JobClaim claim = service.Claim();
  {
    Watcher watcher(service, name);
    watcher.Next();
    watcher.Leave();
    watcher.ReadAll();
    EXPECT_EQ(watcher.Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_EQ(Get(service, name).response.state(), v1::RUNNING);
  EXPECT_FALSE(Get(service, name).response.cancel_requested());
  Append(service, claim, {Step(1)});
}

TEST(WatchJob, EndsWithUnavailableWhenTheServerDrains) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  Watcher watcher(service, name);
  EXPECT_EQ(Describe(watcher.Next()), "QUEUED");
  service.service().Drain();
  EXPECT_TRUE(watcher.ReadAll().empty());
  EXPECT_EQ(watcher.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);

  Watcher late(service, name);
  EXPECT_TRUE(late.ReadAll().empty());
  EXPECT_EQ(late.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(WatchJob, TellsEveryOneOf50WatchersTheEnd) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (int i = 0; i < 50; ++i) watchers.push_back(std::make_unique<Watcher>(service, name));
  const JobClaim claim = service.Claim();
  for (int step = 1; step <= 50; ++step) Append(service, claim, {Step(step)});
  Succeed(service, claim);
  for (const auto& watcher : watchers) {
    const std::vector<v1::JobEvent> events = watcher->ReadAll();
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(Describe(events.back()), "terminal SUCCEEDED");
    EXPECT_TRUE(watcher->Finish().ok());
  }
}

TEST(WatchJob, EndsWhenTheHostIsShutDownWithAWatcherWhoReadsNothing) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  const JobClaim claim = service.Claim();
  Watcher watcher(service, name);
  EXPECT_EQ(Describe(watcher.Next()), "QUEUED");
  const std::string label(4096, 'g');
  for (int step = 1; step <= 100; ++step) Append(service, claim, {Step(step, false, label)});
  service.service().Drain();  // the write to this watcher never ends
  const absl::Time start = absl::Now();
  service.host().Shutdown(start + absl::Milliseconds(100));
  EXPECT_LT(absl::Now() - start, absl::Minutes(1)) << "it would wait for ever";
}

}  // namespace
}  // namespace attnprune::rpc
