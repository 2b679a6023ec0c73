// Runs on real stores, with a worker that a test steps.
#ifndef ATTNPRUNE_TESTS_SERVER_API_RUN_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_API_RUN_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "core/base/field_error.h"
#include "server/api/event_log.h"
#include "server/execution/job_runner.h"
#include "tests/server/api/backend.h"
#include "tests/server/api/small_run.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/server/execution/hooked_clock.h"
#include "tests/support/value_or_die.h"

namespace attnprune::api {

using testing::HookedClock;
using testing::ValueOrDie;

inline constexpr char kGolden[] = "llama-sparsegpt-groups";

// What a run came to, but for times.
inline std::string Verdict(v1::Run run) {
  std::string text;
  for (v1::RunResult& result : *run.mutable_results()) {
    result.clear_seconds();
    for (v1::PrunedTensor& tensor : *result.mutable_tensors()) tensor.clear_seconds();
    text += result.ShortDebugString() + "\n";
  }
  return text;
}

class Runs : public ::testing::Test {
 protected:
  v1::Run Create(const v1::Run& run) {
    v1::CreateRunRequest request;
    *request.mutable_run() = run;
    return ValueOrDie(backend_.runs().CreateRun(access::Everyone(), request, {}));
  }
  absl::Status ErrorOf(const v1::Run& run) {
    v1::CreateRunRequest request;
    *request.mutable_run() = run;
    return backend_.runs().CreateRun(access::Everyone(), request, {}).status();
  }
  v1::RunEstimate EstimateOf(const v1::Run& run) {
    v1::CreateRunRequest request;
    *request.mutable_run() = run;
    request.set_validate_only(true);
    return ValueOrDie(backend_.runs().CreateRun(access::Everyone(), request, {})).estimate();
  }
  v1::Run Get(const std::string& name) {
    return ValueOrDie(backend_.runs().GetRun(access::Everyone(), name));
  }

  JobRunnerOptions Options(int64_t memory_budget = 0) {
    JobRunnerOptions options;
    options.threads = 2;
    options.clock = &clock_;
    options.progress_interval = absl::ZeroDuration();
    options.checkpoint_interval = checkpoint_interval_;
    options.spill_folder = folder_.path();
    options.min_free_disk_bytes = 0;
    options.memory_budget_bytes = memory_budget;
    return options;
  }
  // Claims the next job and runs it.
  void Work(StopSignal* stop, int64_t memory_budget = 0) {
    const absl::optional<JobRecord> job = ValueOrDie(backend_.jobs().Claim("test", absl::Hours(1)));
    ASSERT_TRUE(job.has_value());
    RunJob(*job, &backend_.jobs(), &backend_.tensors(), Options(memory_budget), stop);
  }
  v1::Run WorkOn(const std::string& name, int64_t memory_budget = 0) {
    StopSignal stop;
    Work(&stop, memory_budget);
    return Get(name);
  }
  // Created and worked on to its end.
  v1::Run Done(const v1::Run& run) {
    v1::Run done = WorkOn(Create(run).name());
    EXPECT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
    EXPECT_EQ(done.results_done(), done.results_total());
    return done;
  }
  v1::Run Golden() { return GoldenRun(kGolden, &backend_.tensors()); }

  // The run stopped at some of its looks at the clock, each time taken up again: ends with
  // `expected`. After one that was not stopped, whose looks are counted.
  void ExpectTheSameHoweverOftenStopped(const v1::Run& run, const std::string& expected,
                                        int stops) {
    const int looks = clock_.looks();
    ASSERT_GT(looks, stops);
    for (int stop_at = 1; stop_at <= looks; stop_at += looks / stops) {
      SCOPED_TRACE(stop_at);
      const std::string name = Create(run).name();
      StopSignal stop;
      clock_.SetHook(stop_at, [&] { stop.Request(StopReason::kDraining); });
      Work(&stop);
      if (Get(name).state() == v1::QUEUED) WorkOn(name);
      EXPECT_EQ(Verdict(Get(name)), expected);
    }
  }

  // A run that was drained where `wanted` holds of what it has saved: queued again. Each try is
  // stopped `stride` looks at the clock earlier than the one before, the first at `look`.
  struct Drained {
    std::string name;
    v1::RunCheckpoint checkpoint;
  };
  Drained DrainedWhere(const v1::Run& run, int look, int stride,
                       const std::function<bool(const v1::RunCheckpoint&)>& wanted) {
    Drained drained;
    for (; look > 0; look -= stride) {
      drained.name = Create(run).name();
      StopSignal stop;
      clock_.SetHook(look, [&] { stop.Request(StopReason::kDraining); });
      Work(&stop);
      clock_.SetHook(0, [] {});
      if (Get(drained.name).state() != v1::QUEUED) continue;  // it had ended by then
      EXPECT_TRUE(drained.checkpoint.ParseFromString(CheckpointOf(drained.name)));
      if (wanted(drained.checkpoint)) return drained;
      EXPECT_TRUE(backend_.runs().CancelRun(access::Everyone(), drained.name).ok());
    }
    ADD_FAILURE() << "never drained there";
    return drained;
  }

  // A run that is spoilt, and the field that it is refused by.
  struct Spoilt {
    const char* field;
    const char* message;
    std::function<void(v1::Run&)> spoil;
  };
  void ExpectRefused(const v1::Run& good, const std::vector<Spoilt>& rows) {
    for (const Spoilt& row : rows) {
      v1::Run run = good;
      row.spoil(run);
      const absl::Status status = ErrorOf(run);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row.field;
      EXPECT_EQ(FieldAtFault(status), row.field) << status;
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(row.message)) << row.field;
    }
  }
  // Of a model whose head is missing, without held-out rows: for whatever needs its losses.
  void ExpectRefusedWithoutAHead(v1::Run run) {
    run.clear_held_out();
    auto& tensors = *run.mutable_model()->mutable_tensors();
    const auto head = std::find_if(tensors.begin(), tensors.end(), [](const v1::TensorRef& tensor) {
      return tensor.name() == "lm_head.weight";
    });
    ASSERT_NE(head, tensors.end());
    tensors.erase(head);
    EXPECT_THAT(std::string(ErrorOf(run).message()), ::testing::HasSubstr("lm_head"));
  }

  std::vector<v1::JobEvent> Events(const std::string& name) {
    std::vector<v1::JobEvent> events;
    SharedBatch batch;
    do {
      const int64_t after = events.empty() ? 0 : events.back().sequence();
      batch = ValueOrDie(ReadLog(&backend_.jobs(), name.substr(5), after));
      for (const auto& event : batch->events) events.push_back(*event);
    } while (batch->full);
    return events;
  }
  // What a run that is queued again has saved; it stays queued.
  std::string CheckpointOf(const std::string& name) {
    const JobRecord job = *ValueOrDie(backend_.jobs().Claim("test", absl::Hours(1)));
    const JobClaim claim{job.id, job.fence};
    const std::string bytes = ValueOrDie(backend_.jobs().ReadCheckpoint(claim)).value_or("");
    EXPECT_EQ(job.id, name.substr(5));
    EXPECT_TRUE(backend_.jobs().Requeue(claim, RequeueCause::kDraining, "").ok());
    return bytes;
  }
  std::vector<std::string> Warnings(const std::string& name) {
    std::vector<std::string> warnings;
    for (const v1::JobEvent& event : Events(name)) {
      if (!event.warning().empty()) warnings.push_back(event.warning());
    }
    return warnings;
  }
  // Blobs of hidden states that are stored.
  int64_t Blobs() { return backend_.tensors().Usage().blobs; }

  absl::Duration checkpoint_interval_ = absl::Seconds(5);
  const RealClock real_{};
  HookedClock clock_{&real_};
  TemporaryFolder folder_;
  Backend backend_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_RUN_FIXTURE_H_
