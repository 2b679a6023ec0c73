#include "core/objective/sharded_gemm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <set>

#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::attnprune::testing::GaussianMatrix;
using ::testing::ElementsAre;

constexpr Index kInner = 24;

// The largest difference from the product in float64.
double Difference(const Matrix& c, MatrixView a, bool transpose_a, MatrixView b, bool transpose_b) {
  double largest = 0;
  for (Index i = 0; i < c.rows(); ++i) {
    for (Index j = 0; j < c.cols(); ++j) {
      double sum = 0;
      for (Index k = 0; k < kInner; ++k) {
        sum += static_cast<double>(transpose_a ? a(k, i) : a(i, k)) *
               static_cast<double>(transpose_b ? b(j, k) : b(k, j));
      }
      largest = std::max(largest, std::abs(sum - static_cast<double>(c(i, j))));
    }
  }
  return largest;
}

// 24 products of numbers of about 1, summed in float32.
constexpr double kSlack = 1e-4;

TEST(ShardedGemm, IsTheProductWhereTheResultHasSeveralTilesEachWay) {
  ThreadPool pool(2);
  const Matrix a = GaussianMatrix(600, kInner, 1), b = GaussianMatrix(kInner, 1100, 2),
               b_transposed = GaussianMatrix(1100, kInner, 3);
  Matrix c(600, 1100);
  ShardedGemm(pool, a, Trans::kNo, b, c);
  EXPECT_LT(Difference(c, a, false, b, false), kSlack);
  ShardedGemm(pool, a, Trans::kYes, b_transposed, c);
  EXPECT_LT(Difference(c, a, false, b_transposed, true), kSlack);
}

// 1024 columns are ten units of 96 and a rest.
TEST(ShardedGemm, CutsTilesOfWholeUnitsAndTellsWhereTheyAre) {
  ThreadPool pool(2);
  const Matrix a = GaussianMatrix(600, kInner, 1), b = GaussianMatrix(1100, kInner, 3);
  Matrix c(600, 1100);
  std::mutex mutex;
  std::set<std::array<Index, 4>> tiles;
  ShardedGemm(pool, a, Trans::kYes, b, c, 96, [&](Index row, Index col, MutableMatrixView tile) {
    EXPECT_EQ(tile.data(), c.row(row) + col);
    const std::lock_guard<std::mutex> lock(mutex);
    tiles.insert({row, col, tile.rows(), tile.cols()});
  });
  EXPECT_THAT(
      tiles,
      ElementsAre(std::array<Index, 4>{0, 0, 512, 960}, std::array<Index, 4>{0, 960, 512, 140},
                  std::array<Index, 4>{512, 0, 88, 960}, std::array<Index, 4>{512, 960, 88, 140}));
  EXPECT_LT(Difference(c, a, false, b, true), kSlack);
}

TEST(ShardedTransposedGemm, ReplacesOrAddsWhetherTheResultIsLargeOrSmall) {
  ThreadPool pool(2);
  ShardedTransposedGemm gemm(pool);
  for (const Index cols : {8, 1100}) {
    const Matrix a = GaussianMatrix(kInner, 600, 1), b = GaussianMatrix(kInner, cols, 2);
    Matrix c = Matrix::Constant(600, cols, 7);
    gemm(a, b, Into::kReplace, c);
    EXPECT_LT(Difference(c, a, true, b, false), kSlack);
    Matrix twice = c.Clone();
    gemm(a, b, Into::kAdd, twice);
    for (Index i = 0; i < c.size(); ++i) {
      ASSERT_NEAR(twice.data()[i], 2 * c.data()[i], kSlack);
    }
  }
}

}  // namespace
}  // namespace attnprune
