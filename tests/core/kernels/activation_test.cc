#include "core/kernels/activation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/tensor/matrix.h"

namespace attnprune {
namespace {

constexpr Activation kAll[] = {
    Activation::kSilu,      Activation::kGelu,      Activation::kGeluTanh, Activation::kGeluFast,
    Activation::kGeluBloom, Activation::kQuickGelu, Activation::kRelu,     Activation::kRelu2};

double Exact(Activation activation, double x) {
  const auto gelu_tanh = [x](double root) {
    return x / 2 * (1 + std::tanh(root * (x + 0.044715 * x * x * x)));
  };
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return gelu_tanh(std::sqrt(2 / M_PI));
    case Activation::kGeluFast:
      return gelu_tanh(0.7978845608);
    case Activation::kGeluBloom:
      return gelu_tanh(0.79788456);
    case Activation::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kRelu2:
      return std::pow(std::max(x, 0.0), 2);
  }
  return NAN;
}

// From -12 to 12, no multiple of a vector's entries, not 0, where relu has no slope.
Matrix Grid() {
  Matrix x(1, 997);
  for (Index j = 0; j < x.cols(); ++j) x(0, j) = 0.0241f * static_cast<float>(j) - 12.0123f;
  return x;
}

Matrix Waves(Index cols, double frequency) {
  Matrix out(1, cols);
  for (Index j = 0; j < cols; ++j) {
    out(0, j) = static_cast<float>(std::cos(frequency * static_cast<double>(j)));
  }
  return out;
}

TEST(Activation, GradientsAreThoseOfCentralDifferencesInFloat64) {
  constexpr double kStep = 1e-5;
  const Matrix at = Grid(), up = Waves(at.cols(), 0.3), d = Waves(at.cols(), 0.7);
  for (const Activation activation : kAll) {
    Matrix x = at.Clone(), gate = at.Clone(), of_up = up.Clone();
    ActivateBackward(activation, d, x);
    ActivateGateBackward(activation, d, gate, of_up);
    for (Index j = 0; j < at.cols(); ++j) {
      const double value = double{at(0, j)}, gradient = double{d(0, j)}, factor = double{up(0, j)};
      const double slope =
          (Exact(activation, value + kStep) - Exact(activation, value - kStep)) / (2 * kStep);
      const double bound = 1e-6 * (1 + std::abs(value));
      ASSERT_NEAR(double{x(0, j)}, gradient * slope, bound) << value;
      ASSERT_NEAR(double{gate(0, j)}, gradient * factor * slope, bound) << value;
      ASSERT_NEAR(double{of_up(0, j)}, gradient * Exact(activation, value), bound) << value;
    }
  }
}

TEST(Activation, SlopesFarOutAreFinite) {
  for (const Activation activation : kAll) {
    Matrix x(1, 4), d = Matrix::Constant(1, 4, 1.0f);
    const float far[] = {-1e4f, -100.0f, 100.0f, 1e4f};
    std::copy_n(far, 4, x.row(0));
    ActivateBackward(activation, d, x);
    EXPECT_EQ(x(0, 0), 0.0f);
    EXPECT_EQ(x(0, 1), 0.0f);
    if (activation == Activation::kRelu2) continue;
    EXPECT_NEAR(double{x(0, 2)}, 1.0, 1e-6);
    EXPECT_NEAR(double{x(0, 3)}, 1.0, 1e-6);
  }
}

}  // namespace
}  // namespace attnprune
