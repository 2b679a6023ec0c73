#include "core/kernels/gram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::attnprune::testing::GaussianMatrix;
using ::attnprune::testing::MatrixOf;
using ::testing::ElementsAre;

double Dot(const Matrix& x, Index i, Index j) {
  double sum = 0;
  for (Index t = 0; t < x.rows(); ++t) {
    sum += static_cast<double>(x(t, i)) * static_cast<double>(x(t, j));
  }
  return sum;
}

std::vector<double> GramValues(const Matrix& x, int threads) {
  ThreadPool pool(threads);
  const GramMatrix gram = Gram(x, pool);
  return {gram.flat().begin(), gram.flat().end()};
}

TEST(Gram, OfTwoTokens) {
  EXPECT_THAT(GramValues(MatrixOf({{1, 2}, {3, 4}}), 1), ElementsAre(10, 14, 14, 20));
}

// More than one sum of 256 tokens and more than one tile of 128 features, neither whole.
TEST(Gram, IsWithinItsErrorBoundOfFloat64) {
  const Matrix x = GaussianMatrix(300, 150, 1);
  ThreadPool pool(1);
  const GramMatrix gram = Gram(x, pool);
  constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
  for (Index i = 0; i < gram.size(); ++i) {
    for (Index j = 0; j < gram.size(); ++j) {
      const double bound = 256 * kEpsilon * std::sqrt(Dot(x, i, i) * Dot(x, j, j));
      ASSERT_NEAR(gram(i, j), Dot(x, i, j), bound) << i << ", " << j;
    }
  }
}

TEST(Gram, IsExactlySymmetric) {
  const Matrix x = GaussianMatrix(70, 200, 2);
  ThreadPool pool(1);
  const GramMatrix gram = Gram(x, pool);
  for (Index i = 0; i < gram.size(); ++i) {
    for (Index j = 0; j < i; ++j) ASSERT_EQ(gram(i, j), gram(j, i));
  }
}

// In float32, 4096^2 = 2^24 swallows every 1 that is added to it.
TEST(Gram, DoesNotLoseManySmallTokensBesideALoudOne) {
  Matrix x = Matrix::Constant(40'000, 1, 1.0f);
  x(0, 0) = 4096;
  EXPECT_NEAR(GramValues(x, 1)[0], 16'777'216 + 39'999, 256);
}

TEST(Gram, HasTheSameBitsOnAnyNumberOfThreads) {
  const Matrix x = GaussianMatrix(600, 300, 3);
  const std::vector<double> one = GramValues(x, 1);
  EXPECT_EQ(GramValues(x, 2), one);
  EXPECT_EQ(GramValues(x, 4), one);
}

TEST(ColumnNorms, AreZeroForADeadFeature) {
  const Matrix x = MatrixOf({{3, 0, 1}, {4, 0, 1}});
  ThreadPool pool(1);
  EXPECT_THAT(ColumnNorms(x, pool), ElementsAre(5, 0, std::sqrt(2.0)));
}

TEST(ColumnNorms, DoNotOverflowWhereFloat32Would) {
  const Matrix x = MatrixOf({{3e30f}, {4e30f}});
  ThreadPool pool(1);
  EXPECT_NEAR(ColumnNorms(x, pool)[0], 5e30, 1e24);
}

TEST(ColumnNorms, HaveTheSameBitsOnAnyNumberOfThreads) {
  const Matrix x = GaussianMatrix(100, 700, 4);
  ThreadPool one(1), two(2), four(4);
  const std::vector<double> norms = ColumnNorms(x, one);
  EXPECT_EQ(ColumnNorms(x, two), norms);
  EXPECT_EQ(ColumnNorms(x, four), norms);
  EXPECT_NEAR(norms[699], std::sqrt(Dot(x, 699, 699)), 1e-12);
}

}  // namespace
}  // namespace attnprune
