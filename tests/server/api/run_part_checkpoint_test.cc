// Runs in independent order whose workers stop in the middle of a part.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/api/run_parts_fixture.h"

namespace attnprune::api {
namespace {

// Runs of a method with steps. What is stored of a part is asked for through claims of the test's.
class RunPartCheckpoints : public RunParts {
 protected:
  RunPartCheckpoints() {
    checkpoint_interval_ = absl::ZeroDuration();
    run_ = Independent();
    run_.mutable_method()->set_name("alps");
    run_.mutable_method()->clear_parameters();
    (*run_.mutable_method()->mutable_parameters())["steps"] = 5;
  }

  // What a whole run comes to.
  std::string Whole() {
    clock_.SetHook(0, [] {});
    return Verdict(WorkOn(Create(run_).name()));
  }

  // As when the server is killed: no claim on the run holds any more.
  void LoseWorkers(const std::string& name) {
    const JobRecord record = ValueOrDie(backend_.jobs().Get(name.substr(5)));
    ASSERT_TRUE(backend_.jobs()
                    .Requeue({record.id, record.fence}, RequeueCause::kWorkerLost, "worker lost")
                    .ok());
  }

  // A new run whose worker is lost at that look.
  std::string LostAt(int look) {
    const std::string name = Create(run_).name();
    clock_.SetHook(look, [this, name] { LoseWorkers(name); });
    StopSignal stop;
    Work(&stop);
    clock_.SetHook(0, [] {});
    return name;
  }

  v1::RunCheckpoint CheckpointOf(const JobClaim& part) {
    v1::RunCheckpoint checkpoint;
    const auto bytes = ValueOrDie(backend_.jobs().ReadCheckpoint(part));
    EXPECT_TRUE(checkpoint.ParseFromString(bytes.value_or("")));
    return checkpoint;
  }

  // Of the parts that are open of the only queued run, by part.
  std::map<int, v1::RunCheckpoint> Checkpoints() {
    const JobRecord job = *ValueOrDie(backend_.jobs().Claim("test", absl::Hours(1)));
    std::map<int, v1::RunCheckpoint> checkpoints;
    while (const auto part = ValueOrDie(backend_.jobs().ClaimPart(absl::Hours(1)))) {
      checkpoints[part->claim.part] = CheckpointOf(part->claim);
    }
    EXPECT_TRUE(backend_.jobs().Requeue({job.id, job.fence}, RequeueCause::kDraining, "").ok());
    return checkpoints;
  }

  // Of all attempts: steps of methods that were told more than once.
  int StepsDoneAgain(const std::string& name) {
    std::set<std::string> seen;
    int again = 0;
    for (const v1::JobEvent& event : Events(name)) {
      const v1::RunProgress& progress = event.run_progress();
      if (progress.step() == 0) continue;
      const std::string step =
          absl::StrCat(progress.block(), " ", progress.maps(0), " ", progress.step());
      again += seen.insert(step).second ? 0 : 1;
    }
    return again;
  }

  v1::Run run_;
};

TEST_F(RunPartCheckpoints, GoOnBehindTheLastStepWhereverTheWorkerWasLost) {
  const std::string expected = Whole();
  const int looks = clock_.looks();
  const int64_t blobs = Blobs();
  int in_a_method = 0;
  for (int nth = 1; nth < 11; ++nth) {
    SCOPED_TRACE(nth);
    const std::string name = LostAt(looks * nth / 11);
    ASSERT_EQ(Get(name).state(), v1::QUEUED);
    for (const auto& [part, checkpoint] : Checkpoints()) {
      in_a_method += checkpoint.tensor().empty() ? 0 : 1;
    }
    EXPECT_EQ(Verdict(WorkOn(name)), expected);
    EXPECT_LE(StepsDoneAgain(name), 1) << "the one whose checkpoint was refused";
    EXPECT_EQ(Blobs(), blobs) << "what was saved is left";
  }
  EXPECT_GT(in_a_method, 0);
}

TEST_F(RunPartCheckpoints, GoOnInThePassThroughTheirBlock) {
  const std::string expected = Whole();
  std::string name;
  for (int look = 1;; ++look) {
    ASSERT_LT(look, 100);
    name = LostAt(look);
    const auto checkpoints = Checkpoints();
    if (checkpoints.count(0) > 0 && !checkpoints.at(0).advanced().empty()) break;
    ASSERT_TRUE(backend_.runs().CancelRun(access::Everyone(), name).ok());
  }
  EXPECT_EQ(Parts(name).size(), 1u) << "the next part is not open yet";
  EXPECT_EQ(Verdict(WorkOn(name)), expected);
  int told = 0;
  for (const v1::JobEvent& event : Events(name)) {
    if (event.has_state_change()) told = 0;  // of the last attempt
    const v1::RunProgress& progress = event.run_progress();
    const bool pruned = progress.phase() == v1::PRUNING;
    if (pruned) break;
    told += progress.phase() == v1::ADVANCING ? 1 : 0;
  }
  EXPECT_EQ(told, 1) << "begun, and done at once";
}

TEST_F(RunPartCheckpoints, OfAHelperThatIsToGiveThemBackAreWhereTheRunsOwnWorkerGoesOn) {
  checkpoint_interval_ = absl::Hours(1);  // only what is saved because of the stop
  const std::string expected = Whole();
  const int64_t blobs = Blobs();
  int in_a_method = 0;
  for (const int look : {36, 50, 64, 78, 92}) {
    SCOPED_TRACE(look);
    const std::string name = Create(run_).name();
    WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
      StopSignal stop;
      clock_.SetHook(look, [&] { stop.Request(StopReason::kDraining); });
      EXPECT_FALSE(Help(part, &stop));
      const ClaimedPart again = *ValueOrDie(backend_.jobs().ClaimPart(absl::Hours(1)));
      ASSERT_EQ(again.claim.part, 1);
      in_a_method += CheckpointOf(again.claim).tensor().empty() ? 0 : 1;
      ASSERT_TRUE(backend_.jobs().Requeue(again.claim, RequeueCause::kDraining, "").ok());
    });
    EXPECT_EQ(Verdict(Get(name)), expected);
    EXPECT_EQ(StepsDoneAgain(name), 0);
    EXPECT_EQ(Blobs(), blobs) << "what was saved is left";
  }
  EXPECT_GT(in_a_method, 2);
}

TEST_F(RunPartCheckpoints, OfTwoWorkersThatAreKilledAreBothTakenUp) {
  const std::string expected = Whole();
  const int64_t blobs = Blobs();
  int in_a_method = 0;
  for (const int look : {40, 80}) {
    SCOPED_TRACE(look);
    const std::string name = Create(run_).name();
    WorkAndMeanwhile(name, [&](const ClaimedPart& part) {
      StopSignal stop;
      clock_.SetHook(look, [&] { LoseWorkers(name); });
      EXPECT_FALSE(Help(part, &stop));
      clock_.SetHook(0, [] {});
    });
    ASSERT_EQ(Get(name).state(), v1::QUEUED);
    in_a_method += Checkpoints()[1].tensor().empty() ? 0 : 1;
    EXPECT_EQ(Verdict(WorkOn(name)), expected);
    EXPECT_LE(StepsDoneAgain(name), 1);
    EXPECT_EQ(Blobs(), blobs) << "what was saved is left";
  }
  EXPECT_GT(in_a_method, 0);
}

}  // namespace
}  // namespace attnprune::api
