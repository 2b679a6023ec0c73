#include "server/api/record_convert.h"

#include <gtest/gtest.h>

#include "attnprune/v1/prune_service.pb.h"

namespace attnprune::api {
namespace {

StoredEvent Stored(const v1::Progress& progress) {
  StoredEvent event;
  event.sequence = 7;
  event.kind = EventKind::kProgress;
  event.payload = progress.SerializeAsString();
  return event;
}

TEST(RecordConvert, TellsOfAStepAsProgress) {
  v1::Progress progress;
  progress.set_method("gd");
  progress.set_step(3);
  const v1::JobEvent event = ToProto(Stored(progress), JobKind::kMethods).value();
  ASSERT_TRUE(event.has_progress());
  EXPECT_EQ(event.progress().step(), 3);
}

// Whoever reads steps meets none that is no step.
TEST(RecordConvert, TellsOfAPhaseApartFromSteps) {
  v1::Progress progress;
  progress.mutable_phase()->set_phase(v1::JUDGING);
  progress.mutable_phase()->set_method("gd#2");
  progress.mutable_phase()->set_share(0.5);
  const v1::JobEvent event = ToProto(Stored(progress), JobKind::kMethods).value();
  EXPECT_FALSE(event.has_progress());
  ASSERT_TRUE(event.has_phase());
  EXPECT_EQ(event.sequence(), 7);
  EXPECT_EQ(event.phase().method(), "gd#2");
  EXPECT_EQ(event.phase().share(), 0.5);
}

TEST(RunEvents, AreProgressAndResultsOfTheirOwnWithoutHiddenStates) {
  v1::Progress progress;
  progress.mutable_run()->set_block(3);
  EXPECT_EQ(ToProto(Stored(progress), JobKind::kRun).value().run_progress().block(), 3);
  v1::RunResult result;
  result.set_block(2);
  result.add_states()->set_kind(v1::HiddenStates::CALIBRATION);
  const StoredEvent stored = {.kind = EventKind::kMethodResult,
                              .payload = result.SerializeAsString()};
  const v1::JobEvent event = ToProto(stored, JobKind::kRun).value();
  EXPECT_EQ(event.run_result().block(), 2);
  EXPECT_EQ(event.run_result().states_size(), 0);
  EXPECT_TRUE(ToProto({.kind = EventKind::kTerminal}, JobKind::kRun).value().has_run_terminal());
}

}  // namespace
}  // namespace attnprune::api
