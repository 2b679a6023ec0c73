#include "client/cli/views/line_plot.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointwise;

MATCHER(IsNearly, "") {
  return std::abs(std::get<0>(arg) - std::get<1>(arg)) <= 1e-12 * std::abs(std::get<1>(arg));
}

// One line from (10, 1) to (1000, 3), each y between half and double of it.
PlotPanel OneLine() {
  PlotPanel panel{
      .title = "a panel", .x_label = "n", .x_scale = XScale::kLinear, .x_ticks = {}, .lines = {}};
  panel.lines.push_back({.legend = 0, .points = {{10, 1, 0.5, 2}, {1000, 3, 1.5, 6}}});
  return panel;
}

TEST(LinearTicks, AreRoundNumbersThatHoldTheRange) {
  EXPECT_THAT(LinearTicks(0, 1), Pointwise(IsNearly(), {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}));
  EXPECT_THAT(LinearTicks(0, 0.31),
              Pointwise(IsNearly(), {0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35}));
  EXPECT_THAT(LinearTicks(-3, 4000),
              Pointwise(IsNearly(), {-1000.0, 0.0, 1000.0, 2000.0, 3000.0, 4000.0}));
}

TEST(LogarithmicTicks, AreOneTwoAndFiveOverAFewDecadesAndPowersOverMany) {
  EXPECT_THAT(LogarithmicTicks(0.03, 0.9), Pointwise(IsNearly(), {0.02, 0.05, 0.1, 0.2, 0.5, 1.0}));
  EXPECT_THAT(LogarithmicTicks(0.0002, 0.9),
              Pointwise(IsNearly(), {0.0001, 0.001, 0.01, 0.1, 1.0}));
}

TEST(LinePlot, DrawsALineWithItsSpreadAndItsMarks) {
  const std::string svg = LinePlot("title", {OneLine()}, {"gd"}, YScales::kOne);
  // y from 0 to 6 over the 300 pixels from 360 up to 60.
  EXPECT_THAT(svg, HasSubstr("\"M70.0 310.0L490.0 210.0\" class=\"line\""));
  EXPECT_THAT(svg, HasSubstr("\"M70.0 260.0L490.0 60.0L490.0 285.0L70.0 335.0Z\" class=\"band\""));
  EXPECT_THAT(svg, HasSubstr("\"M70.0 310.0h0M490.0 210.0h0\" class=\"mark\""));
  EXPECT_THAT(svg, AllOf(HasSubstr(">title<"), HasSubstr(">a panel<"), HasSubstr(">gd<")));
}

TEST(LinePlot, PutsTheTicksOfALogarithmicAxisWhereTheyBelong) {
  PlotPanel panel = OneLine();
  panel.x_scale = XScale::kLogarithmic;
  panel.x_ticks = {10, 100, 1000};
  EXPECT_THAT(LinePlot("", {panel}, {}, YScales::kOne),
              HasSubstr("<text x=\"280.0\" y=\"378.0\" class=\"x\">100</text>"));
}

TEST(LinePlot, IsLogarithmicWhereValuesAreFarApart) {
  PlotPanel panel = OneLine();
  panel.lines[0].points = {{0, 0.01}, {1, 1}};
  const std::string svg = LinePlot("", {panel}, {}, YScales::kOne);
  EXPECT_THAT(svg, HasSubstr("M70.0 360.0L490.0 60.0"));
  EXPECT_THAT(svg, HasSubstr("<text x=\"64.0\" y=\"214.0\" class=\"y\">0.1</text>")) << "half-way";
}

TEST(LinePlot, GivesPanelsOneScaleOrTheirOwn) {
  PlotPanel small = OneLine();
  small.lines[0].points = {{10, 1}, {1000, 1}};
  const auto at = [&](YScales scales) { return LinePlot("", {OneLine(), small}, {}, scales); };
  EXPECT_THAT(at(YScales::kOne), HasSubstr("M580.0 310.0L1000.0 310.0")) << "1 of 6";
  EXPECT_THAT(at(YScales::kOneAPanel), HasSubstr("M580.0 60.0L1000.0 60.0")) << "1 of 1";
}

TEST(LinePlot, DrawsASinglePointAndNoPointAtAll) {
  PlotPanel panel = OneLine();
  panel.lines[0].points = {{10, 0, 0, 0}};
  EXPECT_THAT(LinePlot("", {panel}, {}, YScales::kOne), Not(HasSubstr("nan")));
  panel.lines[0].points.clear();
  EXPECT_THAT(LinePlot("", {panel}, {}, YScales::kOne), Not(HasSubstr("nan")));
  EXPECT_THAT(LinePlot("", {}, {}, YScales::kOne), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace attnprune::cli
