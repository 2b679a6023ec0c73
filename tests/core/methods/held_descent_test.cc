// Conjugate gradients for held masks, on a quadratic that they must solve.
#include "core/methods/held_descent.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

namespace attnprune {
namespace {

constexpr Index kSize = 4;
constexpr float kCurvature[kSize] = {1, 1.5f, 2, 3};

std::vector<Matrix> One(Matrix matrix) {
  std::vector<Matrix> one;
  one.push_back(std::move(matrix));
  return one;
}

// 1/2 sum c_i (w_i - 1)^2.
double Loss(const std::vector<Matrix>& weights) {
  double loss = 0;
  for (Index i = 0; i < kSize; ++i) {
    const double off = static_cast<double>(weights[0](0, i)) - 1;
    loss += static_cast<double>(kCurvature[i]) * off * off / 2;
  }
  return loss;
}

std::vector<Matrix> Gradient(const std::vector<Matrix>& weights) {
  Matrix gradient(1, kSize);
  for (Index i = 0; i < kSize; ++i) gradient(0, i) = kCurvature[i] * (weights[0](0, i) - 1);
  return One(std::move(gradient));
}

// A step of the metric 1.
void Turn(HeldDescent& descent, const std::vector<Matrix>& point) {
  const std::vector<Matrix> gradient = Gradient(point);
  Matrix solved = point[0].Clone();
  for (Index i = 0; i < kSize; ++i) solved(0, i) -= gradient[0](0, i);
  descent.Turn(point, One(std::move(solved)), gradient);
}

TEST(HeldDescent, SolvesAQuadraticInAsManyStepsAsItHasCurvatures) {
  std::vector<Matrix> point = One(Matrix(1, kSize));
  HeldDescent descent(point);
  for (Index step = 0; step < kSize; ++step) {
    EXPECT_GT(Loss(point), 1e-6) << step;
    Turn(descent, point);
    descent.SetLength(Loss(point), Loss(descent.Reached(point)));
    point = descent.Reached(point);
  }
  EXPECT_LT(Loss(point), 1e-10);
}

TEST(HeldDescent, ShortensItsWayByATenthAtMostWhereTheLossIsNoNumber) {
  const std::vector<Matrix> point = One(Matrix(1, kSize));
  HeldDescent descent(point);
  Turn(descent, point);
  descent.SetLength(Loss(point), std::nan(""));
  EXPECT_EQ(descent.length, 0.1);
}

TEST(HeldDescent, BeginsAnewWithAQuarterOfItsWayAfterARefusal) {
  std::vector<Matrix> point = One(Matrix(1, kSize));
  HeldDescent descent(point), fresh(point);
  Turn(descent, point);
  descent.Refuse();
  EXPECT_EQ(descent.length, 0.25);
  point[0](0, 0) = 0.5f;
  Turn(descent, point);
  Turn(fresh, point);
  for (Index i = 0; i < kSize; ++i) EXPECT_EQ(descent.direction[0](0, i), fresh.direction[0](0, i));
}

}  // namespace
}  // namespace attnprune
