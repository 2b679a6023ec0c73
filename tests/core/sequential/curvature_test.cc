// The curvature of whole models: against what the layers' gradients give, and what it costs.
#include "core/sequential/curvature.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/model/head_backward.h"
#include "core/model/layer_backward.h"
#include "core/tensor/copy_rows.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using testing::GoldenModel;
using testing::ValueOrDie;

// Three rows of a vocabulary that every golden model has.
Tokens ThreeRows() {
  Tokens rows;
  rows.lengths = {9, 5, 7};
  for (int64_t i = 0; i < 21; ++i) rows.ids.push_back((i * 7 + 3) % 29);
  return rows;
}

std::vector<LayerCurvature> CurvatureOf(const std::string& model, int threads,
                                        const CurvatureOptions& options,
                                        const PassOptions& places = {}) {
  ThreadPool pool(threads);
  const std::unique_ptr<Forward> forward = ValueOrDie(Forward::Open(GoldenModel(model), pool));
  std::vector<LayerCurvature> layers(static_cast<size_t>(forward->options().layer_count()));
  std::vector<Index> order;
  const Tokens rows = ThreeRows();
  const auto pass = ValueOrDie(CurvaturePass::Create(*forward, pool, rows, options, places));
  const absl::Status status =
      pass->Run(nullptr, [&](Index layer, const LayerWeights&, const LayerCurvature& curvature) {
        order.push_back(layer);
        layers[static_cast<size_t>(layer)] = curvature;
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(order.front(), forward->options().layer_count() - 1);
  EXPECT_EQ(order.back(), 0);
  return layers;
}

void ExpectSame(const std::vector<LayerCurvature>& a, const std::vector<LayerCurvature>& b) {
  for (size_t layer = 0; layer < a.size(); ++layer) {
    for (int map = 0; map < kLinearMaps; ++map) {
      const auto& one = a[layer].maps[static_cast<size_t>(map)].blocks;
      const auto& other = b[layer].maps[static_cast<size_t>(map)].blocks;
      ASSERT_EQ(one.size(), other.size());
      for (size_t block = 0; block < one.size(); ++block) {
        EXPECT_EQ(one[block].moments.flat(), other[block].moments.flat());
      }
    }
    ASSERT_EQ(a[layer].output.blocks.size(), b[layer].output.blocks.size());
    for (size_t block = 0; block < a[layer].output.blocks.size(); ++block) {
      EXPECT_EQ(a[layer].output.blocks[block].moments.flat(),
                b[layer].output.blocks[block].moments.flat());
    }
    EXPECT_EQ(a[layer].squares, b[layer].squares);
  }
}

// B of one map of the last layer, token by token.
TEST(CurvatureTest, IsTheSumOfTheGradientsOuterProducts) {
  ThreadPool pool(1);
  const std::unique_ptr<Forward> forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const Tokens rows = ThreeRows();
  const Index layers = forward->options().layer_count(), d = forward->options().hidden_size;
  Matrix x(rows.total(), d), input;
  ASSERT_TRUE(forward->Embed(rows, x).ok());
  for (Index layer = 0; layer < layers; ++layer) {
    input = Matrix::CopyFrom(x);
    ASSERT_TRUE(forward->RunLayer(layer, rows.lengths, x).ok());
  }
  Matrix gradient(rows.total(), d);
  ASSERT_TRUE(SampledLabelGradient(*forward, rows.lengths, {.seed = 5}, x, gradient).ok());
  LayerWeights weights;
  ASSERT_TRUE(forward->weights().LoadLayer(layers - 1, pool, weights).ok());
  const Index outputs = weights.of(LinearMap::kUp).weight.rows();
  std::vector<double> b(static_cast<size_t>(outputs * outputs));
  BackwardHooks hooks;
  hooks.map_gradient = [&](LinearMap map, Index, MatrixView, MatrixView g) {
    if (map != LinearMap::kUp) return;
    for (Index t = 0; t < g.rows(); ++t) {
      for (Index i = 0; i < outputs; ++i) {
        for (Index j = 0; j < outputs; ++j) {
          b[static_cast<size_t>(i * outputs + j)] +=
              static_cast<double>(g(t, i)) * static_cast<double>(g(t, j));
        }
      }
    }
  };
  ASSERT_TRUE(LayerBackward(forward->options(), pool)
                  .Run(layers - 1, weights, rows.lengths, input, gradient, hooks));
  const LayerCurvature last = CurvatureOf("llama", 2, {.seed = 5}).back();
  const GramMatrix& moments = last.of(LinearMap::kUp).blocks[0].moments;
  ASSERT_EQ(moments.size(), outputs);
  double largest = 0;
  for (const double value : b) largest = std::max(largest, std::abs(value));
  EXPECT_GT(largest, 0);
  for (size_t i = 0; i < b.size(); ++i) ASSERT_NEAR(moments.flat()[i], b[i], 1e-5 * largest);
}

TEST(CurvatureTest, HasTheSameBitsOnAnyNumberOfThreadsAndInFiles) {
  for (const std::string model : {"llama", "gpt2", "gemma2"}) {
    SCOPED_TRACE(model);
    const std::vector<LayerCurvature> one =
        CurvatureOf(model, 1, {.seed = 3, .draws = 2, .output = true});
    ExpectSame(one, CurvatureOf(model, 3, {.seed = 3, .draws = 2, .output = true}));
    ExpectSame(
        one, CurvatureOf(model, 2, {.seed = 3, .draws = 2, .output = true}, {.memory_budget = 1}));
  }
}

TEST(CurvatureTest, DependsOnTheSeedAndTheDraws) {
  const GramMatrix a =
      CurvatureOf("llama", 1, {.seed = 3})[0].of(LinearMap::kDown).blocks[0].moments;
  const GramMatrix b =
      CurvatureOf("llama", 1, {.seed = 4})[0].of(LinearMap::kDown).blocks[0].moments;
  EXPECT_NE(a.flat(), b.flat());
  const GramMatrix two = CurvatureOf("llama", 1, {.seed = 3, .draws = 2, .output = true})[0]
                             .of(LinearMap::kDown)
                             .blocks[0]
                             .moments;
  double one_trace = 0, two_trace = 0;
  for (Index i = 0; i < a.size(); ++i) {
    EXPECT_GE(two(i, i), a(i, i));  // the first draw is in both
    one_trace += a(i, i);
    two_trace += two(i, i);
  }
  EXPECT_GT(two_trace, 1.2 * one_trace);
}

// What down gives is added to the layer's input, but where a norm is between.
TEST(CurvatureTest, OfALayersOutputIsThatOfDownWhereNothingIsBehindIt) {
  const LayerCurvature llama = CurvatureOf("llama", 2, {.output = true}).front();
  ASSERT_EQ(llama.output.blocks.size(), 1u);
  EXPECT_EQ(llama.output.blocks[0].moments.flat(),
            llama.of(LinearMap::kDown).blocks[0].moments.flat());
  const LayerCurvature gemma2 = CurvatureOf("gemma2", 2, {.output = true}).front();
  EXPECT_NE(gemma2.output.blocks[0].moments.flat(),
            gemma2.of(LinearMap::kDown).blocks[0].moments.flat());
  EXPECT_TRUE(CurvatureOf("llama", 2, {}).front().output.blocks.empty());
}

TEST(CurvatureTest, AWideMapHasTheDiagonalBlocksOfTheWholeB) {
  const OutputCurvature whole = CurvatureOf("llama", 1, {.seed = 1})[0].of(LinearMap::kUp);
  ASSERT_EQ(whole.blocks.size(), 1u);
  const OutputCurvature cut =
      CurvatureOf("llama", 1, {.seed = 1, .widest = 20})[0].of(LinearMap::kUp);
  ASSERT_GT(cut.blocks.size(), 1u);
  Index next = 0;
  for (const OutputCurvature::Block& block : cut.blocks) {
    EXPECT_EQ(block.first, next);
    EXPECT_LE(block.moments.size(), 20);
    next += block.moments.size();
    const double scale = whole.blocks[0].moments(block.first, block.first);
    for (Index i = 0; i < block.moments.size(); ++i) {
      for (Index j = 0; j < block.moments.size(); ++j) {
        EXPECT_NEAR(block.moments(i, j), whole.blocks[0].moments(block.first + i, block.first + j),
                    1e-4 * (scale + 1e-6));
      }
    }
  }
  EXPECT_EQ(next, whole.blocks[0].moments.size());
}

TEST(CurvatureTest, MapsOfATensorAreOneMatrix) {
  const LayerCurvature layer = CurvatureOf("gpt2", 1, {.seed = 1})[0];
  const LinearMap qkv[] = {LinearMap::kQuery, LinearMap::kKey, LinearMap::kValue};
  const OutputCurvature all = layer.OfRows(qkv);
  ASSERT_EQ(all.blocks.size(), 3u);
  const Index outputs = layer.of(LinearMap::kQuery).blocks[0].moments.size();
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(all.blocks[i].first, static_cast<Index>(i) * outputs);
    EXPECT_EQ(all.blocks[i].moments.flat(), layer.of(qkv[i]).blocks[0].moments.flat());
  }
}

TEST(CurvatureTest, AListenerEndsIt) {
  ThreadPool pool(1);
  const std::unique_ptr<Forward> forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  double last = -1;
  const auto sink = [](Index, const LayerWeights&, const LayerCurvature&) {
    return absl::OkStatus();
  };
  const auto listener = [&](double share) {
    EXPECT_GE(share, last);
    EXPECT_LE(share, 1);
    last = share;
    return share < 0.7;
  };
  const Tokens rows = ThreeRows();
  const auto pass = ValueOrDie(CurvaturePass::Create(*forward, pool, rows, {}, {}));
  EXPECT_TRUE(absl::IsCancelled(pass->Run(listener, sink)));
  EXPECT_GE(last, 0.7);
  EXPECT_LE(pass->share(), last);
}

// What a pass goes on from.
struct SavedPass {
  CurvaturePoint point;
  Matrix kept, gradients;
  std::vector<std::vector<double>> sums;
};

SavedPass Save(CurvaturePass& pass) {
  SavedPass saved{.point = pass.point(), .kept = {}, .gradients = {}, .sums = {}};
  saved.kept = Matrix::CopyFrom(pass.Kept(pass.kept_rows()));
  saved.gradients = Matrix::CopyFrom(pass.Gradients());
  for (const absl::Span<double> sums : pass.Sums())
    saved.sums.emplace_back(sums.begin(), sums.end());
  return saved;
}

void Load(const SavedPass& saved, CurvaturePass& pass) {
  ASSERT_TRUE(pass.SetPoint(saved.point).ok());
  ASSERT_EQ(pass.kept_rows(), saved.kept.rows());
  ASSERT_EQ(pass.gradient_rows(), saved.gradients.rows());
  CopyRows(saved.kept, pass.Kept(pass.kept_rows()));
  CopyRows(saved.gradients, pass.Gradients());
  const std::vector<absl::Span<double>> sums = pass.Sums();
  ASSERT_EQ(sums.size(), saved.sums.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    ASSERT_EQ(sums[i].size(), saved.sums[i].size());
    std::copy(saved.sums[i].begin(), saved.sums[i].end(), sums[i].begin());
  }
}

// Three chunks on the way through a layer, two through the head.
TEST(CurvatureTest, GoesOnFromEveryPointWithTheSameBits) {
  ThreadPool pool(2);
  const std::unique_ptr<Forward> forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const Index layers = forward->options().layer_count();
  const CurvatureOptions options{.seed = 3, .draws = 2, .output = true};
  Tokens rows;
  rows.lengths = {900, 700, 800, 900, 1000};
  for (int64_t i = 0; i < 4300; ++i) rows.ids.push_back((i * i + 3 * i) % 29);
  std::vector<LayerCurvature> expected(static_cast<size_t>(layers));
  const auto into = [](std::vector<LayerCurvature>& all) {
    return [&all](Index layer, const LayerWeights&, const LayerCurvature& curvature) {
      all[static_cast<size_t>(layer)] = curvature;
      return absl::OkStatus();
    };
  };
  std::vector<SavedPass> points;
  const auto pass = ValueOrDie(CurvaturePass::Create(*forward, pool, rows, options, {}));
  ASSERT_TRUE(pass->Run(nullptr, into(expected), [&] { points.push_back(Save(*pass)); }).ok());
  ASSERT_EQ(std::ssize(points), layers * 3 + 2 * 2 + layers * 2 * 3);
  double before = 0;
  for (size_t i = 0; i < points.size(); i += i % 3 == 2 && i + 2 < points.size() ? 2 : 1) {
    const SavedPass& saved = points[i];
    SCOPED_TRACE(::testing::Message()
                 << saved.point.forward << " " << saved.point.gradients << " " << saved.point.back);
    const auto other = ValueOrDie(CurvaturePass::Create(*forward, pool, rows, options, {}));
    ASSERT_NO_FATAL_FAILURE(Load(saved, *other));
    EXPECT_GE(other->share(), before);
    before = other->share();
    std::vector<LayerCurvature> again = expected;
    for (Index layer = 0; layer < layers - other->layers_through(); ++layer) {
      again[static_cast<size_t>(layer)] = {};
    }
    ASSERT_TRUE(other->Run(nullptr, into(again)).ok());
    ExpectSame(again, expected);
  }
  EXPECT_NEAR(before, 1, 1e-12);
}

TEST(CurvatureTest, RefusesAPointThatNoPassCanHave) {
  ThreadPool pool(1);
  const std::unique_ptr<Forward> forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const Tokens rows = ThreeRows();  // of 9, 5 and 7
  const Index all = forward->options().layer_count() * rows.total(), tokens = rows.total();
  const auto pass = ValueOrDie(CurvaturePass::Create(*forward, pool, rows, {}, {}));
  EXPECT_TRUE(pass->SetPoint({.forward = 9}).ok());
  EXPECT_TRUE(pass->SetPoint({.forward = all, .gradients = tokens, .back = tokens + 14}).ok());
  for (const CurvaturePoint& point : {CurvaturePoint{.forward = -1},
                                      {.forward = all + 9},
                                      {.forward = 10},
                                      {.forward = 9, .gradients = tokens},
                                      {.forward = all, .gradients = 9},
                                      {.forward = all, .gradients = 2 * tokens},
                                      {.forward = all, .gradients = 0, .back = 9},
                                      {.forward = all, .gradients = tokens, .back = 10},
                                      {.forward = all, .gradients = tokens, .back = all + 9}}) {
    EXPECT_EQ(pass->SetPoint(point).code(), absl::StatusCode::kInvalidArgument)
        << point.forward << " " << point.gradients << " " << point.back;
  }
}

TEST(CurvatureTest, AMaskedModelHasNone) {
  ThreadPool pool(1);
  const std::unique_ptr<Forward> forward = ValueOrDie(Forward::Open(GoldenModel("bert"), pool));
  EXPECT_EQ(CurvaturePass::Create(*forward, pool, ThreeRows(), {}, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(SomeRowsTest, AreEvenlySpaced) {
  Tokens tokens;
  for (int64_t row = 0; row < 10; ++row) {
    tokens.lengths.push_back(2);
    tokens.ids.insert(tokens.ids.end(), {row, row});
  }
  EXPECT_THAT(SomeRows(tokens, 4).ids, ElementsAre(0, 0, 2, 2, 5, 5, 7, 7));
  EXPECT_THAT(SomeRows(tokens, 4).lengths, ElementsAre(2, 2, 2, 2));
  EXPECT_EQ(SomeRows(tokens, 10).ids, tokens.ids);
  EXPECT_EQ(SomeRows(tokens, 64).lengths, tokens.lengths);
  tokens.ids.clear();
  EXPECT_THAT(SomeRows(tokens, 3).lengths, ElementsAre(2, 2, 2));
}

}  // namespace
}  // namespace attnprune
