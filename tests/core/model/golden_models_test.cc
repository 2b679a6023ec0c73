// Every golden model: hidden states, queries, keys, attention, the input of every linear map,
// logits and loss of the float32 forward pass against float64.
#include "tests/core/model/golden_models.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/model/forward.h"
#include "core/tensor/copy_rows.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::ExpectedIds;
using testing::GoldenModel;
using testing::GoldenModels;
using testing::OpenExpected;
using testing::ValueOrDie;

constexpr double kTolerance = 1e-4;

class GoldenModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  GoldenModelTest()
      : expected_(OpenExpected(GetParam())), tokens_(ExpectedIds(expected_)), pool_(2) {}

  // `what` is laid out as (heads, tokens, head_dim) in the file, as (tokens, heads * head_dim)
  // here.
  void ExpectHeads(const std::string& what, MatrixView got) {
    const TensorInfo& tensor = *ValueOrDie(expected_.Find(what));
    const std::vector<double> values = testing::Doubles(expected_, what);
    const Index heads = tensor.shape[0], n = tensor.shape[1], dim = tensor.shape[2];
    double worst = 0;
    for (Index h = 0; h < heads; ++h) {
      for (Index t = 0; t < n; ++t) {
        for (Index j = 0; j < dim; ++j) {
          const double value = values[static_cast<size_t>((h * n + t) * dim + j)];
          worst = std::max(worst, std::abs(value - double{got(t, h * dim + j)}));
        }
      }
    }
    EXPECT_LE(worst, kTolerance) << what;
  }

  void ExpectClose(const std::string& what, MatrixView got) {
    const Matrix wanted = ValueOrDie(expected_.ReadMatrix(what));
    ASSERT_EQ(wanted.rows(), got.rows()) << what;
    ASSERT_EQ(wanted.cols(), got.cols()) << what;
    double worst = 0;
    for (Index i = 0; i < got.rows(); ++i) {
      for (Index j = 0; j < got.cols(); ++j) {
        worst = std::max(worst, std::abs(double{wanted(i, j)} - double{got(i, j)}));
      }
    }
    EXPECT_LE(worst, kTolerance) << what;
  }

  void ExpectAttention(Index layer, MatrixView q, MatrixView k, const ModelOptions& options) {
    const std::string what = absl::StrCat("layer.", layer, ".attention");
    if (!expected_.Contains(what)) return;
    const std::vector<double> wanted = testing::Doubles(expected_, what);
    LayerForward forward(options, pool_);
    double worst = 0;
    size_t place = 0;
    for (Index head = 0; head < options.heads; ++head) {
      const Matrix f = forward.Attention(layer, q, k, head);
      for (const float value : f.flat()) {
        worst = std::max(worst, std::abs(wanted[place++] - double{value}));
      }
    }
    EXPECT_EQ(place, wanted.size());
    EXPECT_LE(worst, kTolerance) << what;
  }

  // Compares the inputs of a layer's linear maps, which the file has of layer 0.
  LayerHooks HooksOf(Index layer, const ModelOptions& options) {
    const auto name = [layer](const char* what) {
      return absl::StrCat("layer.", layer, ".", what);
    };
    LayerHooks hooks;
    hooks.queries_and_keys = [=, this, &options](Index, MatrixView q, MatrixView k) {
      ExpectHeads(name("q"), q);
      ExpectHeads(name("k"), k);
      ExpectAttention(layer, q, k, options);
    };
    if (layer > 0) return hooks;
    hooks.attention_input = [=, this](Index, MatrixView x) { ExpectClose(name("attn_in"), x); };
    hooks.output_input = [=, this](Index, MatrixView x) { ExpectClose(name("o_in"), x); };
    hooks.mlp_input = [=, this](Index, MatrixView x) { ExpectClose(name("mlp_in"), x); };
    hooks.down_input = [=, this](Index, MatrixView x) { ExpectClose(name("down_in"), x); };
    return hooks;
  }

  void ExpectForward(Forward& forward) {
    const ModelOptions& options = forward.options();
    ASSERT_TRUE(forward.Check(tokens_).ok());
    Matrix x(tokens_.total(), options.hidden_size);
    ASSERT_TRUE(forward.Embed(tokens_, x).ok());
    for (Index layer = 0; layer < options.layer_count(); ++layer) {
      ExpectClose(absl::StrCat("hidden.", layer), x);
      const LayerHooks hooks = HooksOf(layer, options);
      ASSERT_TRUE(forward.RunLayer(layer, tokens_.lengths, x, hooks).ok());
    }
    ExpectClose(absl::StrCat("hidden.", options.layer_count()), x);
    const Matrix final = ValueOrDie(forward.Final(x)), logits = ValueOrDie(forward.Logits(x));
    ExpectClose("final", final);
    ExpectClose("logits", logits);
    if (options.masked_model()) {
      EXPECT_EQ(forward.TokenLosses(tokens_, x).status().code(),
                absl::StatusCode::kFailedPrecondition);
      return;
    }
    const std::vector<double> losses = ValueOrDie(forward.TokenLosses(tokens_, x));
    ASSERT_EQ(losses.size(), tokens_.ids.size() - 1);
    double sum = 0;
    for (const double loss : losses) sum += loss;
    EXPECT_NEAR(sum / static_cast<double>(losses.size()), testing::Doubles(expected_, "loss")[0],
                1e-5);
  }

  const SafetensorsFile expected_;
  const Tokens tokens_;
  ThreadPool pool_;
};

TEST_P(GoldenModelTest, TheForwardPassIsThatOfFloat64) {
  const auto forward = Forward::Open(GoldenModel(GetParam()), pool_);
  ASSERT_TRUE(forward.ok()) << forward.status();
  ExpectForward(**forward);
}

// Each layer from every point on gives what the whole one gives, and looks at nothing before it.
TEST_P(GoldenModelTest, ALayerGoesOnFromWhatItWasWithTheSameBits) {
  const auto forward = ValueOrDie(Forward::Open(GoldenModel(GetParam()), pool_));
  const ModelOptions& options = forward->options();
  Matrix x(tokens_.total(), options.hidden_size);
  ASSERT_TRUE(forward->Embed(tokens_, x).ok());
  for (Index layer = 0; layer < options.layer_count(); ++layer) {
    const Matrix before = x.Clone();
    Matrix mixed(x.rows(), options.heads * options.head_dim), attended(x.rows(), x.cols());
    const auto copy_to = [](Matrix& all) {
      return [&all](Index first, MatrixView values) {
        CopyRows(values, MutableMatrixView(all).Rows(first, values.rows()));
      };
    };
    LayerHooks whole;
    whole.output_input = copy_to(mixed);
    whole.attention_output = copy_to(attended);
    ASSERT_TRUE(forward->RunLayer(layer, tokens_.lengths, x, whole).ok());
    const auto go_on = [&](LayerPoint from, const Matrix& values) {
      Matrix again = before.Clone();
      LayerHooks hooks;
      hooks.from = from;
      hooks.values = values;
      hooks.attention_input = [](Index, MatrixView) { ADD_FAILURE() << "is before that point"; };
      EXPECT_TRUE(forward->RunLayer(layer, tokens_.lengths, again, hooks).ok());
      EXPECT_TRUE(std::equal(x.flat().begin(), x.flat().end(), again.flat().begin())) << layer;
    };
    go_on(LayerPoint::kMixed, mixed);
    go_on(LayerPoint::kAttended, attended);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModelTest, ::testing::ValuesIn(GoldenModels()),
                         [](const auto& test) { return testing::TestName(test.param); });

}  // namespace
}  // namespace attnprune
