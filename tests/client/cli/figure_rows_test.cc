#include "client/cli/reproduce/figure_rows.h"

#include <cmath>

#include "client/cli/reproduce/figure_data.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Lt;
using ::testing::SizeIs;

FigureRow Row(double rho, uint64_t seed, const std::string& method, double calibration,
              double held_out) {
  return {.place = {FigureAxis::kRho, rho},
          .k = 16,
          .seed = seed,
          .method = method,
          .calibration_error = calibration,
          .held_out_error = held_out,
          .seconds = 1.5};
}

// Two seeds of gd and one of wanda at rho = 0.5, one of gd at 0.7; in the order they came.
std::vector<FigureRow> Rows() {
  return {Row(0.7, 0, "gd", 0.4, 0.8), Row(0.5, 0, "wanda", 0.5, 0.6), Row(0.5, 1, "gd", 0.3, NAN),
          Row(0.5, 0, "gd", 0.1, 0.2)};
}

FigureOptions Options() {
  FigureOptions options;
  options.ks = {16};
  options.axes = {{FigureAxis::kRho, {0.5, 0.7}}};
  options.methods = {{.text = "gd", .method = {}}, {.text = "wanda", .method = {}}};
  return options;
}

TEST(RowsOf, GivesAResultToEveryPointItMakes) {
  const FigureJob job{
      .k = 2,
      .seed = 1,
      .n = 8,
      .rho = 0.5,
      .runs = {
          {.text = "gd", .method = {}, .places = {{FigureAxis::kN, 8}, {FigureAxis::kRho, 0.5}}},
          {.text = "wanda", .method = {}, .places = {{FigureAxis::kN, 8}}}}};
  v1::Job ended;
  ended.add_results()->mutable_relative_error()->set_calibration(0.25);
  ended.add_results()->mutable_failure()->set_message("no Cholesky factor");
  const std::vector<FigureRow> rows = RowsOf(job, ended);
  ASSERT_THAT(rows, SizeIs(2)) << "none of a method that failed";
  EXPECT_EQ(rows[1].place.x, 0.5);
  EXPECT_EQ(rows[1].calibration_error, 0.25);
  EXPECT_TRUE(std::isnan(rows[1].held_out_error));
  EXPECT_THAT(RowsOf(job, v1::Job()), IsEmpty()) << "a job that failed before its first method";
}

TEST(FigureCsv, HasALineForEachMethodAndSeedInOrder) {
  const auto rows = RowsOfAxis(Options(), FigureAxis::kRho, Rows());
  EXPECT_EQ(FigureCsv(Figure::kFigure2, rows),
            "figure,axis,x,k,method,seed,calibration_error,held_out_error,seconds\n"
            "figure2,rho,0.5,16,gd,0,0.1,0.2,1.500\n"
            "figure2,rho,0.5,16,gd,1,0.3,,1.500\n"
            "figure2,rho,0.5,16,wanda,0,0.5,0.6,1.500\n"
            "figure2,rho,0.7,16,gd,0,0.4,0.8,1.500\n");
  EXPECT_THAT(RowsOfAxis(Options(), FigureAxis::kN, Rows()), IsEmpty());
}

TEST(FigureCsv, QuotesMethodsWithCommas) {
  EXPECT_THAT(FigureCsv(Figure::kFigure3, {Row(0.5, 0, "gd:eta=1,steps=2", 1, 1)}),
              HasSubstr(",\"gd:eta=1,steps=2\","));
}

TEST(SpreadOf, IsMeanSmallestAndLargestOfTheSeeds) {
  const Spread gd = SpreadOf(Rows(), {FigureAxis::kRho, 0.5}, 16, "gd", ErrorKind::kCalibration);
  EXPECT_DOUBLE_EQ(gd.mean, 0.2);
  EXPECT_EQ(gd.low, 0.1);
  EXPECT_EQ(gd.high, 0.3);
  const Spread held_out = SpreadOf(Rows(), {FigureAxis::kRho, 0.5}, 16, "gd", ErrorKind::kHeldOut);
  EXPECT_EQ(held_out.high, 0.2) << "the seed without a held-out error does not count";
  EXPECT_TRUE(
      std::isnan(SpreadOf(Rows(), {FigureAxis::kRho, 0.5}, 64, "gd", ErrorKind::kHeldOut).mean));
}

TEST(FigureTable, ShowsCalibrationAndHeldOutErrorOfEachMethod) {
  const FigureOptions options = Options();
  EXPECT_EQ(FigureTable(options, options.axes[0], Rows()),
            "k   rho         gd      wanda\n"
            "16  0.5  0.2 / 0.2  0.5 / 0.6\n"
            "16  0.7  0.4 / 0.8      - / -\n");
}

TEST(FigurePlot, HasAPanelForEachKAndItsPointsForTicks) {
  FigureOptions options = Options();
  options.ks = {16, 64};
  const std::string svg = FigurePlot(options, options.axes[0], Rows(), ErrorKind::kHeldOut);
  EXPECT_THAT(svg, HasSubstr("Figure 2: relative error on held-out data against rho"));
  EXPECT_THAT(svg, HasSubstr("k = 64 batches; mean and range of 3 seeds"));
  EXPECT_THAT(svg, HasSubstr("class=\"x\">0.7</text>"));
  EXPECT_THAT(svg, HasSubstr(">wanda</text>"));
}

TEST(ChooseSequences, DrawsDifferentOnesForEachSeed) {
  const std::vector<int64_t> first = ChooseSequences(16, 8, 0);
  EXPECT_THAT(first, SizeIs(8));
  for (size_t i = 1; i < first.size(); ++i) EXPECT_THAT(first[i - 1], Lt(first[i]));
  EXPECT_EQ(ChooseSequences(16, 8, 0), first) << "the same again";
  EXPECT_NE(ChooseSequences(16, 8, 1), first);
  EXPECT_THAT(ChooseSequences(3, 3, 5), ElementsAre(0, 1, 2)) << "all there are";
}

}  // namespace
}  // namespace attnprune::cli
