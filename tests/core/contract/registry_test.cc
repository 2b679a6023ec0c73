// Methods by name and text; every bad text is refused by name, rule and value.
#include "core/methods/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Registry, ListsEveryMethodOnceInOrderOfName) {
  std::vector<std::string> names;
  for (const MethodInfo& info : Methods()) names.emplace_back(info.name);
  EXPECT_THAT(names, ElementsAre("alps", "alps+refit", "gd", "gd+refit", "joint", "joint+refit",
                                 "kfac", "kfac+refit", "magnitude", "magnitude+refit", "sparsegpt",
                                 "sparsegpt+refit", "ste", "ste+refit", "wanda", "wanda+refit"));
}

TEST(Registry, DeclaresDefaultsWithinTheirRangesAndHelpForEach) {
  for (const MethodInfo& info : Methods()) {
    EXPECT_STRNE(info.summary, "") << info.name;
    std::set<std::string> seen;
    for (const Parameter& parameter : info.parameters) {
      SCOPED_TRACE(std::string(info.name) + "." + parameter.name);
      EXPECT_TRUE(seen.insert(parameter.name).second);
      EXPECT_STRNE(parameter.help, "");
      EXPECT_LE(parameter.min, parameter.max);
      if (std::isnan(parameter.default_value)) {
        EXPECT_THAT(parameter.help, HasSubstr("Default"));
        continue;
      }
      EXPECT_GE(parameter.default_value, parameter.min);
      EXPECT_LE(parameter.default_value, parameter.max);
    }
  }
}

TEST(Registry, ReadsAMethodFromText) {
  for (const char* text : {"gd", "gd:steps=3", "gd:lambda=0.05,eta=5e-3,steps=10", "wanda",
                           "wanda+refit:refit_steps=200", "gd+refit:eta=0.1,refit_rate=0.01"}) {
    const auto method = ParseMethod(text);
    ASSERT_TRUE(method.ok()) << method.status();
    EXPECT_EQ((*method)->name(), std::string(text).substr(0, std::string(text).find(':')));
  }
}

struct BadText {
  const char* title;
  const char* text;
  const char* message;
};

TEST(Registry, RefusesWhatItCannotRead) {
  const BadText rows[] = {
      {"an unknown method", "adam",
       "method must be one of alps, alps+refit, gd, gd+refit, joint, joint+refit, kfac, "
       "kfac+refit, magnitude, magnitude+refit, "
       "sparsegpt, sparsegpt+refit, ste, ste+refit, wanda, wanda+refit, got \"adam\""},
      {"nothing at all", "", "method must be NAME or NAME:PARAMETER=NUMBER,..., got \"\""},
      {"parameters of nothing", ":eta=1", "method must be NAME or NAME:PARAMETER=NUMBER"},
      {"a colon without parameters", "gd:", "NAME:PARAMETER=NUMBER"},
      {"a comma too many", "gd:eta=1,", "NAME:PARAMETER=NUMBER"},
      {"an unknown parameter", "gd:lamda=1", "gd has no parameter \"lamda\"; it has lambda, eta"},
      {"a value below the range", "gd:lambda=-1",
       "gd.lambda must be a number in [0, 1e+12], got -1"},
      {"a value above the range", "gd:momentum=1",
       "gd.momentum must be a number in [0, 0.9999], got 1"},
      {"a value that is no number", "gd:eta=fast", "NAME:PARAMETER=NUMBER"},
      {"a parameter without a value", "gd:eta", "NAME:PARAMETER=NUMBER"},
      {"not a number", "gd:eta=nan", "gd.eta must be a number in"},
      {"an infinite value", "gd:eta=inf", "gd.eta must be a number in"},
      {"a fraction of a step", "gd:steps=1.5", "gd.steps must be a whole number in"},
      {"no steps", "gd:steps=0", "gd.steps must be a whole number in [1, 1e+06], got 0"},
      {"one step too many", "gd:steps=1000001",
       "gd.steps must be a whole number in [1, 1e+06], got 1000001"},
      {"no step length", "gd:eta=0", "gd.eta must be a number in [1e-12, 1e+12], got 0"},
      {"a switch that is neither 0 nor 1", "gd:project=2",
       "gd.project must be a whole number in [0, 1]"},
      {"a refit of nothing", "+refit", "method must be one of"},
      {"a refit of a refit", "wanda+refit+refit", "method must be one of"},
      {"a refit's parameter without its prefix", "wanda+refit:steps=3",
       "wanda+refit has no parameter \"steps\"; it has factors, refit_steps"},
      {"a refit's parameter out of range", "wanda+refit:refit_validation=1",
       "wanda+refit.refit_validation must be a number in [0, 0.9], got 1"},
      {"a parameter given twice", "gd:eta=1,eta=2", "gd.eta must be given once"},
  };
  for (const BadText& row : rows) {
    SCOPED_TRACE(row.title);
    const auto method = ParseMethod(row.text);
    EXPECT_EQ(method.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(method.status().message(), HasSubstr(row.message));
  }
}

ChosenMethod Chosen(const std::string& name, const std::map<std::string, double>& given = {}) {
  return ChooseMethod({name, given}).value();
}

TEST(Registry, KnowsTheValueOfEveryParameterOfAChosenMethod) {
  EXPECT_EQ(Chosen("gd").values.Get("steps"), 100);
  EXPECT_EQ(Chosen("gd", {{"steps", 7}}).values.Get("steps"), 7);
  EXPECT_TRUE(std::isnan(Chosen("gd").values.Get("lambda")));
  EXPECT_FALSE(ChooseMethod({"wanda", {{"steps", 7}}}).ok());
  EXPECT_FALSE(ChooseMethod({"adam", {}}).ok());
}

TEST(Registry, NamesTheFieldThatItRefuses) {
  EXPECT_EQ(FieldAtFault(ParseMethod("adam").status()), "method");
  EXPECT_EQ(FieldAtFault(ParseMethod("gd:speed=1").status()), "gd");
  EXPECT_EQ(FieldAtFault(ParseMethod("gd:eta=0").status()), "gd.eta");
  EXPECT_EQ(FieldAtFault(ParseMethodSpec("gd:eta", "--method").status()), "--method");
}

TEST(Registry, CountsTheStepsOfAMethodAndOfItsRefit) {
  EXPECT_EQ(Chosen("gd").StepsAtMost(), 100);
  EXPECT_EQ(Chosen("gd+refit", {{"steps", 7}, {"refit_steps", 30}}).StepsAtMost(), 37);
  EXPECT_EQ(Chosen("wanda+refit", {{"refit_steps", 30}}).StepsAtMost(), 30);
  EXPECT_EQ(Chosen("sparsegpt").StepsAtMost(), 0);
  EXPECT_EQ(Chosen("gd", {{"steps", 1e6}}).StepsAtMost(), 1000000);
}

TEST(Registry, EvaluatesEveryTenStepsAndLongRunsAboutAHundredTimes) {
  EXPECT_EQ(DefaultEvaluateEvery(100), 10);
  EXPECT_EQ(DefaultEvaluateEvery(1000), 10);
  EXPECT_EQ(DefaultEvaluateEvery(1001), 11);
  EXPECT_EQ(DefaultEvaluateEvery(3000), 30);
  EXPECT_EQ(DefaultEvaluateEvery(0), 10);
}

ProblemShape LayerShape() {
  ProblemShape shape;
  shape.weights =
      ProjectionShape{.w_q = {64, 64}, .w_k = {32, 64}, .heads = 8, .kv_heads = 4, .rope = {}};
  shape.calibration = {{.batches = 8, .length = 100, .features = 64}};
  return shape;
}

TEST(Registry, KnowsWhatEveryMethodNeedsAndThatItsRefitNeedsNoLess) {
  const ProblemShape shape = LayerShape();
  for (const MethodInfo& info : Methods()) {
    SCOPED_TRACE(info.name);
    const ParameterValues values = Chosen(info.name).values;
    EXPECT_GT(info.bytes(shape, values, DenseAttention::kKeep, 1), 10 * 4 * 96 * 64);
    EXPECT_GT(info.operations(shape, values, DenseAttention::kKeep), 0);
    EXPECT_EQ(info.steps == nullptr, Chosen(info.name).StepsAtMost() == 0);
    if (absl::EndsWith(info.name, "+refit")) continue;
    const ChosenMethod refit = Chosen(absl::StrCat(info.name, "+refit"));
    for (const DenseAttention dense :
         {DenseAttention::kKeep, DenseAttention::kRebuild, DenseAttention::kRecompute}) {
      EXPECT_GE(refit.info->bytes(shape, refit.values, dense, 2),
                info.bytes(shape, values, dense, 2));
      EXPECT_GT(refit.info->operations(shape, refit.values, dense),
                info.operations(shape, values, dense));
    }
  }
}

}  // namespace
}  // namespace attnprune
