#include "client/export/scalar_events.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/export/events.h"

namespace attnprune::exporting {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::map<std::string, float> ScalarsOf(const tensorboard::Event& event) {
  std::map<std::string, float> scalars;
  for (const auto& value : event.summary().value()) scalars[value.tag()] = value.simple_value();
  return scalars;
}

TEST(ScalarEvents, AreTheFiguresOfAStepAtTheEventsOwnTime) {
  ScalarEvents scalars;
  const auto records = scalars.Add(EvaluatedAt("gd", 4, 0.5, 0.75));
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].step(), 4);
  EXPECT_EQ(records[0].wall_time(), 1764000004.5);
  EXPECT_THAT(ScalarsOf(records[0]),
              UnorderedElementsAre(Pair("attention_loss", 0.25f), Pair("regularization", 0.0f),
                                   Pair("soft_relative_error", 0.0f), Pair("gradient_norm", 2.0f),
                                   Pair("relative_error/calibration", 0.5f),
                                   Pair("relative_error/held_out", 0.75f)));
}

TEST(ScalarEvents, HaveNoErrorWhereAStepWasNotEvaluated) {
  ScalarEvents scalars;
  const auto records = scalars.Add(ProgressAt("gd", 1));
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(ScalarsOf(records[0]).count("relative_error/calibration"), 0u);
}

TEST(ScalarEvents, OfAResultStandAtItsLastStep) {
  ScalarEvents scalars;
  scalars.Add(ProgressAt("gd", 100));
  const auto records = scalars.Add(ResultOf("gd", 100));
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].step(), 100);
  EXPECT_THAT(ScalarsOf(records[0]),
              UnorderedElementsAre(Pair("sparsity", 0.5f), Pair("result/calibration", 0.125f),
                                   Pair("result/held_out", 0.25f)));
}

TEST(ScalarEvents, OfAMethodWithoutStepsAreInTheErrorChartsToo) {
  ScalarEvents scalars;
  const auto records = scalars.Add(ResultOf("wanda", 0));
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].step(), 0);
  EXPECT_EQ(ScalarsOf(records[0])["relative_error/calibration"], 0.125f);
  EXPECT_EQ(ScalarsOf(records[0])["relative_error/held_out"], 0.25f);
}

TEST(ScalarEvents, VoidTheStepsThatALostWorkerLeavesToBeTakenAgain) {
  ScalarEvents scalars;
  for (const int step : {1, 2, 3}) EXPECT_EQ(scalars.Add(ProgressAt("gd", step)).size(), 1u);
  const auto records = scalars.Add(ProgressAt("gd", 2));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].session_log().status(), tensorboard::SessionLog::START);
  EXPECT_EQ(records[0].step(), 2);
  EXPECT_TRUE(records[1].has_summary());
  EXPECT_EQ(scalars.Add(ProgressAt("gd", 3)).size(), 1u) << "the curve goes on from there";
}

TEST(MethodOf, IsEmptyForWhatHasNoFigures) {
  v1::JobEvent warning;
  warning.set_warning("w");
  EXPECT_EQ(MethodOf(warning), "");
  v1::JobEvent failed = ResultOf("gd", 3);
  failed.mutable_method_result()->mutable_failure()->set_code(3);
  EXPECT_EQ(MethodOf(failed), "");
  EXPECT_EQ(MethodOf(ResultOf("gd", 3)), "gd");
  EXPECT_EQ(MethodOf(ProgressAt("gd#2", 3)), "gd#2");
}

TEST(WithoutVoidSteps, KeepsTheLastTimeThatAStepWasTaken) {
  std::vector<v1::JobEvent> events;
  for (const int step : {1, 2, 5, 8, 4, 6}) events.push_back(ProgressAt("gd", step));
  events.insert(events.begin() + 4, ProgressAt("ste", 9));  // another method's steps void nothing
  std::vector<std::string> kept;
  for (const v1::JobEvent& event : WithoutVoidSteps(events)) {
    kept.push_back(event.progress().method() + std::to_string(event.progress().step()));
  }
  EXPECT_THAT(kept, ElementsAre("gd1", "gd2", "ste9", "gd4", "gd6"));
}

}  // namespace
}  // namespace attnprune::exporting
