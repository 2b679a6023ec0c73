#include "core/kernels/norm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::attnprune::testing::GaussianMatrix;
using ::attnprune::testing::MatrixOf;
using ::attnprune::testing::Values;
using ::testing::ElementsAre;
using ::testing::FloatNear;

constexpr double kNormUnit = 0x1p-24;  // half an ulp of 1 in float32

Matrix Normalized(const RowNorm& norm, const Matrix& x) {
  Matrix y(x.rows(), x.cols());
  Normalize(norm, x, y);
  return y;
}

// mean(x^2) = (9 + 16 + 0 + 0) / 4 = 6.25, whose root is 2.5.
TEST(RmsNorm, DividesByTheRootOfTheMeanSquare) {
  EXPECT_THAT(Values(Normalized({.eps = 0}, MatrixOf({{3, 4, 0, 0}}))),
              ElementsAre(1.2f, 1.6f, 0, 0));
}

// The mean is 2, what is left (-1, 1, -3, 3) of mean square 5; with eps 4 the root is 3.
TEST(LayerNorm, TakesTheMeanOffAndDividesByTheRootOfVarianceAndEps) {
  const RowNorm norm{.kind = NormKind::kLayer, .eps = 4};
  EXPECT_THAT(Values(Normalized(norm, MatrixOf({{1, 3, -1, 5}}))),
              ElementsAre(FloatNear(-1.0f / 3, 1e-7f), FloatNear(1.0f / 3, 1e-7f), -1, 1));
}

TEST(RowNorm, TakesEachGroupOfARowAlone) {
  const RowNorm norm{.eps = 0, .group = 2};
  EXPECT_THAT(Values(Normalized(norm, MatrixOf({{3, 3, -0.5f, 0.5f}, {7, -7, 2, 2}}))),
              ElementsAre(1, 1, -1, 1, 1, -1, 1, 1));
}

TEST(RowNorm, HasAWeightAndABiasForEachFeatureOfTheRow) {
  const std::vector<float> weight = {1, 2, 3, 4}, bias = {10, 20, 30, 40};
  const RowNorm norm{.eps = 0, .group = 2, .weight = weight, .bias = bias};
  EXPECT_THAT(Values(Normalized(norm, MatrixOf({{5, 5, 6, -6}}))), ElementsAre(11, 22, 33, 36));
}

TEST(RowNorm, GivesARowOfZerosItsBias) {
  const std::vector<float> bias = {1, 2, 3};
  for (const NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
    const RowNorm norm{.kind = kind, .bias = bias};
    EXPECT_THAT(Values(Normalized(norm, MatrixOf({{0, 0, 0}}))), ElementsAre(1, 2, 3));
  }
}

TEST(RowNorm, MayWriteOverWhatItReads) {
  const Matrix x = GaussianMatrix(3, 24, 1);
  const RowNorm norm{.kind = NormKind::kLayer, .group = 8};
  Matrix in_place = x.Clone();
  Normalize(norm, in_place, in_place);
  EXPECT_EQ(Values(in_place), Values(Normalized(norm, x)));
}

// Sums in float32 would lose the spread of 1e-3 beside 1e3 altogether. Float32 holds x to 2^-15,
// which is 3 % of the spread, so the exact answer is that of the numbers as they are stored.
TEST(LayerNorm, KeepsASmallSpreadAroundALargeMean) {
  Matrix x = GaussianMatrix(1, 1000, 2);
  double mean = 0, squares = 0;
  for (float& value : x.flat()) {
    value = 1000 + 1e-3f * value;
    mean += static_cast<double>(value) / 1000;
  }
  for (const float value : x.flat()) squares += std::pow(static_cast<double>(value) - mean, 2);
  const Matrix y = Normalized({.kind = NormKind::kLayer, .eps = 0}, x);
  for (Index i = 0; i < x.cols(); ++i) {
    const double expected = (static_cast<double>(x(0, i)) - mean) / std::sqrt(squares / 1000);
    // The mean itself, twice summed in float64: 1000 roundings of 1000 in 2^-53 beside 1e-3.
    EXPECT_NEAR(y(0, i), expected, 1e-6) << i;
  }
}

struct GradientCase {
  NormKind kind;
  Index group, features;
};

class NormGradient : public ::testing::TestWithParam<GradientCase> {};
INSTANTIATE_TEST_SUITE_P(All, NormGradient,
                         ::testing::Values(GradientCase{NormKind::kRms, 5, 15},
                                           GradientCase{NormKind::kRms, 0, 19},
                                           GradientCase{NormKind::kLayer, 5, 15},
                                           GradientCase{NormKind::kLayer, 0, 19},
                                           GradientCase{NormKind::kLayer, 16, 64}),
                         [](const auto& test) {
                           return std::string(test.param.kind == NormKind::kRms ? "Rms" : "Layer") +
                                  std::to_string(test.param.group) + "Of" +
                                  std::to_string(test.param.features);
                         });

// sum(weights_of_loss o y) in float64, by the formulas at the head of norm.h.
double LossInFloat64(const RowNorm& norm, const std::vector<double>& x,
                     const std::vector<float>& of_loss) {
  const size_t group = norm.group > 0 ? static_cast<size_t>(norm.group) : x.size();
  double loss = 0;
  for (size_t first = 0; first < x.size(); first += group) {
    double mean = 0, squares = 0;
    for (size_t i = first; i < first + group; ++i) mean += x[i] / static_cast<double>(group);
    if (norm.kind == NormKind::kRms) mean = 0;
    for (size_t i = first; i < first + group; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double root = std::sqrt(squares / static_cast<double>(group) + norm.eps);
    for (size_t i = first; i < first + group; ++i) {
      const double y = (x[i] - mean) / root * static_cast<double>(norm.weight[i]) +
                       static_cast<double>(norm.bias[i]);
      loss += y * static_cast<double>(of_loss[i]);
    }
  }
  return loss;
}

// Central differences of step h in float64 are off by h^2 times the third derivative, of order 1
// here, and by 2^-53 / h times the loss: 1e-9 with h = 1e-5. Then one rounding to float32.
TEST_P(NormGradient, IsThatOfFiniteDifferences) {
  const GradientCase& test = GetParam();
  const Matrix x = GaussianMatrix(1, test.features, 3);
  const std::vector<float> weight = Values(GaussianMatrix(1, test.features, 4));
  const std::vector<float> bias = Values(GaussianMatrix(1, test.features, 5));
  const std::vector<float> of_loss = Values(GaussianMatrix(1, test.features, 6));
  const RowNorm norm{
      .kind = test.kind, .eps = 0.1, .group = test.group, .weight = weight, .bias = bias};
  Matrix d(1, test.features);
  std::copy(of_loss.begin(), of_loss.end(), d.data());
  NormalizeBackward(norm, x, d);
  constexpr double kStep = 1e-5;
  const std::vector<double> at(x.flat().begin(), x.flat().end());
  for (size_t i = 0; i < at.size(); ++i) {
    std::vector<double> above = at, below = at;
    above[i] += kStep;
    below[i] -= kStep;
    const double expected =
        (LossInFloat64(norm, above, of_loss) - LossInFloat64(norm, below, of_loss)) / (2 * kStep);
    const auto got = static_cast<double>(d.flat()[i]);
    EXPECT_NEAR(got, expected, 1e-8 + kNormUnit * std::abs(expected)) << i;
  }
}

TEST(NormGradient, HasNoWeightToMultiplyByWhereThereIsNone) {
  const Matrix x = GaussianMatrix(2, 12, 7);
  const std::vector<float> ones(12, 1.0f);
  Matrix with = GaussianMatrix(2, 12, 8), without = with.Clone();
  NormalizeBackward({.group = 4, .weight = ones}, x, with);
  NormalizeBackward({.group = 4}, x, without);
  EXPECT_EQ(Values(with), Values(without));
}

}  // namespace
}  // namespace attnprune
