// What a run is expected to need, before any of it is stored.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

// Hidden states of 32 floats a token, and as many that a stretch's pass goes on from.
TEST_F(Runs, CountWhatTheyHoldOfTheirTokensInMemoryOrOnTheDisk) {
  v1::Run run = Golden();
  run.clear_held_out();
  *run.mutable_calibration() =
      StoredTokens(std::vector<int64_t>(20'000, 50), 0, 1, &backend_.tensors());
  const double bytes = 1e6 * 2 * 32 * sizeof(float);
  v1::CreateRunRequest request;
  *request.mutable_run() = run;
  request.set_validate_only(true);
  const auto estimate_within = [&request](int64_t memory) {
    Backend elsewhere({.max_job_memory_bytes = memory});
    return ValueOrDie(elsewhere.runs().CreateRun(access::Everyone(), request, {})).estimate();
  };
  const v1::RunEstimate in_memory = estimate_within(0);
  const v1::RunEstimate in_files = estimate_within(in_memory.memory_bytes() - 1);
  EXPECT_NEAR(static_cast<double>(in_files.disk_bytes() - in_memory.disk_bytes()), bytes, 1);
  EXPECT_GT(static_cast<double>(in_memory.memory_bytes() - in_files.memory_bytes()), 0.7 * bytes);
}

TEST_F(Runs, AreValidatedByTheirShapesAloneWhereNothingIsStored) {
  Backend elsewhere;
  v1::CreateRunRequest request;
  *request.mutable_run() = GoldenRun(kGolden, &elsewhere.tensors());
  request.mutable_run()->clear_held_out();
  request.mutable_run()->set_held_out_fraction(0.5);
  request.set_validate_only(true);
  const v1::Run stored = ValueOrDie(elsewhere.runs().CreateRun(access::Everyone(), request, {}));
  const v1::Run not_stored = ValueOrDie(backend_.runs().CreateRun(access::Everyone(), request, {}));
  EXPECT_EQ(not_stored.estimate().memory_bytes(), stored.estimate().memory_bytes());
  EXPECT_EQ(not_stored.results_total(), stored.results_total());
  EXPECT_EQ(Blobs(), 0);
  request.set_validate_only(false);
  EXPECT_EQ(backend_.runs().CreateRun(access::Everyone(), request, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace attnprune::api
