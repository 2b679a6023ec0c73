// The gradients of every golden model against those by central differences in float64
// (gradients.safetensors), and what a backward run promises.
#include "core/model/layer_backward.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/forward.h"
#include "core/tensor/copy_rows.h"
#include "tests/core/model/golden_models.h"
#include "tests/core/model/gradient_distance.h"
#include "tests/support/matrices.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::Distance;
using testing::ExpectedIds;
using testing::GaussianMatrix;
using testing::GoldenModel;
using testing::GoldenModels;
using testing::kGradientTolerance;
using testing::OpenExpected;
using testing::OpenGradients;
using testing::ValueOrDie;

// The file has tokens 1, 4, 7, ... of a map's output.
Matrix StoredRows(MatrixView gradient) {
  Matrix out((gradient.rows() + 1) / 3, gradient.cols());
  for (Index i = 0; i < out.rows(); ++i)
    CopyRows(gradient.Rows(1 + 3 * i, 1), MutableMatrixView(out).Rows(i, 1));
  return out;
}

class GradientTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GradientTest, EveryMapsAndEveryLayersIsThatOfFloat64) {
  const SafetensorsFile wanted = OpenGradients(GetParam());
  const Tokens tokens = ExpectedIds(OpenExpected(GetParam()));
  ThreadPool pool(2);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel(GetParam()), pool));
  const ModelOptions& options = forward->options();
  std::vector<Matrix> inputs;
  Matrix x(tokens.total(), options.hidden_size);
  ASSERT_TRUE(forward->Embed(tokens, x).ok());
  for (Index layer = 0; layer < options.layer_count(); ++layer) {
    inputs.push_back(x.Clone());
    ASSERT_TRUE(forward->RunLayer(layer, tokens.lengths, x).ok());
  }
  LayerBackward backward(options, pool);
  LayerWeights weights;
  Matrix gradient = ValueOrDie(wanted.ReadMatrix(absl::StrCat("hidden.", options.layer_count())));
  int maps = 0;
  for (Index layer = options.layer_count() - 1; layer >= 0; --layer) {
    ASSERT_TRUE(forward->weights().LoadLayer(layer, pool, weights).ok());
    BackwardHooks hooks;
    hooks.map_gradient = [&](LinearMap map, Index, MatrixView input, MatrixView got) {
      const std::string name = absl::StrCat("layer.", layer, ".", ToString(map));
      const Matrix rows = StoredRows(got);
      EXPECT_EQ(input.cols(), weights.of(map).weight.cols()) << name;
      EXPECT_LE(Distance(rows, wanted, name), kGradientTolerance) << name;
      ++maps;
    };
    ASSERT_TRUE(backward.Run(layer, weights, tokens.lengths, inputs[static_cast<size_t>(layer)],
                             gradient, hooks));
    const std::string name = absl::StrCat("hidden.", layer);
    EXPECT_LE(Distance(gradient, wanted, name), kGradientTolerance) << name;
  }
  const bool gated = weights.of(LinearMap::kGate).weight.size() > 0;
  EXPECT_EQ(maps, options.layer_count() * (gated ? 7 : 6));
}

INSTANTIATE_TEST_SUITE_P(Models, GradientTest, ::testing::ValuesIn(GoldenModels()),
                         [](const auto& test) { return testing::TestName(test.param); });

// What layer 0 of a golden model makes of random inputs and gradients.
struct Backward {
  std::map<LinearMap, std::vector<float>> maps;  // one row behind the other
  std::vector<Index> rows_told;
  bool finished = false;
  Matrix gradient;
};

Backward RunFirstLayer(const std::string& model, MatrixView x, MatrixView at_output,
                       const std::vector<Index>& lengths, int threads, bool goes_on = true) {
  ThreadPool pool(threads);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel(model), pool));
  LayerWeights weights;
  EXPECT_TRUE(forward->weights().LoadLayer(0, pool, weights).ok());
  Backward out;
  out.gradient = Matrix::CopyFrom(at_output);
  BackwardHooks hooks;
  hooks.map_gradient = [&](LinearMap map, Index first_row, MatrixView, MatrixView gradient) {
    std::vector<float>& all = out.maps[map];
    EXPECT_EQ(all.size(), static_cast<size_t>(first_row * gradient.cols())) << "in order";
    for (Index i = 0; i < gradient.rows(); ++i) {
      all.insert(all.end(), gradient.row(i), gradient.row(i) + gradient.cols());
    }
  };
  hooks.goes_on = [&](Index rows) {
    out.rows_told.push_back(rows);
    return goes_on;
  };
  LayerBackward backward(forward->options(), pool);
  out.finished = backward.Run(0, weights, lengths, x, out.gradient, hooks);
  return out;
}

std::vector<float> Entries(const Matrix& m) { return {m.flat().begin(), m.flat().end()}; }

TEST(LayerBackward, AnyNumberOfThreadsGivesTheSameBits) {
  const std::vector<Index> lengths = {130, 70, 1};
  for (const char* model : {"llama", "gemma2", "gpt2", "falcon-40b-like", "olmo", "bert"}) {
    const Matrix x = GaussianMatrix(201, 32, 1), at_output = GaussianMatrix(201, 32, 2);
    const Backward one = RunFirstLayer(model, x, at_output, lengths, 1);
    const Backward three = RunFirstLayer(model, x, at_output, lengths, 3);
    EXPECT_EQ(Entries(one.gradient), Entries(three.gradient)) << model;
    EXPECT_EQ(one.maps, three.maps) << model;
  }
}

// More tokens than are worked on together, in the layer and in the MLP.
TEST(LayerBackward, SequencesDoNotSeeEachOther) {
  const std::vector<Index> lengths = {1100, 1200};
  const Matrix x = GaussianMatrix(2300, 32, 3), at_output = GaussianMatrix(2300, 32, 4);
  const Backward both = RunFirstLayer("llama", x, at_output, lengths, 2);
  EXPECT_EQ(both.rows_told, (std::vector<Index>{1100, 2300}));
  EXPECT_EQ(both.maps.at(LinearMap::kDown).size(), size_t{2300} * 32);
  const Backward second = RunFirstLayer("llama", MatrixView(x).Rows(1100, 1200),
                                        MatrixView(at_output).Rows(1100, 1200), {1200}, 2);
  EXPECT_LE(Distance(second.gradient, MatrixView(both.gradient).Rows(1100, 1200)), 1e-6);
}

TEST(LayerBackward, EndsWhereItIsToldTo) {
  const Matrix x = GaussianMatrix(2300, 32, 5), at_output = GaussianMatrix(2300, 32, 6);
  const Backward ended = RunFirstLayer("llama", x, at_output, {1100, 1200}, 1, /*goes_on=*/false);
  EXPECT_FALSE(ended.finished);
  EXPECT_EQ(ended.rows_told, (std::vector<Index>{1100}));
  EXPECT_EQ(ended.maps.at(LinearMap::kQuery).size(), size_t{1100} * 32);
}

}  // namespace
}  // namespace attnprune
