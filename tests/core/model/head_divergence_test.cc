// The divergence of two models' predictions, and its gradient, against float64.
#include "core/model/head_divergence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/core/model/golden_models.h"
#include "tests/support/matrices.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;
using testing::GoldenModel;
using testing::ValueOrDie;

std::vector<double> LogSoftmax(MatrixView logits, Index row) {
  double largest = logits(row, 0), sum = 0;
  for (Index j = 0; j < logits.cols(); ++j) largest = std::max(largest, double{logits(row, j)});
  for (Index j = 0; j < logits.cols(); ++j) sum += std::exp(double{logits(row, j)} - largest);
  std::vector<double> values;
  for (Index j = 0; j < logits.cols(); ++j) {
    values.push_back(double{logits(row, j)} - largest - std::log(sum));
  }
  return values;
}

double Divergence(Forward& forward, MatrixView dense, MatrixView x) {
  const Matrix of_dense = ValueOrDie(forward.Logits(dense)), of_x = ValueOrDie(forward.Logits(x));
  double sum = 0;
  for (Index i = 0; i < x.rows(); ++i) {
    const std::vector<double> p = LogSoftmax(of_dense, i), q = LogSoftmax(of_x, i);
    for (size_t j = 0; j < p.size(); ++j) sum += std::exp(p[j]) * (p[j] - q[j]);
  }
  return sum;
}

// llama: nothing special; gemma2: caps its logits; gpt2: a LayerNorm; opt: projects.
class LogitDivergenceTest : public ::testing::TestWithParam<std::string> {
 protected:
  ThreadPool pool_{2};
  std::unique_ptr<Forward> forward_ = ValueOrDie(Forward::Open(GoldenModel(GetParam()), pool_));
  const Index width_ = forward_->options().hidden_size;
  const Matrix dense_ = GaussianMatrix(5, width_, 1);
  Matrix x_ = GaussianMatrix(5, width_, 2);
};

TEST_P(LogitDivergenceTest, IsTheSumOverRowsOfTheirDivergence) {
  const double expected = Divergence(*forward_, dense_, x_);
  EXPECT_GT(expected, 0.01);
  EXPECT_NEAR(ValueOrDie(LogitDivergence(*forward_, dense_, x_, absl::nullopt)), expected,
              1e-5 * expected);
  EXPECT_NEAR(ValueOrDie(LogitDivergence(*forward_, dense_, dense_, absl::nullopt)), 0, 1e-6);
}

TEST_P(LogitDivergenceTest, HasTheGradientOfCentralDifferences) {
  Matrix gradient = Matrix::Constant(5, width_, NAN);
  ASSERT_TRUE(LogitDivergence(*forward_, dense_, x_, gradient).ok());
  double largest = 0;
  for (const float value : gradient.flat()) largest = std::max(largest, std::abs(double{value}));
  ASSERT_GT(largest, 0.001);
  for (Index j = 0; j < width_; j += 5) {
    constexpr float kStep = 1.0f / 128;
    const float at = x_(3, j);
    x_(3, j) = at + kStep;
    const double above = Divergence(*forward_, dense_, x_);
    x_(3, j) = at - kStep;
    const double below = Divergence(*forward_, dense_, x_);
    x_(3, j) = at;
    EXPECT_NEAR(gradient(3, j), (above - below) / (2 * double{kStep}), 2e-3 * largest) << j;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LogitDivergenceTest,
                         ::testing::Values("llama", "gemma2", "gpt2", "opt-350m-like"),
                         [](const auto& test) { return testing::TestName(test.param); });

TEST(LogitDivergence, HasTheSameBitsOnAnyNumberOfThreads) {
  const auto bits = [](int threads) {
    ThreadPool pool(threads);
    const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
    const Matrix dense = GaussianMatrix(200, 32, 1), x = GaussianMatrix(200, 32, 2);
    Matrix gradient(200, 32);
    std::vector<float> all = {
        static_cast<float>(ValueOrDie(LogitDivergence(*forward, dense, x, gradient)))};
    all.insert(all.end(), gradient.flat().begin(), gradient.flat().end());
    return all;
  };
  EXPECT_EQ(bits(1), bits(3));
}

TEST(LogitDivergence, EndsWhereItIsToldTo) {
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const Matrix x = GaussianMatrix(3, 32, 1);
  EXPECT_EQ(
      LogitDivergence(*forward, x, x, absl::nullopt, [](double) { return false; }).status().code(),
      absl::StatusCode::kCancelled);
}

TEST(LogitDivergence, IsNoneOfMaskedModels) {
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("bert"), pool));
  const Matrix x = GaussianMatrix(3, forward->options().hidden_size, 1);
  EXPECT_EQ(LogitDivergence(*forward, x, x, absl::nullopt).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace attnprune
