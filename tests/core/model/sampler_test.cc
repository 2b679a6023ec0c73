// Rows that a model writes itself: each token is drawn from what a full forward pass predicts.
#include "core/model/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/model/model_pass.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using testing::ExpectedIds;
using testing::GoldenModel;
using testing::GoldenModels;
using testing::OpenExpected;
using testing::ValueOrDie;

// The golden sequence, and its first half below it.
Tokens WholeAndHalf(const std::string& model) {
  Tokens tokens = ExpectedIds(OpenExpected(model));
  const Index half = tokens.total() / 2;
  for (Index t = 0; t < half; ++t) tokens.ids.push_back(tokens.ids[static_cast<size_t>(t)]);
  tokens.lengths.push_back(half);
  return tokens;
}

// Logits behind every token but a row's last, by position and then by row, a position at a time.
std::vector<std::vector<float>> CachedLogits(Forward& forward, const Tokens& tokens,
                                             HeldWeights held) {
  CachedForward cached = ValueOrDie(CachedForward::Open(forward, held));
  cached.Begin(tokens.lengths);
  std::vector<std::vector<float>> all(tokens.ids.size());
  Matrix logits;
  for (Index t = 0; t + 1 < tokens.lengths[0]; ++t) {
    std::vector<int64_t> ids;
    std::vector<size_t> places;
    Index first = 0;
    for (const Index length : tokens.lengths) {
      if (t + 1 < length) places.push_back(static_cast<size_t>(first + t));
      first += length;
    }
    for (const size_t place : places) ids.push_back(tokens.ids[place]);
    EXPECT_TRUE(cached.Advance(ids).ok());
    EXPECT_TRUE(cached.Logits(logits).ok());
    for (size_t i = 0; i < places.size(); ++i) {
      const float* const row = logits.row(static_cast<Index>(i));
      all[places[i]].assign(row, row + logits.cols());
    }
  }
  return all;
}

double LossOf(const std::vector<float>& logits, int64_t next) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  return std::log(sum) - double{logits[static_cast<size_t>(next)]};
}

class CachedForwardTest : public ::testing::TestWithParam<std::string> {};

// Both passes round in float32, in another order: golden logits are within 1e-4 of float64's.
TEST_P(CachedForwardTest, LosesOnEveryTokenWhatAFullPassLosesOnIt) {
  ThreadPool pool(2);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel(GetParam()), pool));
  const Tokens tokens = WholeAndHalf(GetParam());
  if (forward->options().masked_model()) {
    EXPECT_EQ(CachedForward::Open(*forward, HeldWeights::kAll).status().code(),
              absl::StatusCode::kFailedPrecondition);
    return;
  }
  const std::vector<double> wanted = ValueOrDie(TokenLosses(*forward, tokens));
  const auto logits = CachedLogits(*forward, tokens, HeldWeights::kAll);
  auto expected = wanted.begin();
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i].empty()) continue;
    worst = std::max(worst, std::abs(LossOf(logits[i], tokens.ids[i + 1]) - *expected++));
  }
  EXPECT_EQ(expected, wanted.end());
  EXPECT_LE(worst, 2e-5);
  EXPECT_EQ(CachedLogits(*forward, tokens, HeldWeights::kOneLayer), logits)
      << "no bit depends on what is held";
}

INSTANTIATE_TEST_SUITE_P(Models, CachedForwardTest, ::testing::ValuesIn(GoldenModels()),
                         [](const auto& test) { return testing::TestName(test.param); });

class SampledRows : public ::testing::Test {
 protected:
  Tokens Written(const SampleOptions& options) {
    return ValueOrDie(SampleRows(*forward_, real_, options));
  }

  ThreadPool pool_{1};
  const std::unique_ptr<Forward> forward_ = ValueOrDie(Forward::Open(GoldenModel("llama"), pool_));
  const Tokens real_{{3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 2, 4, 6, 8, 10, 12}, {10, 6}};
};

TEST_F(SampledRows, BeginAsTheRealRowsDoAndHaveTheirLengths) {
  const Tokens rows = Written({.rows = 5, .prefix = 3});
  EXPECT_THAT(rows.lengths, ElementsAre(10, 6, 10, 6, 10));
  EXPECT_EQ(rows.lengths, SampledLengths(real_.lengths, 5));
  ASSERT_EQ(rows.total(), 42);
  Index first = 0;
  for (size_t i = 0; i < 5; ++i) {
    const auto begin = rows.ids.begin() + first;
    const std::vector<int64_t> three(begin, begin + 3);
    EXPECT_THAT(three, i % 2 == 0 ? ElementsAre(3, 5, 7) : ElementsAre(2, 4, 6)) << i;
    first += rows.lengths[i];
  }
  EXPECT_NE(std::vector<int64_t>(rows.ids.begin(), rows.ids.begin() + 10),
            std::vector<int64_t>(rows.ids.begin() + 16, rows.ids.begin() + 26))
      << "two rows of one beginning go on by draws of their own";
  EXPECT_TRUE(forward_->Check(rows).ok());
}

TEST_F(SampledRows, AreTheRealOnesWhereThePrefixIsAllOfThem) {
  EXPECT_EQ(Written({.rows = 2, .prefix = 10}).ids, real_.ids);
}

TEST_F(SampledRows, AreTheSameOnAnyThreadsAndWithinAnyMemoryAndDependOnTheSeed) {
  const SampleOptions options{.rows = 9, .seed = 4};
  const Tokens rows = Written(options);
  ThreadPool three(3);
  const auto on_three = ValueOrDie(Forward::Open(GoldenModel("llama"), three));
  EXPECT_EQ(ValueOrDie(SampleRows(*on_three, real_, options)).ids, rows.ids);
  EXPECT_EQ(Written({.rows = 9, .seed = 4, .memory_budget = 1}).ids, rows.ids);
  EXPECT_NE(Written({.rows = 9, .seed = 5}).ids, rows.ids);
}

TEST_F(SampledRows, TakeTheLikeliestTokenWhereTheTemperatureIsNearZero) {
  const Tokens rows = Written({.rows = 2, .temperature = 1e-3, .prefix = 2});
  const auto logits = CachedLogits(*forward_, rows, HeldWeights::kAll);
  for (size_t i = 0; i < logits.size(); ++i) {
    const bool drawn = i % 10 >= 1;  // behind the prefix of both rows, the second of which is at 10
    if (logits[i].empty() || !drawn) continue;
    const auto likeliest = std::max_element(logits[i].begin(), logits[i].end());
    EXPECT_EQ(rows.ids[i + 1], likeliest - logits[i].begin()) << i;
  }
}

// Chi-square over the tokens that are expected at least 5 times, the others as one: its mean is the
// number of kinds less one, its variance twice that.
TEST_F(SampledRows, BeginWithEachTokenAsOftenAsTheModelPredictsItAtTheTemperature) {
  constexpr double kRows = 4000, kTemperature = 0.7;
  const Tokens one{{3, 5, 7}, {3}};
  const SampleOptions options{
      .rows = static_cast<Index>(kRows), .temperature = kTemperature, .prefix = 2, .seed = 1};
  const Tokens rows = ValueOrDie(SampleRows(*forward_, one, options));
  std::vector<float> logits = CachedLogits(*forward_, one, HeldWeights::kAll)[1];
  for (float& logit : logits) logit /= static_cast<float>(kTemperature);
  std::vector<double> drawn(logits.size());
  for (size_t i = 2; i < rows.ids.size(); i += 3) drawn[static_cast<size_t>(rows.ids[i])] += 1;
  double squares = 0, rare_drawn = 0, rare_expected = 0;
  int kinds = 0;
  const auto add = [&](double got, double expected) {
    squares += (got - expected) * (got - expected) / expected;
    ++kinds;
  };
  for (size_t token = 0; token < logits.size(); ++token) {
    const double expected = kRows * std::exp(-LossOf(logits, static_cast<int64_t>(token)));
    if (expected >= 5) {
      add(drawn[token], expected);
    } else {
      rare_drawn += drawn[token];
      rare_expected += expected;
    }
  }
  if (rare_expected > 0) add(rare_drawn, rare_expected);
  ASSERT_GT(kinds, 20);
  EXPECT_LE(squares, kinds - 1 + 4 * std::sqrt(2.0 * (kinds - 1)));
}

TEST_F(SampledRows, TellTheirProgressAndCanBeStopped) {
  std::vector<double> shares;
  const SampleOptions options{.rows = 2};
  ASSERT_TRUE(SampleRows(*forward_, real_, options, [&](double share) {
                shares.push_back(share);
                return true;
              }).ok());
  EXPECT_EQ(shares.size(), 9u) << "positions of the longest row but its last";
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_LE(shares.back(), 1);
  EXPECT_TRUE(absl::IsCancelled(
      SampleRows(*forward_, real_, options, [](double) { return false; }).status()));
}

TEST_F(SampledRows, GoOnFromWhereTheyWereInterruptedWithTheSameTokens) {
  const SampleOptions options{.rows = 5, .prefix = 3, .seed = 2};
  const Tokens expected = Written(options);
  for (int stop = 1; stop <= 9; ++stop) {
    SCOPED_TRACE(stop);
    SampledSoFar so_far;
    int positions = 0;
    double share = 0;
    const auto interrupt = [&](double done) {
      share = done;
      return ++positions < stop;
    };
    ASSERT_TRUE(
        absl::IsCancelled(SampleRows(*forward_, real_, options, interrupt, &so_far).status()));
    const auto goes_on = [&](double done) {
      EXPECT_GE(done, share);
      return true;
    };
    const Tokens rows = ValueOrDie(SampleRows(*forward_, real_, options, goes_on, &so_far));
    EXPECT_EQ(rows.ids, expected.ids);
    EXPECT_EQ(rows.lengths, expected.lengths);
  }
}

TEST_F(SampledRows, DoNotGoOnFromWhatNoCallCanHaveLeft) {
  const SampleOptions options{.rows = 2, .prefix = 2};
  const SampledSoFar good = {{3, 5, 1}, {2, 4}};
  const auto code_of = [&](SampledSoFar so_far) {
    return SampleRows(*forward_, real_, options, nullptr, &so_far).status().code();
  };
  EXPECT_EQ(code_of(good), absl::StatusCode::kOk);
  EXPECT_EQ(code_of({good[0]}), absl::StatusCode::kInvalidArgument) << "a row less";
  EXPECT_EQ(code_of({{3}, good[1]}), absl::StatusCode::kInvalidArgument) << "without its prefix";
  EXPECT_EQ(code_of({{3, 6}, good[1]}), absl::StatusCode::kInvalidArgument) << "another prefix";
  EXPECT_EQ(code_of({{3, 5, -1}, good[1]}), absl::StatusCode::kInvalidArgument) << "no token";
  EXPECT_EQ(code_of({{3, 5, 1 << 20}, good[1]}), absl::StatusCode::kInvalidArgument) << "likewise";
  EXPECT_EQ(code_of({good[0], {2, 4, 1, 1, 1, 1, 1}}), absl::StatusCode::kInvalidArgument)
      << "longer than its real row";
}

TEST_F(SampledRows, OfAMaskedModelOrBeyondLearnedPositionsAreRefused) {
  const auto masked = ValueOrDie(Forward::Open(GoldenModel("bert"), pool_));
  EXPECT_EQ(SampleRows(*masked, real_, {.rows = 1}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  const auto learned = ValueOrDie(Forward::Open(GoldenModel("gpt2"), pool_));
  Tokens longer;
  longer.lengths = {ValueOrDie(learned->weights().Positions())->out + 1};
  longer.ids.assign(static_cast<size_t>(longer.lengths[0]), 3);
  EXPECT_THAT(std::string(SampleRows(*learned, longer, {.rows = 1}).status().message()),
              ::testing::HasSubstr("learned positions"));
}

TEST_F(SampledRows, AreExpectedToNeedMoreMemoryWhereAllWeightsAreHeld) {
  const SampleEstimate all = EstimateSampling(forward_->options(), real_.lengths, 8, 0);
  const SampleEstimate one = EstimateSampling(forward_->options(), real_.lengths, 8, 1);
  EXPECT_EQ(all.held, HeldWeights::kAll);
  EXPECT_EQ(one.held, HeldWeights::kOneLayer);
  EXPECT_GT(all.bytes, one.bytes);
  const SampleEstimate twice = EstimateSampling(forward_->options(), real_.lengths, 16, 0);
  EXPECT_NEAR(twice.operations, 2 * all.operations, 1e-6 * all.operations);
}

}  // namespace
}  // namespace attnprune
