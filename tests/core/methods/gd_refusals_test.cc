// Forged states and derived defaults of `gd` are refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "core/io/safetensors.h"
#include "core/methods/solver_state.h"
#include "tests/core/contract/contract_problems.h"
#include "tests/core/methods/gd_runs.h"

namespace attnprune {
namespace {

TEST(GdParameters, RefuseALambdaWhoseDefaultStepLengthWouldOverflow) {
  const Problem problem = testing::FusedContractProblem();
  const auto tiny = RunGd(problem, {{"lambda", 1e-50}});
  EXPECT_EQ(tiny.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(tiny.status().message(), ::testing::HasSubstr("gd.lambda must be at least 1e-13"));
  const auto none = RunGd(problem, {{"lambda", 0}});
  EXPECT_THAT(none.status().message(), ::testing::HasSubstr("gd.eta must be given"));
}

TEST(ResumedGd, RefusesAForgedStateWithMoreStepsThanTheRunHas) {
  const Problem problem = testing::FusedContractProblem();
  Recorder recorder(Recorder::States::kSaved);
  ASSERT_TRUE(RunGd(problem, {{"steps", 3}}, {}, recorder).ok());
  // Read with whatever fingerprint it carries, changed, and sealed anew.
  const std::string& image = recorder.states().back();
  const auto parsed = ParseSafetensors(image, "state").value();
  const uint64_t fingerprint =
      std::stoull(parsed.metadata().find("fingerprint")->second, nullptr, 16);
  SolverState state = ParseState(image, fingerprint).value();
  SolverStateView forged{fingerprint, 2147483647, state.numbers, {}};
  for (const auto& [name, matrix] : state.matrices) forged.matrices[name] = &matrix;
  const auto late = RunGd(problem, {{"steps", 3}}, {.resume_from = SerializeState(forged)});
  EXPECT_THAT(late.status().message(),
              ::testing::HasSubstr("resume_from must hold a step of at most 3, got 2147483647"));
  forged.step = 2;
  state.matrices.begin()->second(0, 0) = NAN;
  const auto not_finite = RunGd(problem, {{"steps", 3}}, {.resume_from = SerializeState(forged)});
  EXPECT_THAT(not_finite.status().message(),
              ::testing::HasSubstr("resume_from must hold every matrix of the run, finite"));
}

}  // namespace
}  // namespace attnprune
