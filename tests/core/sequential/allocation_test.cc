// Sparsities by block, against a plain computation in float64.
#include "core/sequential/allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using ::testing::DoubleNear;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::GoldenModel;
using testing::ValueOrDie;

// The inputs of the layer's maps, all tokens below each other, by the four places where they enter.
std::array<std::vector<std::vector<double>>, 4> InputsOf(Forward& forward, Index layer,
                                                         const Tokens& tokens, Matrix& states) {
  std::array<std::vector<std::vector<double>>, 4> inputs;
  const auto keep = [](std::vector<std::vector<double>>& rows) {
    return [&rows](Index, MatrixView input) {
      for (Index i = 0; i < input.rows(); ++i) {
        rows.emplace_back(input.row(i), input.row(i) + input.cols());
      }
    };
  };
  LayerHooks hooks;
  hooks.attention_input = keep(inputs[0]);
  hooks.output_input = keep(inputs[1]);
  hooks.mlp_input = keep(inputs[2]);
  hooks.down_input = keep(inputs[3]);
  EXPECT_TRUE(forward.RunLayer(layer, tokens.lengths, states, hooks).ok());
  return inputs;
}

int PlaceOf(LinearMap map) {
  if (map == LinearMap::kOutput) return 1;
  if (map == LinearMap::kGate || map == LinearMap::kUp) return 2;
  return map == LinearMap::kDown ? 3 : 0;
}

double PlainShare(Forward& forward, Index layer, double outlier,
                  const std::array<std::vector<std::vector<double>>, 4>& inputs) {
  double above = 0, all = 0;
  for (int i = 0; i < kLinearMaps; ++i) {
    const auto which = static_cast<LinearMap>(i);
    const auto map = ValueOrDie(forward.weights().Map(layer, which));
    if (!map.has_value()) continue;
    Matrix w(map->out, map->in);
    EXPECT_TRUE(ReadRows(*map, 0, w).ok());
    std::vector<double> scores;
    for (Index a = 0; a < w.rows(); ++a) {
      for (Index b = 0; b < w.cols(); ++b) {
        double square = 0;
        for (const std::vector<double>& x : inputs[static_cast<size_t>(PlaceOf(which))]) {
          square += x[static_cast<size_t>(b)] * x[static_cast<size_t>(b)];
        }
        scores.push_back(std::fabs(static_cast<double>(w(a, b))) * std::sqrt(square));
      }
    }
    const double mean =
        std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
    for (const double score : scores) above += score > outlier * mean ? 1 : 0;
    all += static_cast<double>(scores.size());
  }
  return above / all;
}

class OutlierSharesOf : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, OutlierSharesOf, ::testing::Values("llama", "gpt2", "falcon_rw"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(OutlierSharesOf, AreThoseThatAPlainComputationCounts) {
  const std::string name = GetParam();
  ThreadPool pool(2), one(1);
  const auto forward =
      ValueOrDie(Forward::Open(GoldenModel(name == "falcon_rw" ? "falcon-rw-like" : name), pool));
  Tokens tokens;
  tokens.lengths = {9, 12, 5};
  for (Index i = 0; i < 9 + 12 + 5; ++i) tokens.ids.push_back((5 * i + 1) % 31);
  for (const double outlier : {1.5, 3.0}) {
    Matrix states(tokens.total(), forward->options().hidden_size);
    ASSERT_TRUE(forward->Embed(tokens, states).ok());
    std::vector<double> expected;
    for (Index layer = 0; layer < forward->options().layer_count(); ++layer) {
      const auto inputs = InputsOf(*forward, layer, tokens, states);
      expected.push_back(PlainShare(*forward, layer, outlier, inputs));
    }
    const auto shares_on = [&](ThreadPool& threads) {
      Matrix x(tokens.total(), forward->options().hidden_size);
      EXPECT_TRUE(forward->Embed(tokens, x).ok());
      return ValueOrDie(OutlierShares(*forward, threads, outlier, {tokens.lengths, x}));
    };
    const std::vector<double> shares = shares_on(pool);
    EXPECT_THAT(shares, ::testing::Pointwise(DoubleNear(1e-12), expected));
    EXPECT_GT(shares[0], 0);
    EXPECT_EQ(shares, shares_on(one));
  }
}

TEST(OutlierShares, EndWhenTheyAreTold) {
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  Tokens tokens;
  tokens.ids = {1, 2, 3};
  tokens.lengths = {3};
  Matrix x(3, forward->options().hidden_size);
  ASSERT_TRUE(forward->Embed(tokens, x).ok());
  double told = 0;
  const auto stop = [&told](double share) {
    told = share;
    return false;
  };
  EXPECT_TRUE(
      absl::IsCancelled(OutlierShares(*forward, pool, 5, {tokens.lengths, x}, stop).status()));
  EXPECT_DOUBLE_EQ(told, 1.0 / static_cast<double>(forward->options().layer_count()));
}

// D = 0, 0.01, 0.04 and limit 0.08: z = 0, 0.04, 0.16, their mean 1/15.
TEST(OwlSparsities, KeepMoreWhereThereAreMoreOutliersAndTheSameInAll) {
  const std::vector<double> shares = {0, 0.01, 0.04};
  EXPECT_THAT(OwlSparsities(0.7, 0.08, shares),
              ElementsAre(DoubleNear(0.7 + 1.0 / 15, 1e-12), DoubleNear(0.66 + 1.0 / 15, 1e-12),
                          DoubleNear(0.54 + 1.0 / 15, 1e-12)));
}

TEST(OwlSparsities, AreUniformWhereNoBlockHasMoreOutliers) {
  EXPECT_THAT(OwlSparsities(0.7, 0.08, {0.02, 0.02}), Each(0.7));
  EXPECT_THAT(OwlSparsities(0.7, 0.08, {0.02}), Each(0.7));
}

TEST(ProgressionSparsities, GoUpByOneStepABlockAround) {
  EXPECT_THAT(ProgressionSparsities(0.7, 0.02, 4),
              ElementsAre(DoubleNear(0.67, 1e-12), DoubleNear(0.69, 1e-12), DoubleNear(0.71, 1e-12),
                          DoubleNear(0.73, 1e-12)));
  EXPECT_THAT(ProgressionSparsities(0.5, DefaultProgressionStep(1), 1), Each(0.5));
  EXPECT_DOUBLE_EQ(DefaultProgressionStep(4), 0.02);
}

}  // namespace
}  // namespace attnprune
