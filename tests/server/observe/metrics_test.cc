// What is counted, and how it is written.
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "attnprune/v1/job.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/observe/call_metrics.h"
#include "server/observe/exposition.h"
#include "server/observe/job_metrics.h"
#include "server/observe/process_metrics.h"
#include "server/observe/solver_metrics.h"
#include "server/queue/folder_lock.h"
#include "server/queue/sqlite/sqlite_job_store.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TestClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1'000'000);
};

template <typename Metrics>
std::string TextOf(const Metrics& metrics) {
  Exposition out;
  metrics.AddTo(out);
  return out.Finish();
}

TEST(Exposition, WritesPrometheussTextFormat) {
  Exposition out;
  out.Gauge("a", "What it is.", 0.5);
  out.Counters("b_total", "Counted.");
  out.Sample({{"x", "plain"}, {"y", "a\"b\\c\nd"}}, 3);
  EXPECT_EQ(out.Finish(),
            "# HELP a What it is.\n# TYPE a gauge\na 0.5\n"
            "# HELP b_total Counted.\n# TYPE b_total counter\n"
            "b_total{x=\"plain\",y=\"a\\\"b\\\\c\\nd\"} 3\n");
}

TEST(Exposition, WritesNumbersThatReadBackTheSame) {
  Exposition out;
  out.Gauges("g", "");
  for (const double value : {0.1, 1e300, 123456789.0, std::numeric_limits<double>::infinity(),
                             std::numeric_limits<double>::quiet_NaN()}) {
    out.Sample({}, value);
  }
  EXPECT_THAT(out.Finish(), HasSubstr("g 0.1\ng 1e+300\ng 123456789\ng +Inf\ng NaN\n"));
}

TEST(Exposition, CumulatesAHistogram) {
  Histogram histogram({1, 2});
  for (const double value : {0.5, 1.0, 1.5, 100.0}) histogram.Add(value);
  Exposition out;
  out.Histograms("h", "");
  out.Sample({{"m", "gd"}}, histogram);
  EXPECT_THAT(out.Finish(), HasSubstr("h_bucket{m=\"gd\",le=\"1\"} 2\n"
                                      "h_bucket{m=\"gd\",le=\"2\"} 3\n"
                                      "h_bucket{m=\"gd\",le=\"+Inf\"} 4\n"
                                      "h_sum{m=\"gd\"} 103\n"
                                      "h_count{m=\"gd\"} 4\n"));
}

TEST(Histogram, LosesNothingThatThreadsAddAtOnce) {
  Histogram histogram({10});
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 10'000; ++j) histogram.Add(1);
      });
    }
  }
  EXPECT_EQ(histogram.count(0), 40'000);
  EXPECT_EQ(histogram.sum(), 40'000);
}

TEST(CallMetrics, CountsUnknownNamesTogether) {
  CallMetrics calls = GrpcCalls();
  const size_t get = calls.NameIndex("attnprune.v1.PruneService/GetJob");
  EXPECT_NE(get, 0U);
  EXPECT_EQ(calls.NameIndex("scanner.Service/Probe"), 0U);
  calls.Begin(get);
  calls.Count(get, 0, 0.003);
  calls.Count(0, 12, 0.001);
  Exposition out;
  out.Counters("c", "");
  calls.AddCounts("rpc", out);
  calls.AddInFlight("rpc", out);
  const std::string text = out.Finish();
  EXPECT_THAT(text, HasSubstr("c{rpc=\"attnprune.v1.PruneService/GetJob\",code=\"OK\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("c{rpc=\"other\",code=\"UNIMPLEMENTED\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("c{rpc=\"attnprune.v1.PruneService/GetJob\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("scanner")));
}

StoredEvent StateEvent(JobState state, int attempt, absl::Time time, std::string reason = "") {
  StoredEvent event;
  event.kind = IsTerminal(state) ? EventKind::kTerminal : EventKind::kStateChange;
  event.state = state;
  event.attempt = attempt;
  event.time = time;
  event.payload = std::move(reason);
  return event;
}

// A job that waits 2 s, runs 3 s, is given back, waits 7 s, runs 60 s and succeeds.
TEST(JobMetrics, MeasuresWaitingAndRunning) {
  TestClock clock;
  JobMetrics metrics({"gd"}, &clock);
  const absl::Time t = clock.now;
  const auto tell = [&](const StoredEvent& event) { metrics.OnEvents("a", {&event, 1}); };
  tell(StateEvent(JobState::kQueued, 0, t));
  clock.now = t + absl::Seconds(1);
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_oldest_seconds 1\n"));
  tell(StateEvent(JobState::kRunning, 1, t + absl::Seconds(2)));
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_oldest_seconds 0\n"));
  tell(StateEvent(JobState::kQueued, 1, t + absl::Seconds(5), "server draining"));
  tell(StateEvent(JobState::kRunning, 2, t + absl::Seconds(12)));
  tell(StateEvent(JobState::kSucceeded, 2, t + absl::Seconds(72)));
  const std::string text = TextOf(metrics);
  EXPECT_THAT(text, HasSubstr("attnprune_queue_wait_seconds_sum 9\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_queue_wait_seconds_count 2\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_job_run_seconds_sum 63\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_jobs_created_total 1\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_jobs_requeued_total{cause=\"draining\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_jobs_requeued_total{cause=\"worker_lost\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_jobs_finished_total{state=\"succeeded\"} 1\n"));
}

JobClaim Claim(JobStore& store) {
  const auto job = store.Claim("worker", absl::Hours(1));
  EXPECT_TRUE(job.ok() && job->has_value());
  return {(*job)->id, (*job)->fence};
}

// One job is given back at 5 s, others are made at 20 s and 30 s. The server restarts at 100 s.
TEST(JobMetrics, FindsTheJobsThatWaitedBeforeTheStart) {
  const TemporaryFolder folder;
  auto lock = FolderLock::Acquire(folder.path());
  ASSERT_TRUE(lock.ok());
  TestClock clock;
  const absl::Time t = clock.now;
  const auto store = OpenSqliteJobStore(*lock, {.clock = &clock});
  ASSERT_TRUE(store.ok()) << store.status();
  for (const int seconds : {0, 20, 30}) {
    clock.now = t + absl::Seconds(seconds);
    ASSERT_TRUE((*store)->Create(NewJob()).ok());
    clock.now += absl::Seconds(5);
    if (seconds == 0) {
      ASSERT_TRUE((*store)->Requeue(Claim(**store), RequeueCause::kDraining, "").ok());
    }
  }
  JobMetrics metrics({"gd"}, &clock);
  ASSERT_TRUE(metrics.FindQueued(store->get()).ok());
  ASSERT_TRUE(metrics.FindQueued(store->get()).ok());  // nobody is counted twice
  clock.now = t + absl::Seconds(100);
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_oldest_seconds 95\n"));
  const StoredEvent running = StateEvent(JobState::kRunning, 2, clock.now);
  metrics.OnEvents(Claim(**store).id, {&running, 1});
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_oldest_seconds 80\n"));
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_wait_seconds_sum 95\n"));
}

TEST(JobMetrics, LetsAJobThatWasQueuedBeforeWaitFromTheStart) {
  TestClock clock;
  JobMetrics metrics({"gd"}, &clock);
  const StoredEvent running = StateEvent(JobState::kRunning, 1, clock.now + absl::Seconds(4));
  metrics.OnEvents("old", {&running, 1});
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_wait_seconds_sum 4\n"));
}

// Both were made here. One is claimed elsewhere, another was queued elsewhere 1 s ago.
TEST(JobMetrics, KnowsWhatWaitsThoughOtherServersQueueAndClaim) {
  TestClock clock;
  JobMetrics metrics({"gd"}, &clock);
  const absl::Time t = clock.now;
  for (const char* const id : {"a", "b"}) {
    const StoredEvent queued = StateEvent(JobState::kQueued, 0, t);
    metrics.OnEvents(id, {&queued, 1});
  }
  clock.now = t + absl::Seconds(4);
  metrics.OnRemoteChange({.job_id = "c", .state = JobState::kQueued});
  clock.now = t + absl::Seconds(5);
  metrics.OnRemoteChange({.job_id = "a", .state = JobState::kRunning, .fence = 1});
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_oldest_seconds 5\n"));
  metrics.OnRemoteChange({.job_id = "b", .state = JobState::kCancelled});
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_queue_oldest_seconds 1\n"));
  const StoredEvent running = StateEvent(JobState::kRunning, 1, clock.now);
  metrics.OnEvents("c", {&running, 1});
  const std::string text = TextOf(metrics);
  EXPECT_THAT(text, HasSubstr("attnprune_queue_oldest_seconds 0\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_queue_wait_seconds_count 1\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_jobs_created_total 2\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_jobs_finished_total{state=\"cancelled\"} 0\n"));
}

TEST(JobMetrics, CountsMethodsByHowTheyEnded) {
  TestClock clock;
  JobMetrics metrics({"gd", "wanda"}, &clock);
  const auto tell = [&](const char* label, const char* reason, bool failed) {
    v1::MethodResult result;
    result.set_method(label);
    result.set_termination_reason(reason);
    result.set_seconds(2);
    if (failed) result.mutable_failure()->set_code(3);
    StoredEvent event;
    event.kind = EventKind::kMethodResult;
    event.payload = result.SerializeAsString();
    metrics.OnEvents("a", {&event, 1});
  };
  tell("gd", "completed", false);
  tell("gd#2", "numerical error", false);
  tell("wanda", "", true);
  tell("unheard-of", "completed", false);
  const std::string text = TextOf(metrics);
  for (const char* sample :
       {"{method=\"gd\",outcome=\"completed\"} 1\n",
        "{method=\"gd\",outcome=\"numerical_error\"} 1\n",
        "{method=\"wanda\",outcome=\"failed\"} 1\n", "{method=\"other\",outcome=\"completed\"} 1\n",
        "attnprune_method_seconds_sum{method=\"gd\"} 4\n"}) {
    EXPECT_THAT(text, HasSubstr(sample));
  }
}

StepStats Step(int step, double seconds) {
  StepStats stats;
  stats.step = step;
  stats.steps = 100;
  stats.attention_loss = 1.5;
  stats.soft_relative_error = 0.25;
  stats.gradient_norm = 3;
  stats.seconds = seconds;
  return stats;
}

TEST(SolverMetrics, ShowsARunningMethodFromItsFirstStepToItsEnd) {
  TestClock clock;
  SolverMetrics metrics(2, {"gd"}, &clock);
  metrics.OnJobBegin(1);
  metrics.OnMethodBegin(1, "gd");
  EXPECT_THAT(TextOf(metrics), Not(HasSubstr("attnprune_running_step{")));
  metrics.OnStep(1, Step(1, 0.5));
  StepStats evaluated = Step(2, 2.0);
  evaluated.calibration_error = 0.125;
  metrics.OnStep(1, evaluated);
  metrics.OnStep(1, Step(3, 2.5));
  clock.now += absl::Seconds(3);
  const std::string text = TextOf(metrics);
  const std::string who = "{worker=\"1\",method=\"gd\"";
  for (const std::string& sample :
       {absl::StrCat("attnprune_running_step", who, "} 3\n"),
        absl::StrCat("attnprune_running_steps_limit", who, "} 100\n"),
        absl::StrCat("attnprune_running_attention_loss", who, "} 1.5\n"),
        absl::StrCat("attnprune_running_relative_error", who, ",data=\"calibration\"} 0.125\n"),
        absl::StrCat("attnprune_running_checkpoint_age_seconds", who, "} 3\n"),
        std::string("attnprune_worker_busy{worker=\"0\"} 0\n"),
        std::string("attnprune_worker_busy{worker=\"1\"} 1\n"),
        std::string("attnprune_solver_steps_total{method=\"gd\"} 3\n"),
        std::string("attnprune_solver_step_seconds_sum{method=\"gd\"} 2.5\n")}) {
    EXPECT_THAT(text, HasSubstr(sample));
  }
  EXPECT_THAT(text, Not(HasSubstr("data=\"held_out\"")));
  metrics.OnMethodEnd(1);
  metrics.OnJobEnd(1);
  EXPECT_THAT(TextOf(metrics), Not(HasSubstr("worker=\"1\",method")));
  EXPECT_THAT(TextOf(metrics), HasSubstr("attnprune_worker_busy{worker=\"1\"} 0\n"));
}

TEST(SolverMetrics, MeasuresTheCheckpointsAge) {
  TestClock clock;
  SolverMetrics metrics(1, {"gd"}, &clock);
  metrics.OnMethodBegin(0, "gd");
  metrics.OnStep(0, Step(1, 0.5));
  clock.now += absl::Seconds(60);
  metrics.OnCheckpoint(0, /*written=*/false, 100);
  EXPECT_THAT(TextOf(metrics), HasSubstr("age_seconds{worker=\"0\",method=\"gd\"} 60\n"));
  metrics.OnCheckpoint(0, /*written=*/true, 100);
  clock.now += absl::Seconds(2);
  const std::string text = TextOf(metrics);
  EXPECT_THAT(text, HasSubstr("age_seconds{worker=\"0\",method=\"gd\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_checkpoints_total{result=\"written\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_checkpoints_total{result=\"failed\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("attnprune_checkpoint_bytes_total 100\n"));
}

// Methods alternate while others read: no reader sees one's loss under the other's name.
TEST(SolverMetrics, NeverMixesTwoMethodsFigures) {
  TestClock clock;
  SolverMetrics metrics(1, {"one", "two"}, &clock);
  std::jthread solver([&] {
    for (int i = 0; i < 20'000; ++i) {
      const bool one = i % 2 == 0;
      metrics.OnMethodBegin(0, one ? "one" : "two");
      StepStats stats = Step(1, 0.1);
      stats.attention_loss = one ? 1 : 2;
      metrics.OnStep(0, stats);
      metrics.OnMethodEnd(0);
    }
  });
  for (int i = 0; i < 200; ++i) {
    const std::string text = TextOf(metrics);
    EXPECT_FALSE(absl::StrContains(text, "attention_loss{worker=\"0\",method=\"one\"} 2\n"));
    EXPECT_FALSE(absl::StrContains(text, "attention_loss{worker=\"0\",method=\"two\"} 1\n"));
  }
}

TEST(ProcessMetrics, ReadWhatTheSystemSays) {
  Exposition out;
  AddProcessMetrics(out);
  AddDiskMetrics("/", out);
  const std::string text = out.Finish();
  for (const char* name : {"process_cpu_seconds_total ", "process_resident_memory_bytes ",
                           "process_start_time_seconds ", "process_open_fds ", "process_max_fds ",
                           "process_threads ", "process_virtual_memory_bytes ",
                           "attnprune_disk_free_bytes ", "attnprune_disk_size_bytes "}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("\n", name))) << name;
  }
}

}  // namespace
}  // namespace attnprune
