#include "client/cli/views/loss_plot.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

v1::JobEvent Step(int step, double loss) {
  v1::JobEvent event;
  event.mutable_progress()->set_method("gd");
  event.mutable_progress()->set_step(step);
  event.mutable_progress()->set_attention_loss(loss);
  return event;
}

TEST(CurveRecorder, ReplacesStepsThatAreComputedAgain) {
  CurveRecorder recorder;
  for (const int step : {1, 2, 3, 4}) recorder.Apply(Step(step, 10));
  recorder.Apply(Step(3, 20));  // another attempt, from a checkpoint
  ASSERT_THAT(recorder.curves(), SizeIs(1));
  const auto& loss = recorder.curves()[0].loss;
  ASSERT_THAT(loss, SizeIs(3));
  EXPECT_EQ(loss[2].step, 3);
  EXPECT_EQ(loss[2].value, 20);
}

TEST(CurveRecorder, TakesTheHeldOutErrorWhereThereIsOne) {
  CurveRecorder recorder;
  v1::JobEvent event = Step(1, 10);
  event.mutable_progress()->set_calibration_error(0.5);
  recorder.Apply(event);
  event.mutable_progress()->set_step(2);
  event.mutable_progress()->set_held_out_error(0.25);
  recorder.Apply(event);
  EXPECT_EQ(recorder.curves()[0].error[0].value, 0.5);
  EXPECT_EQ(recorder.curves()[0].error[1].value, 0.25);
}

TEST(LossPlot, DrawsACurveFromTheFirstStepToTheLast) {
  const std::string svg = LossPlot(
      "jobs/x", {{.label = "gd", .loss = {{0, 0.0}, {100, 1.0}}, .error = {}, .final_error = NAN}});
  EXPECT_THAT(svg, HasSubstr("M70.0 360.0L490.0 60.0")) << "from bottom left to top right";
  EXPECT_THAT(svg, HasSubstr(">gd</text>"));
}

TEST(LossPlot, DrawsADashedLineForAMethodWithoutSteps) {
  const Curve wanda{.label = "wanda", .loss = {}, .error = {}, .final_error = 0.25};
  const std::string svg = LossPlot("", {wanda});
  EXPECT_THAT(svg, HasSubstr("stroke-dasharray"));
  EXPECT_THAT(svg, HasSubstr("wanda  relative error 0.25000"));
}

TEST(LossPlot, LeavesOutWhatIsNotFiniteAndEscapesText) {
  const Curve odd{.label = "a<b&c",
                  .loss = {{1, NAN}, {2, 3.0}, {3, INFINITY}},
                  .error = {},
                  .final_error = NAN};
  const std::string svg = LossPlot("<job>", {odd});
  EXPECT_THAT(svg, HasSubstr("a&lt;b&amp;c"));
  EXPECT_THAT(svg, HasSubstr("&lt;job&gt;"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(LossPlot, IsADocumentWithoutAnyCurve) {
  const std::string svg = LossPlot("empty", {});
  EXPECT_THAT(svg, ::testing::StartsWith("<svg "));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
}

}  // namespace
}  // namespace attnprune::cli
