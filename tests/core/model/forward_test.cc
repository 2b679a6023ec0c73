#include "core/model/forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/model/model_pass.h"
#include "core/model/pass_estimate.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::ExpectedIds;
using testing::GoldenModel;
using ::testing::HasSubstr;
using testing::OpenExpected;
using testing::ValueOrDie;

Tokens TwoRows(const std::string& model) {
  Tokens tokens = ExpectedIds(OpenExpected(model));
  tokens.ids.insert(tokens.ids.end(), tokens.ids.begin() + 3, tokens.ids.begin() + 13);
  tokens.lengths.push_back(10);
  return tokens;
}

std::vector<double> LossesOf(const std::string& model, const Tokens& tokens, int threads,
                             const PassOptions& options = {}) {
  ThreadPool pool(threads);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel(model), pool));
  return ValueOrDie(TokenLosses(*forward, tokens, options));
}

TEST(Forward, AnyNumberOfThreadsGivesTheSameBits) {
  for (const char* model : {"llama", "gemma2", "gpt2", "falcon-40b-like"}) {
    const Tokens tokens = TwoRows(model);
    const std::vector<double> one = LossesOf(model, tokens, 1);
    EXPECT_EQ(one, LossesOf(model, tokens, 2)) << model;
    EXPECT_EQ(one, LossesOf(model, tokens, 4)) << model;
  }
}

TEST(Forward, SequencesDoNotSeeEachOther) {
  const Tokens tokens = TwoRows("llama");
  const std::vector<double> both = LossesOf("llama", tokens, 1);
  Tokens second;
  second.ids.assign(tokens.ids.begin() + 24, tokens.ids.end());
  second.lengths = {10};
  const std::vector<double> alone = LossesOf("llama", second, 1);
  ASSERT_EQ(both.size(), 23u + 9);
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_NEAR(both[23 + i], alone[i], 1e-5);
}

TEST(Forward, HiddenStatesInAFileGiveTheSameBits) {
  const Tokens tokens = TwoRows("llama");
  EXPECT_EQ(LossesOf("llama", tokens, 1),
            LossesOf("llama", tokens, 1, {.memory_budget = 1, .spill_folder = "/tmp"}));
}

TEST(Forward, ProductsInBf16AreCloseAndTheSameBitsOnAnyNumberOfThreads) {
  if (const absl::Status there = CheckBf16Products(); !there.ok()) GTEST_SKIP() << there;
  const auto losses = [](const std::string& model, int threads) {
    ThreadPool pool(threads);
    const auto forward = ValueOrDie(Forward::Open(GoldenModel(model), pool, Compute::kBf16));
    return ValueOrDie(TokenLosses(*forward, TwoRows(model)));
  };
  for (const char* model : {"llama", "gemma2", "gpt2", "falcon-40b-like"}) {
    const std::vector<double> half = losses(model, 1), whole = LossesOf(model, TwoRows(model), 1);
    EXPECT_EQ(half, losses(model, 3)) << model;
    EXPECT_NE(half, whole) << model;
    EXPECT_NEAR(Summarize(half).nats_per_token, Summarize(whole).nats_per_token, 0.02) << model;
  }
}

TEST(PassEstimate, CountsProductsAndWhatIsHeld) {
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const ModelOptions& model = forward->options();
  const std::vector<Index> rows = {24, 10};
  const auto estimate = [&](Index layers, int64_t budget, Compute compute = Compute::kFloat32) {
    return EstimatePass(model, compute, rows, layers, budget);
  };
  const PassEstimate one = estimate(1, 0), two = estimate(2, 0);
  double entries = 0;
  for (const LinearMap map :
       {LinearMap::kQuery, LinearMap::kKey, LinearMap::kValue, LinearMap::kOutput, LinearMap::kGate,
        LinearMap::kUp, LinearMap::kDown}) {
    const StoredMap stored = *ValueOrDie(forward->weights().Map(0, map));
    entries += static_cast<double>(stored.out) * static_cast<double>(stored.in);
  }
  const double attended = 24 * 25 / 2 + 10 * 11 / 2;
  const auto heads = static_cast<double>(model.heads);
  const auto width = heads * static_cast<double>(model.head_dim);
  EXPECT_EQ(one.map_operations, 2 * 34 * entries);
  EXPECT_EQ(one.attention_operations, attended * (4 * width + 60 * heads));
  EXPECT_EQ(two.map_operations, 2 * one.map_operations);
  EXPECT_EQ(two.attention_operations, 2 * one.attention_operations);
  EXPECT_EQ(two.bytes, one.bytes) << "a layer at a time";
  EXPECT_EQ(one.bytes - estimate(1, /*budget=*/1).bytes,
            static_cast<double>(HiddenStatesBytes(model, 34)))
      << "which are in a file then";
  EXPECT_EQ(estimate(1, 0, Compute::kBf16).bytes - one.bytes, 2 * entries);
  EXPECT_DOUBLE_EQ(one.Seconds(2e9, 1e9),
                   one.map_operations / 1.7e9 + one.attention_operations / 0.85e9);
}

TEST(PassEstimate, CountsAPartOfALayer) {
  using Until = LayerHooks::Until;
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const ModelOptions& model = forward->options();
  const std::vector<Index> rows = {24, 10};
  const auto between = [&](LayerPoint from, Until until) {
    return OperationsBetween(model, rows, from, until);
  };
  const PassEstimate whole = EstimatePass(model, Compute::kFloat32, rows, 1, 0);
  EXPECT_EQ(between(LayerPoint::kInput, Until::kEnd),
            whole.map_operations + whole.attention_operations);
  EXPECT_EQ(between(LayerPoint::kInput, Until::kAttentionInput), 0) << "its norm is not counted";
  const double d = static_cast<double>(model.hidden_size), inner = static_cast<double>(model.ffn);
  EXPECT_EQ(between(LayerPoint::kMixed, Until::kMlpInput),
            2 * 34 * d * static_cast<double>(model.heads * model.head_dim));
  EXPECT_EQ(between(LayerPoint::kAttended, Until::kDownInput), 2 * 34 * 2 * d * inner);
  EXPECT_EQ(between(LayerPoint::kAttended, Until::kEnd), 2 * 34 * 3 * d * inner);
  EXPECT_EQ(
      between(LayerPoint::kInput, Until::kOutputInput) + between(LayerPoint::kMixed, Until::kEnd),
      between(LayerPoint::kInput, Until::kEnd));
}

TEST(Forward, TellsItsProgressAndCanBeStopped) {
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  std::vector<double> shares;
  PassOptions options;
  options.progress = [&shares](const PassProgress& p) { shares.push_back(p.share); };
  ASSERT_TRUE(TokenLosses(*forward, TwoRows("llama"), options).ok());
  ASSERT_GE(shares.size(), 3u);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_EQ(shares.back(), 1);
  options.stopped = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(TokenLosses(*forward, TwoRows("llama"), options).status()));
}

TEST(Forward, RefusesTokensThatTheModelDoesNotHave) {
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("opt"), pool));
  EXPECT_THAT(
      forward->Check({{1, 64}, {2}}).message(),
      HasSubstr("sequence 0, token 1: id must be in [0, 64), the model's vocabulary, got 64"));
  EXPECT_THAT(forward->Check({{1, -1}, {2}}).message(), HasSubstr("got -1"));
  const Tokens longer{std::vector<int64_t>(65, 2), {65}};
  EXPECT_THAT(forward->Check(longer).message(),
              HasSubstr("must have at most 64 tokens, the model's learned positions, got 65"));
  const auto roberta = ValueOrDie(Forward::Open(GoldenModel("roberta"), pool));
  EXPECT_THAT(roberta->Check({{5, 1}, {2}}).message(), HasSubstr("the model's padding"));
}

TEST(LossDifference, ComparesTokenByTokenAndRowByRow) {
  const std::vector<double> first = {1, 2, 3, 4}, other = {2, 2, 4, 6};  // differences 1 0 1 2
  const LossDifference d = Compare(first, other, {3, 3});
  EXPECT_EQ(d.mean, 1);
  EXPECT_NEAR(d.standard_error_by_token, std::sqrt(2.0 / 3 / 4), 1e-12);
  // Rows' residuals: -1 and +1.
  EXPECT_NEAR(d.standard_error_by_row, std::sqrt(2.0 * 2 / 1) / 4, 1e-12);
  EXPECT_EQ(Compare(first, other, {5}).standard_error_by_row, 0);
}

}  // namespace
}  // namespace attnprune
