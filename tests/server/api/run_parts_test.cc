// Runs in independent order: parts that several workers do.
#include "server/execution/run_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "server/execution/worker_pool.h"
#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

using ::testing::HasSubstr;

class RunParts : public Runs {
 protected:
  v1::Run Independent() {
    v1::Run run = Golden();
    run.set_order(v1::INDEPENDENT);
    return run;
  }

  // Works on the run, and calls `meanwhile` on the worker's thread with part 1, claimed, while the
  // worker has part 0.
  void WorkAndMeanwhile(const std::string& name,
                        std::function<void(const ClaimedPart&)> meanwhile) {
    LookForPart(name, std::move(meanwhile));
    StopSignal stop;
    Work(&stop);
  }

  void Help(const ClaimedPart& part, StopSignal* stop) {
    RunHelper helper(&backend_.jobs(), &backend_.tensors());
    helper.Help(part, Options(), stop);
  }

  std::vector<PartStatus> Parts(const std::string& name) {
    return ValueOrDie(backend_.jobs().ReadParts(name.substr(5)));
  }

 private:
  void LookForPart(const std::string& name, std::function<void(const ClaimedPart&)> meanwhile) {
    clock_.SetHook(1, [this, name, meanwhile = std::move(meanwhile)] {
      if (Parts(name).size() < 2) return LookForPart(name, meanwhile);
      meanwhile(*ValueOrDie(backend_.jobs().ClaimPart("", "helper", absl::Hours(1))));
    });
  }
};

TEST_F(RunParts, DoneByAHelperGiveTheSameBits) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const int64_t blobs = Blobs();
  const std::string name = Create(Independent()).name();
  int part_done = -1;
  WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
    StopSignal stop;
    Help(part, &stop);
    for (const PartStatus& status : Parts(name)) {
      if (status.done && status.part == part.claim.part) part_done = status.part;
    }
  });
  EXPECT_EQ(part_done, 1) << "the second block, while the worker has the first";
  EXPECT_EQ(Get(name).state(), v1::SUCCEEDED) << Get(name).failure().message();
  EXPECT_EQ(Verdict(Get(name)), expected);
  EXPECT_EQ(Blobs(), blobs) << "hidden states are left";
}

TEST_F(RunParts, GivenBackByAHelperAreDoneByTheRunsOwnWorker) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const std::string name = Create(Independent()).name();
  bool helped = false;
  WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
    StopSignal draining;
    draining.Request(StopReason::kDraining);
    Help(part, &draining);
    helped = true;
  });
  EXPECT_TRUE(helped);
  EXPECT_EQ(Verdict(Get(name)), expected);
}

TEST_F(RunParts, ThatFailEndTheRunWhichGoesOnWhenTheCauseIsMended) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const std::string name = Create(Independent()).name();
  WorkAndMeanwhile(name, [&](ClaimedPart part) {
    part.states = {std::string(64, '0')};
    StopSignal stop;
    Help(part, &stop);
  });
  const v1::Run failed = Get(name);
  EXPECT_EQ(failed.state(), v1::FAILED);
  EXPECT_THAT(failed.failure().message(), HasSubstr("hidden states before block 1"));
  ASSERT_TRUE(backend_.runs().ResumeRun(name).ok());
  EXPECT_EQ(Verdict(WorkOn(name)), expected);
}

TEST_F(RunParts, LeaveTheSameBitsHoweverOftenTheRunIsStoppedInBetween) {
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  const int looks = clock_.looks();
  ASSERT_GT(looks, 50);
  for (int look = 1; look <= looks; look += looks / 8) {
    SCOPED_TRACE(look);
    const std::string name = Create(Independent()).name();
    StopSignal stop;
    clock_.SetHook(look, [&] { stop.Request(StopReason::kDraining); });
    Work(&stop);
    if (Get(name).state() == v1::QUEUED) WorkOn(name);
    EXPECT_EQ(Verdict(Get(name)), expected);
  }
}

// Ends of jobs, as a pool's store tells of them.
class EndListener final : public JobStoreListener {
 public:
  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override {
    MutexLock lock(&mutex_);
    for (const StoredEvent& event : events) {
      if (event.kind == EventKind::kTerminal) ended_.insert(job_id);
      progress_ += IsProgress(event.kind) ? 1 : 0;
    }
    changed_.NotifyAll();
  }
  void OnCancelRequested(const std::string&) override {}

  void AwaitEnd(const std::string& name) {
    MutexLock lock(&mutex_);
    changed_.Wait(
        &mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ended_.count(name.substr(5)) > 0; });
  }
  void AwaitProgress(int events) {
    MutexLock lock(&mutex_);
    changed_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return progress_ >= events; });
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::set<std::string> ended_ ABSL_GUARDED_BY(mutex_);
  int progress_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST_F(RunParts, OfAPoolsRunAreDoneByAllItsWorkers) {
  const std::string expected = Verdict(WorkOn(Create(Independent()).name()));
  WorkerPoolOptions options;
  options.workers = 3;
  options.runner = Options();
  options.runner.clock = &real_;
  options.upkeep_interval = absl::Hours(1);
  EndListener ends;
  WorkerPool pool(options, &backend_.jobs(), &backend_.tensors());
  JobListeners listeners({&ends, &pool});
  backend_.jobs().SetListener(&listeners);
  pool.Start();
  const std::string name = Create(Independent()).name();
  ends.AwaitEnd(name);
  EXPECT_EQ(Verdict(Get(name)), expected);

  v1::Run endless = Independent();
  endless.mutable_method()->set_name("alps");
  endless.mutable_method()->clear_parameters();
  const std::string other = Create(endless).name();
  ends.AwaitProgress(1);
  ASSERT_TRUE(backend_.runs().CancelRun(other).ok());
  ends.AwaitEnd(other);
  pool.Drain(absl::InfiniteDuration());
  backend_.jobs().SetListener(nullptr);
}

}  // namespace
}  // namespace attnprune::api
