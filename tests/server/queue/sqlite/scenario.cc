#include "tests/server/queue/sqlite/scenario.h"

#include <functional>

#include "core/base/status_macros.h"
#include "tests/server/queue/job_store_conformance.h"
#include "tests/server/queue/store_dump.h"

namespace attnprune::testing {

absl::Status Scenario::Create(std::string* id, NewJob job) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const CreateOutcome outcome, store_.Create(job));
  *id = outcome.job.id;
  return absl::OkStatus();
}

absl::Status Scenario::Claim(JobClaim* claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<JobRecord> job,
                             store_.Claim("worker", absl::Seconds(30)));
  if (!job.has_value()) return absl::InternalError("nothing to claim");
  *claim = {job->id, job->fence};
  return absl::OkStatus();
}

absl::Status Scenario::ClaimPart() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<ClaimedPart> part,
                             store_.ClaimOwnPart(claim_run_));
  if (!part.has_value()) return absl::InternalError("no part to claim");
  claim_part_ = part->claim;
  return absl::OkStatus();
}

struct ScenarioSteps {
  using Step = std::function<absl::Status(Scenario&)>;

  static const std::vector<Step>& All() {
    static const auto& steps = *new std::vector<Step>{
        [](Scenario& s) {
          NewJob job = WithRequest("request", "digest");
          job.tenant = "tenant";
          job.labels = {{"team", "vision"}};
          job.tensor_digests = {"aa", "bb"};
          return s.Create(&s.a_, job);
        },
        [](Scenario& s) { return s.store_.NoteTensors("tenant", {"noted"}); },
        [](Scenario& s) { return s.Create(&s.b_, WithPriority(1)); },
        [](Scenario& s) { return s.Claim(&s.claim_b_); },
        [](Scenario& s) { return s.store_.SaveCheckpoint(s.claim_b_, "one"); },
        [](Scenario& s) { return s.Append(3); },
        [](Scenario& s) { return s.store_.SaveCheckpoint(s.claim_b_, "two"); },
        [](Scenario& s) {
          return s.store_.FinishMethod(s.claim_b_, 0, "first result", {"mask"}).status();
        },
        [](Scenario& s) { return s.Append(2); },
        [](Scenario& s) { return s.Claim(&s.claim_a_); },
        [](Scenario& s) { return s.store_.RequestCancel(s.a_).status(); },
        [](Scenario& s) { return s.store_.SaveCheckpoint(s.claim_b_, "three"); },
        [](Scenario& s) { return s.store_.CompactEvents(s.b_, {.progress = 2}); },
        [](Scenario& s) {
          return s.store_.Requeue(s.claim_b_, RequeueCause::kDraining, "draining");
        },
        [](Scenario& s) { return s.store_.Finish(s.claim_a_, JobState::kCancelled, {}, ""); },
        [](Scenario& s) { return s.Create(&s.c_, NewJob()); },
        [](Scenario& s) { return s.Claim(&s.claim_b_); },
        [](Scenario& s) { return s.store_.RequestCancel(s.c_).status(); },
        [](Scenario& s) { return s.store_.Delete(s.c_); },
        [](Scenario& s) {
          NewJob large;
          large.spec = std::string(20'000, 's');
          return s.Create(&s.d_, large);
        },
        [](Scenario& s) { return s.store_.RenewLease(s.claim_b_, absl::Seconds(30)).status(); },
        [](Scenario& s) {
          return s.store_.FinishMethod(s.claim_b_, 1, "second result", {}).status();
        },
        [](Scenario& s) {
          return s.store_.Finish(s.claim_b_, JobState::kFailed,
                                 {absl::StatusCode::kInternal, "no luck"}, "");
        },
        [](Scenario& s) { return s.store_.Delete(s.a_); },
        [](Scenario& s) {
          NewJob run = WithPriority(1);
          run.kind = JobKind::kRun;
          return s.Create(&s.run_, run);
        },
        [](Scenario& s) { return s.Claim(&s.claim_run_); },
        [](Scenario& s) { return s.store_.OpenPart(s.claim_run_, 0, {"state"}); },
        [](Scenario& s) { return s.ClaimPart(); },
        [](Scenario& s) { return s.store_.SaveCheckpoint(s.claim_part_, "one of a part"); },
        [](Scenario& s) { return s.store_.SaveCheckpoint(s.claim_part_, "two of a part"); },
        [](Scenario& s) {
          return s.store_.FinishMethod(s.claim_part_, 0, "a part's result", {}).status();
        },
        [](Scenario& s) { return s.store_.FinishPart(s.claim_part_); },
        [](Scenario& s) { return s.store_.OpenPart(s.claim_run_, 1, {"state"}); },
        [](Scenario& s) { return s.ClaimPart(); },
        [](Scenario& s) { return s.store_.SaveCheckpoint(s.claim_part_, "three of a part"); },
    };
    return steps;
  }
};

int Scenario::Steps() { return static_cast<int>(ScenarioSteps::All().size()); }

absl::Status Scenario::Append(int count) {
  std::vector<NewEvent> events(static_cast<size_t>(count), ProgressEvent("progress"));
  events.push_back({EventKind::kWarning, "warning"});
  return store_.AppendEvents(claim_b_, events).status();
}

absl::Status Scenario::Step() {
  clock_.Advance(absl::Seconds(1));
  return ScenarioSteps::All()[static_cast<size_t>(next_++)](*this);
}

absl::Status Scenario::Run(int steps) {
  for (int i = 0; i < steps; ++i) ATTNPRUNE_RETURN_IF_ERROR(Step());
  return absl::OkStatus();
}

std::string DumpAfterRestart(const std::string& folder) {
  SteppedClock clock;
  clock.Advance(absl::Hours(1));
  const auto opened = OpenStore(folder, {.clock = &clock});
  if (!opened.ok()) return "ERROR " + opened.status().ToString();
  const std::string dump = DumpStore(*opened->store);
  return dump + DumpCheckpoints(*opened->store);
}

std::vector<std::string> ExpectedDumps() {
  std::vector<std::string> dumps;
  for (int steps = 0; steps <= Scenario::Steps(); ++steps) {
    ScratchFolder folder;
    {
      SteppedClock clock;
      const auto opened = OpenStore(folder.path(), {.clock = &clock});
      EXPECT_TRUE(opened.ok()) << opened.status();
      if (!opened.ok()) return {};
      const absl::Status ran = Scenario(opened->store.get(), &clock).Run(steps);
      EXPECT_TRUE(ran.ok()) << ran;
    }
    dumps.push_back(DumpAfterRestart(folder.path()));
  }
  return dumps;
}

}  // namespace attnprune::testing
