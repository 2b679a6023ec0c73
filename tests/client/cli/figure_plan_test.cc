#include "client/cli/reproduce/figure_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

FigureMethod Named(const std::string& name) {
  FigureMethod method{.text = name, .method = {}};
  method.method.set_name(name);
  return method;
}

// gd and wanda over two points of each axis; of each, one is what the others stay at.
FigureOptions SmallFigure2() {
  FigureOptions options;
  options.ks = {2};
  options.seeds = 1;
  options.lambda = 0.04;
  options.n = 10;
  options.rho = 0.5;
  options.axes = {{FigureAxis::kLambda, {0.04, 0.08}},
                  {FigureAxis::kN, {10, 20}},
                  {FigureAxis::kRho, {0.5, 0.75}}};
  options.methods = {Named("gd"), Named("wanda")};
  return options;
}

TEST(PlanFigure, RunsWhatPointsHaveInCommonOnce) {
  const std::vector<FigureJob> jobs = PlanFigure(SmallFigure2());
  ASSERT_THAT(jobs, SizeIs(3)) << "(n, rho) = (10, 0.5), (20, 0.5), (10, 0.75)";
  EXPECT_EQ(jobs[1].n, 20);
  EXPECT_EQ(jobs[2].rho, 0.75);
  const std::vector<MethodRun>& runs = jobs[0].runs;
  ASSERT_THAT(runs, SizeIs(3)) << "gd at each lambda, wanda";
  EXPECT_THAT(runs[0].places, SizeIs(3)) << "one point of every axis";
  EXPECT_EQ(runs[1].text, "wanda");
  EXPECT_THAT(runs[1].places, SizeIs(4)) << "both lambdas, n = 10, rho = 0.5";
  EXPECT_EQ(runs[2].text, "gd");
  EXPECT_EQ(runs[2].places[0].x, 0.08);
}

TEST(PlanFigure, GivesGdThePapersLambdaTimesN) {
  const std::vector<FigureJob> jobs = PlanFigure(SmallFigure2());
  EXPECT_DOUBLE_EQ(jobs[0].runs[0].method.parameters().at("lambda"), 0.4);
  EXPECT_DOUBLE_EQ(jobs[0].runs[0].method.parameters().at("eta"), 0.25);
  EXPECT_DOUBLE_EQ(jobs[1].runs[0].method.parameters().at("lambda"), 0.8) << "n = 20";
  EXPECT_TRUE(jobs[0].runs[1].method.parameters().empty()) << "wanda has no lambda";
}

TEST(PlanFigure, KeepsTheParametersThatAreGiven) {
  FigureOptions options = SmallFigure2();
  options.methods = {Named("gd")};
  (*options.methods[0].method.mutable_parameters())["lambda"] = 2;
  const std::vector<FigureJob> jobs = PlanFigure(options);
  ASSERT_THAT(jobs[0].runs, SizeIs(1)) << "the lambda axis is flat";
  EXPECT_EQ(jobs[0].runs[0].method.parameters().at("lambda"), 2);
  EXPECT_EQ(jobs[0].runs[0].method.parameters().at("eta"), 0.05);
}

TEST(PlanFigure, GivesGdSection7sSettingsInFigure3) {
  FigureOptions options = SmallFigure2();
  options.figure = Figure::kFigure3;
  options.axes = {{FigureAxis::kRho, {0.5}}};
  options.methods = {Named("gd+refit")};
  const std::vector<FigureJob> jobs = PlanFigure(options);
  const auto& parameters = jobs[0].runs[0].method.parameters();
  EXPECT_EQ(parameters.at("lambda"), 0.05);
  EXPECT_EQ(parameters.at("eta"), 0.005);
}

TEST(PlanFigure, CompletesASeedBeforeTheNext) {
  FigureOptions options = SmallFigure2();
  options.ks = {2, 4};
  options.seeds = 2;
  options.axes = {{FigureAxis::kRho, {0.5}}};
  std::vector<std::pair<uint64_t, int64_t>> order;
  for (const FigureJob& job : PlanFigure(options)) order.emplace_back(job.seed, job.k);
  using Pair = std::pair<uint64_t, int64_t>;
  EXPECT_THAT(order, ElementsAre(Pair(0, 2), Pair(0, 4), Pair(1, 2), Pair(1, 4)));
}

TEST(DefaultAxes, HaveNoLambdaOnARealLayer) {
  EXPECT_THAT(DefaultAxes(Figure::kFigure2, Points::kFull), SizeIs(3));
  EXPECT_THAT(DefaultAxes(Figure::kFigure3, Points::kFull), SizeIs(2));
  for (const AxisPoints& axis : DefaultAxes(Figure::kFigure2, Points::kFew)) {
    EXPECT_LE(axis.points.size(), 4u);
  }
}

TEST(ParseAxis, TakesPointsInAnyOrderOrTheUsualOnes) {
  EXPECT_THAT(ParseAxis("n=32,16", Figure::kFigure3, Points::kFull)->points, ElementsAre(16, 32));
  EXPECT_THAT(ParseAxis("n", Figure::kFigure3, Points::kFew)->points, ElementsAre(32, 64, 128));
}

TEST(ParseAxis, SaysWhatAnAxisMustBe) {
  const auto error = [](const std::string& text) {
    const auto axis = ParseAxis(text, Figure::kFigure3, Points::kFull);
    return axis.ok() ? "none" : std::string(axis.status().message());
  };
  EXPECT_EQ(error("lambda"), "--axis must be one of n, rho in figure3, got lambda");
  EXPECT_EQ(error("n=16,x"), "--axis must be NAME or NAME=X,..., got n=16,x");
  EXPECT_THAT(error("n="), HasSubstr("got n="));
}

TEST(ValidateFigure, NamesFlagRuleAndValue) {
  struct Row {
    void (*spoil)(FigureOptions&);
    const char* says;
  };
  const Row rows[] = {
      {[](FigureOptions& o) { o.rho = 1; }, "--rho must be in [0, 1), got 1"},
      {[](FigureOptions& o) { o.n = 0; }, "--n must be a whole number in [1, 1048576], got 0"},
      {[](FigureOptions& o) { o.lambda = 0; }, "--lambda must be above 0, got 0"},
      {[](FigureOptions& o) { o.axes[1].points = {2.5}; },
       "--axis n must be a whole number in [1, 1048576], got 2.5"},
      {[](FigureOptions& o) {
         o.axes[2].points = {0.5, 0.5};
       },
       "--axis rho must name each once, got 0.5 twice"},
      {[](FigureOptions& o) { o.axes.push_back(o.axes[0]); },
       "--axis must name each once, got lambda twice"},
      {[](FigureOptions& o) { o.methods.push_back(o.methods[0]); },
       "--method must name each once, got gd twice"},
      {[](FigureOptions& o) {
         o.ks = {2, 2};
       },
       "--k must name each once, got 2 twice"},
  };
  EXPECT_TRUE(Validate(SmallFigure2()).ok());
  for (const Row& row : rows) {
    FigureOptions options = SmallFigure2();
    row.spoil(options);
    EXPECT_EQ(std::string(Validate(options).message()), row.says);
  }
}

}  // namespace
}  // namespace attnprune::cli
