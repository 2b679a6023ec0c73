// The head's gradients against those by central differences in float64, and its draws.
#include "core/model/head_backward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/io/safetensors.h"
#include "core/kernels/norm.h"
#include "core/model/token_draw.h"
#include "tests/core/model/golden_models.h"
#include "tests/core/model/gradient_distance.h"
#include "tests/core/problem/temp_folder.h"
#include "tests/support/matrices.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::Distance;
using testing::Doubles;
using ::testing::Each;
using testing::ExpectedIds;
using testing::GaussianMatrix;
using testing::GoldenModel;
using testing::GoldenModels;
using testing::kGradientTolerance;
using testing::OpenExpected;
using testing::OpenGradients;
using testing::ValueOrDie;

class HeadGradientTest : public ::testing::TestWithParam<std::string> {};

TEST_P(HeadGradientTest, IsThatOfFloat64AndMaskedModelsHaveNone) {
  const SafetensorsFile expected = OpenExpected(GetParam());
  const Tokens tokens = ExpectedIds(expected);
  ThreadPool pool(2);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel(GetParam()), pool));
  const std::string last = absl::StrCat("hidden.", forward->options().layer_count());
  const Matrix x = ValueOrDie(expected.ReadMatrix(last));
  Matrix gradient = Matrix::Constant(x.rows(), x.cols(), NAN);
  const absl::Status status = TokenLossGradient(*forward, tokens, x, gradient);
  if (forward->options().masked_model()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return;
  }
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_LE(Distance(gradient, OpenGradients(GetParam()), last), kGradientTolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, HeadGradientTest, ::testing::ValuesIn(GoldenModels()),
                         [](const auto& test) { return testing::TestName(test.param); });

struct Sampled {
  std::vector<Index> labels;
  std::vector<float> gradient;
};

Sampled Sample(Forward& forward, MatrixView x, const std::vector<Index>& lengths,
               const LabelDraws& draws) {
  Matrix gradient(x.rows(), x.cols());
  Sampled out;
  out.labels = ValueOrDie(SampledLabelGradient(forward, lengths, draws, x, gradient));
  out.gradient.assign(gradient.flat().begin(), gradient.flat().end());
  return out;
}

// The model's own distribution of row i's next token, in float64.
std::vector<double> Softmax(MatrixView logits, Index i) {
  std::vector<double> p;
  double sum = 0;
  for (Index j = 0; j < logits.cols(); ++j) {
    p.push_back(std::exp(double{logits(i, j)}));
    sum += p.back();
  }
  for (double& entry : p) entry /= sum;
  return p;
}

TEST(SampledLabelGradient, DrawsEachLabelAsOftenAsTheModelPredictsIt) {
  constexpr Index kRows = 4001, kDistinct = 4;
  ThreadPool pool(2);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("gemma2"), pool));
  const Matrix few = GaussianMatrix(kDistinct, 32, 1);
  Matrix x(kRows, 32);
  for (Index i = 0; i < kRows; ++i) std::copy_n(few.row(i % kDistinct), 32, x.row(i));
  const Matrix logits = ValueOrDie(forward->Logits(few));
  const Sampled sampled = Sample(*forward, x, {kRows}, {.seed = 3});
  EXPECT_EQ(sampled.labels.back(), -1) << "the last token predicts nothing";
  constexpr double kDraws = 1000;  // of each distinct row
  for (Index i = 0; i < kDistinct; ++i) {
    const std::vector<double> p = Softmax(logits, i);
    std::vector<double> drawn(p.size());
    for (Index row = i; row + 1 < kRows; row += kDistinct) {
      drawn[static_cast<size_t>(sampled.labels[static_cast<size_t>(row)])] += 1;
    }
    for (size_t label = 0; label < p.size(); ++label) {
      const double deviation = std::sqrt(kDraws * p[label] * (1 - p[label]));
      EXPECT_NEAR(drawn[label], kDraws * p[label], 5 * deviation + 1) << i << ": " << label;
    }
  }
}

TEST(SampledLabelGradient, IsTheGradientOfTheLabelsDrawn) {
  ThreadPool pool(2);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const Matrix x = GaussianMatrix(40, 32, 1);
  const Sampled sampled = Sample(*forward, x, {40}, {});
  Tokens tokens{{0}, {40}};
  for (size_t i = 0; i + 1 < 40; ++i) tokens.ids.push_back(sampled.labels[i]);
  Matrix gradient(40, 32);
  ASSERT_TRUE(TokenLossGradient(*forward, tokens, x, gradient).ok());
  EXPECT_THAT(gradient.flat(), ::testing::ElementsAreArray(sampled.gradient));
  EXPECT_THAT(std::vector<float>(gradient.row(39), gradient.row(39) + 32), Each(0.0f));
}

TEST(SampledLabelGradient, DrawsDependOnSeedSequenceAndPositionOnly) {
  ThreadPool one(1), three(3);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), one));
  const auto on_three = ValueOrDie(Forward::Open(GoldenModel("llama"), three));
  const Matrix x = GaussianMatrix(34, 32, 1);
  const Sampled both = Sample(*forward, x, {24, 10}, {.seed = 7});
  const Sampled again = Sample(*on_three, x, {24, 10}, {.seed = 7});
  EXPECT_EQ(both.labels, again.labels);
  EXPECT_EQ(both.gradient, again.gradient) << "the same bits on any number of threads";
  const Sampled second =
      Sample(*forward, MatrixView(x).Rows(24, 10), {10}, {.seed = 7, .first_sequence = 1});
  EXPECT_EQ(second.labels, std::vector<Index>(both.labels.begin() + 24, both.labels.end()));
  EXPECT_NE(Sample(*forward, x, {24, 10}, {.seed = 8}).labels, both.labels);
  EXPECT_NE(UniformOfDraw(0, 0, 1), UniformOfDraw(0, 1, 0));
}

// A llama whose vocabulary takes three pieces.
constexpr Index kWide = 9000;
std::unique_ptr<Forward> WideVocabulary(const std::string& folder, ThreadPool& pool) {
  std::ifstream config(GoldenModel("llama") + "/config.json");
  std::string text((std::istreambuf_iterator<char>(config)), std::istreambuf_iterator<char>());
  std::ofstream(folder + "/config.json")
      << absl::StrReplaceAll(text, {{"\"vocab_size\": 64", "\"vocab_size\": 9000"}});
  const auto golden =
      ValueOrDie(SafetensorsFile::Open(GoldenModel("llama") + "/model.safetensors"));
  const Matrix embedding = GaussianMatrix(kWide, 32, 1), head = GaussianMatrix(kWide, 32, 2);
  std::vector<TensorInfo> tensors = {TensorOf("model.embed_tokens.weight", embedding),
                                     TensorOf("lm_head.weight", head)};
  for (const TensorInfo& tensor : golden.tensors()) {
    if (tensor.shape[0] != 64) tensors.push_back(tensor);
  }
  EXPECT_TRUE(WriteSafetensors(folder + "/model.safetensors", tensors).ok());
  return ValueOrDie(Forward::Open(folder, pool));
}

TEST(SampledLabelGradient, GoesThroughAVocabularyOfSeveralPieces) {
  const TempFolder folder;
  ThreadPool pool(2);
  const auto forward = WideVocabulary(folder.path(), pool);
  const Matrix x = GaussianMatrix(200, 32, 3), head = GaussianMatrix(kWide, 32, 2);
  const Sampled sampled = Sample(*forward, x, {200}, {.seed = 1});
  const Matrix logits = ValueOrDie(forward->Logits(x));
  Matrix wanted(200, 32);
  std::vector<int> in_piece(3);
  for (Index i = 0; i + 1 < 200; ++i) {
    const std::vector<double> p = Softmax(logits, i);
    const Index label = sampled.labels[static_cast<size_t>(i)];
    double reached = 0;
    for (Index j = 0; j < label; ++j) reached += p[static_cast<size_t>(j)];
    const double uniform = UniformOfDraw(1, 0, i);
    EXPECT_GE(uniform, reached - 1e-4) << i;
    EXPECT_LE(uniform, reached + p[static_cast<size_t>(label)] + 1e-4) << i;
    ++in_piece[static_cast<size_t>(label / 4096)];
    std::vector<double> sum(32);
    for (Index j = 0; j < kWide; ++j) {
      const double factor = p[static_cast<size_t>(j)] - (j == label ? 1 : 0);
      for (Index c = 0; c < 32; ++c) sum[static_cast<size_t>(c)] += factor * double{head(j, c)};
    }
    for (Index c = 0; c < 32; ++c) wanted(i, c) = static_cast<float>(sum[static_cast<size_t>(c)]);
  }
  EXPECT_THAT(in_piece, Each(::testing::Gt(0)));
  const OptionalNorm norm = ValueOrDie(forward->weights().Norm("model.norm"));
  NormalizeBackward(norm->view(), x, wanted);
  EXPECT_LE(Distance(MatrixView(sampled.gradient.data(), 200, 32), wanted), kGradientTolerance);
}

TEST(SampledLabelGradient, TellsItsProgressAndCanBeStopped) {
  const TempFolder folder;
  ThreadPool pool(1);
  const auto forward = WideVocabulary(folder.path(), pool);
  const Matrix x = GaussianMatrix(5000, 32, 3);
  Matrix gradient(5000, 32);
  std::vector<double> shares;
  ASSERT_TRUE(SampledLabelGradient(*forward, {5000}, {}, x, gradient, [&](double share) {
                shares.push_back(share);
                return true;
              }).ok());
  EXPECT_EQ(shares.size(), 2u * 2 * 3) << "groups of rows, passes, pieces";
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_DOUBLE_EQ(shares.back(), 1);
  EXPECT_TRUE(absl::IsCancelled(SampledLabelGradient(*forward, {5000}, {}, x, gradient, [](double) {
                                  return false;
                                }).status()));
}

}  // namespace
}  // namespace attnprune
