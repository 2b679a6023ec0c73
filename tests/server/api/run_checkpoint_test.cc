// Runs whose worker is lost in the middle of a block.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class RunCheckpoints : public Runs {
 protected:
  RunCheckpoints() {
    checkpoint_interval_ = absl::ZeroDuration();
    run_ = Golden();
    run_.mutable_method()->set_name("alps");
    run_.mutable_method()->clear_parameters();
    (*run_.mutable_method()->mutable_parameters())["steps"] = 5;
  }

  // The looks at the clock of a whole run, and what it comes to.
  int Looks(std::string* verdict) {
    clock_.SetHook(0, [] {});
    *verdict = Verdict(WorkOn(Create(run_).name()));
    return clock_.looks();
  }

  // A new run whose worker is lost at that look.
  std::string LostAt(int look) {
    const std::string name = Create(run_).name();
    clock_.SetHook(look, [this, name] {
      const JobRecord record = ValueOrDie(backend_.jobs().Get(name.substr(5)));
      ASSERT_TRUE(backend_.jobs()
                      .Requeue({record.id, record.fence}, RequeueCause::kWorkerLost, "worker lost")
                      .ok());
    });
    StopSignal stop;
    Work(&stop);
    clock_.SetHook(0, [] {});
    return name;
  }

  // Events since the last time that the run began.
  std::vector<v1::JobEvent> LastAttempt(const std::string& name) {
    std::vector<v1::JobEvent> events;
    for (const v1::JobEvent& event : Events(name)) {
      if (event.has_state_change()) events.clear();
      events.push_back(event);
    }
    return events;
  }

  v1::Run run_;
};

TEST_F(RunCheckpoints, GiveTheSameBitsWhereverTheWorkerWasLost) {
  std::string expected;
  const int looks = Looks(&expected);
  const int64_t blobs = Blobs();
  int resumed_methods = 0, skipped_passes = 0;
  for (int part = 1; part < 6; ++part) {
    const int look = looks * part / 6;
    SCOPED_TRACE(look);
    const std::string name = LostAt(look);
    const v1::Run done = WorkOn(name);
    ASSERT_EQ(done.state(), v1::SUCCEEDED) << done.failure().message();
    EXPECT_EQ(Verdict(done), expected);
    // How the attempt goes on: in the middle of a method, or of a stretch.
    for (const v1::JobEvent& event : LastAttempt(name)) {
      const v1::RunProgress& progress = event.run_progress();
      if (!event.has_run_progress() || progress.phase() != v1::PRUNING) continue;
      if (progress.step() == 0) continue;
      resumed_methods += progress.step() > 1 ? 1 : 0;
      break;
    }
    int shares = 0;
    for (const v1::JobEvent& event : LastAttempt(name)) {
      if (event.run_progress().phase() == v1::PRUNING) break;
      shares += event.run_progress().phase() == v1::COLLECTING ? 1 : 0;
    }
    skipped_passes += shares == 1 ? 1 : 0;  // begun, and done at once
    EXPECT_EQ(Blobs(), blobs) << "what was saved is left";
  }
  EXPECT_GT(resumed_methods, 0);
  EXPECT_GT(skipped_passes, 0);
}

TEST_F(RunCheckpoints, ThatAreLostCostTheirWorkAndNothingElse) {
  std::string expected;
  const int looks = Looks(&expected);
  std::string name;
  v1::RunCheckpoint checkpoint;
  for (int look = looks / 2; checkpoint.tensor().empty(); ++look) {  // until a method is at work
    ASSERT_LT(look, looks);
    if (!name.empty()) {
      ASSERT_TRUE(backend_.runs().CancelRun(access::Everyone(), name).ok());
    }
    name = LostAt(look);
    ASSERT_TRUE(checkpoint.ParseFromString(CheckpointOf(name)));
  }
  ASSERT_GT(checkpoint.moments_size(), 0);
  ASSERT_TRUE(backend_.tensors().Remove(checkpoint.moments(0)).ok());
  EXPECT_EQ(Verdict(WorkOn(name)), expected);
  EXPECT_THAT(Warnings(name), Contains(HasSubstr("moments that were saved")));
}

}  // namespace
}  // namespace attnprune::api
