// A fixed series of calls that goes through a job store's whole life, each call one write.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SCENARIO_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SCENARIO_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/queue/job_store.h"
#include "tests/server/queue/sqlite/sqlite_place.h"

namespace attnprune::testing {

// The contents depend on the number of steps only (ids apart, which dumps leave out).
class Scenario {
 public:
  static int Steps();

  // `clock`: the store's, fresh.
  Scenario(JobStore* store, SteppedClock* clock) : store_(*store), clock_(*clock) {}
  absl::Status Step();  // the next one
  absl::Status Run(int steps);

 private:
  friend struct ScenarioSteps;
  absl::Status Create(std::string* id, NewJob job);
  absl::Status Claim(JobClaim* claim);
  absl::Status ClaimPart();        // the run's own worker
  absl::Status Append(int count);  // progress, and a warning behind it

  JobStore& store_;
  SteppedClock& clock_;
  int next_ = 0;
  std::string a_, b_, c_, d_, run_;
  JobClaim claim_a_, claim_b_, claim_run_, claim_part_;
};

// Contents of the store in `folder` after a restart one hour after the scenario's start, or
// "ERROR …". Checkpoints are shown too, so all jobs are claimed: a last look.
std::string DumpAfterRestart(const std::string& folder);

// What DumpAfterRestart must show after 0, 1, … Steps() steps.
std::vector<std::string> ExpectedDumps();

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SCENARIO_H_
