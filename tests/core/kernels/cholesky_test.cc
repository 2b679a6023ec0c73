#include "core/kernels/cholesky.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include "core/kernels/blas.h"
#include "core/kernels/triangle.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

ThreadPool& OneThread() {
  static ThreadPool& pool = *new ThreadPool(1);
  return pool;
}

using ::attnprune::testing::GaussianMatrix;
using ::attnprune::testing::Values;
using ::testing::AllOf;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

GramMatrix Symmetric2x2(double a, double b, double c) {
  GramMatrix h(2);
  h(0, 0) = a;
  h(0, 1) = h(1, 0) = b;
  h(1, 1) = c;
  return h;
}

// U'U = [[5, -2], [-2, 4]] / 16, the inverse of [[4, 2], [2, 5]].
TEST(InverseFactor, OfTwoByTwo) {
  const absl::optional<Matrix> u = InverseFactor(Symmetric2x2(4, 2, 5), 0, OneThread());
  ASSERT_TRUE(u.has_value());
  const float u00 = std::sqrt(5.0f / 16), u11 = std::sqrt(0.2f);
  EXPECT_THAT(Values(*u),
              Pointwise(FloatNear(1e-7f), std::vector<float>{u00, -0.125f / u00, 0, u11}));
}

TEST(InverseFactor, OfOneNumber) {
  GramMatrix h(1);
  h(0, 0) = 3;
  const absl::optional<Matrix> u = InverseFactor(h, 1, OneThread());
  ASSERT_TRUE(u.has_value());
  EXPECT_EQ((*u)(0, 0), 0.5f);
}

struct Entry {
  double value = 0, magnitude = 0;  // the sum, and the sum of its terms' magnitudes
};

Entry EntryOfUtU(const Matrix& u, Index i, Index j) {
  Entry entry;
  for (Index k = 0; k < u.rows(); ++k) {
    const double term = static_cast<double>(u(k, i)) * static_cast<double>(u(k, j));
    entry.value += term;
    entry.magnitude += std::abs(term);
  }
  return entry;
}

// U is right but for the rounding of each entry to float32, so that entry by entry
// |U'U H - I| <= eps |U|'|U| |H|, computed here, where eps is twice the rounding of one entry.
TEST(InverseFactor, TimesTheHessianIsTheIdentity) {
  constexpr double kDamping = 0.5, kEpsilon = std::numeric_limits<float>::epsilon();
  ThreadPool pool(1);
  const Matrix x = GaussianMatrix(60, 40, 5);
  GramMatrix h = Gram(x, pool);
  const absl::optional<Matrix> u = InverseFactor(h, kDamping, OneThread());
  ASSERT_TRUE(u.has_value());
  for (Index i = 0; i < h.size(); ++i) h(i, i) += kDamping;
  for (Index i = 0; i < h.size(); ++i) {
    for (Index j = 0; j < h.size(); ++j) {
      double product = 0, bound = 0;
      for (Index k = 0; k < h.size(); ++k) {
        const Entry entry = EntryOfUtU(*u, i, k);
        product += entry.value * h(k, j);
        bound += kEpsilon * entry.magnitude * std::abs(h(k, j));
      }
      ASSERT_NEAR(product, i == j ? 1 : 0, bound) << i << ", " << j;
    }
  }
}

TEST(InverseFactor, IsZeroBelowItsPositiveDiagonal) {
  ThreadPool pool(1);
  const Matrix x = GaussianMatrix(30, 20, 6);
  const absl::optional<Matrix> u = InverseFactor(Gram(x, pool), 0, OneThread());
  ASSERT_TRUE(u.has_value());
  for (Index i = 0; i < 20; ++i) {
    EXPECT_GT((*u)(i, i), 0);
    for (Index j = 0; j < i; ++j) EXPECT_EQ((*u)(i, j), 0);
  }
}

TEST(InverseFactor, RefusesAnIndefiniteMatrix) {
  EXPECT_FALSE(InverseFactor(Symmetric2x2(1, 2, 1), 0, OneThread()).has_value());
}

TEST(InverseFactor, RefusesASingularMatrix) {
  EXPECT_FALSE(InverseFactor(Symmetric2x2(4, 2, 1), 0, OneThread()).has_value());
}

// Positive definite in float64, but 1e-9 means nothing in a sum of float32 products.
TEST(InverseFactor, RefusesAPivotWithinRoundingOfZero) {
  EXPECT_FALSE(InverseFactor(Symmetric2x2(1 + 1e-9, 1, 1), 0, OneThread()).has_value());
  EXPECT_TRUE(InverseFactor(Symmetric2x2(1 + 1e-3, 1, 1), 0, OneThread()).has_value());
}

TEST(DampedInverseFactor, TakesTheDampingAskedForWhereItSuffices) {
  const GramMatrix h = Symmetric2x2(4, 2, 5);
  const absl::StatusOr<DampedFactor> factor = DampedInverseFactor(h, 0.01, OneThread());
  ASSERT_TRUE(factor.ok()) << factor.status();
  EXPECT_EQ(factor->retries, 0);
  EXPECT_EQ(factor->percdamp, 0.01);
  EXPECT_EQ(Values(factor->u), Values(*InverseFactor(h, 0.01 * 4.5, OneThread())));
}

TEST(DampedInverseFactor, StartsFromZeroAtOneMillionth) {
  const absl::StatusOr<DampedFactor> factor =
      DampedInverseFactor(Symmetric2x2(4, 2, 1), 0, OneThread());
  ASSERT_TRUE(factor.ok()) << factor.status();
  EXPECT_EQ(factor->retries, 1);
  EXPECT_EQ(factor->percdamp, 1e-6);
}

// Eigenvalues 2.05 and -0.05, mean diagonal 1: it takes more than 0.05.
TEST(DampedInverseFactor, RaisesTenfoldEachTimeFromTheUndampedMatrix) {
  const GramMatrix h = Symmetric2x2(1, 1.05, 1);
  const absl::StatusOr<DampedFactor> factor = DampedInverseFactor(h, 0.001, OneThread());
  ASSERT_TRUE(factor.ok()) << factor.status();
  EXPECT_EQ(factor->retries, 2);
  EXPECT_DOUBLE_EQ(factor->percdamp, 0.1);
  EXPECT_EQ(Values(factor->u), Values(*InverseFactor(h, factor->percdamp, OneThread())));
}

TEST(DampedInverseFactor, GivesUpNamingPercdamp) {
  const absl::Status status = DampedInverseFactor(Symmetric2x2(1, 1e9, 1), 0, OneThread()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("percdamp"), HasSubstr("neither 0 nor 8 raises")));
}

TEST(DampedInverseFactor, RefusesInfinityAndNan) {
  for (const double value :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const absl::Status status =
        DampedInverseFactor(Symmetric2x2(1, value, 1), 0.01, OneThread()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("must be finite"));
  }
}

// [[2, 1], [1, 2]], of which the lower triangle is looked at.
TEST(SymmetricEigenvalues, AreAscending) {
  std::vector<double> a = {2, 99, 1, 2}, values(2);
  ASSERT_TRUE(SymmetricEigenvalues(2, absl::MakeSpan(a), absl::MakeSpan(values)));
  EXPECT_NEAR(values[0], 1, 1e-14);
  EXPECT_NEAR(values[1], 3, 1e-14);
}

// Above LAPACK's own size the factor is cut into blocks.
TEST(InverseFactor, OfALargeMatrixInvertsItWithTheSameBitsOnAnyNumberOfThreads) {
  const Index d = kLapackRows + 300;
  ThreadPool one(1), three(3);
  const Matrix x = GaussianMatrix(200, d, 1);
  GramMatrix h = Gram(x, one);
  for (Index i = 0; i < d; ++i) h(i, i) += 100;
  const absl::optional<Matrix> u = InverseFactor(h, 0, one);
  ASSERT_TRUE(u.has_value());
  EXPECT_EQ(Values(*u), Values(*InverseFactor(h, 0, three)));
  // U h U' = I: of some rows.
  for (const Index i : {Index{0}, Index{255}, Index{256}, Index{2000}, d - 1}) {
    std::vector<double> product(static_cast<size_t>(d));
    for (Index k = i; k < d; ++k) {
      const auto by = static_cast<double>((*u)(i, k));
      for (Index j = 0; j < d; ++j) product[static_cast<size_t>(j)] += by * h(k, j);
    }
    for (const Index row : {Index{0}, i, d - 1}) {
      double sum = 0;
      for (Index j = row; j < d; ++j) {
        sum += product[static_cast<size_t>(j)] * static_cast<double>((*u)(row, j));
      }
      EXPECT_NEAR(sum, row == i ? 1 : 0, 1e-5) << row << " " << i;
    }
  }
  h(d - 1, d - 1) = -1;
  EXPECT_FALSE(InverseFactor(h, 0, three).has_value());
}

}  // namespace
}  // namespace attnprune
