#include "core/tensor/matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

static_assert(!std::is_copy_constructible_v<Matrix> && !std::is_copy_assignable_v<Matrix>);
static_assert(!std::is_constructible_v<MatrixView, Matrix&&>, "a view of a temporary dangles");
static_assert(!std::is_convertible_v<MatrixView, MutableMatrixView>);

// 0 1 2 / 10 11 12
Matrix TwoByThree() {
  Matrix m(2, 3);
  for (Index i = 0; i < 2; ++i) {
    for (Index j = 0; j < 3; ++j) m(i, j) = static_cast<float>(10 * i + j);
  }
  return m;
}

TEST(Matrix, BeginsAsZeros) { EXPECT_THAT(Matrix(3, 5).flat(), Each(0.0f)); }

TEST(Matrix, IsRowMajor) { EXPECT_THAT(TwoByThree().flat(), ElementsAre(0, 1, 2, 10, 11, 12)); }

TEST(Matrix, IsAlignedTo64Bytes) {
  for (Index n : {1, 3, 17, 100}) {
    const Matrix m(n, n);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(m.data()) % 64, 0u) << n;
  }
}

TEST(Matrix, MovesItsStorageAndLeavesAnEmptyMatrix) {
  Matrix from = TwoByThree();
  const float* storage = from.data();
  const Matrix to = std::move(from);
  EXPECT_EQ(to.data(), storage);
  EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): that is the promise
}

TEST(Matrix, ClonesIntoStorageOfItsOwn) {
  Matrix original = TwoByThree();
  const Matrix clone = original.Clone();
  original(1, 2) = -1;
  EXPECT_THAT(clone.flat(), ElementsAre(0, 1, 2, 10, 11, 12));
}

TEST(Matrix, CopiesABlockIntoContiguousStorage) {
  const Matrix m = TwoByThree();
  EXPECT_THAT(Matrix::CopyFrom(MatrixView(m).Cols(1, 2)).flat(), ElementsAre(1, 2, 11, 12));
}

TEST(Matrix, IsConstantWhenAskedTo) {
  EXPECT_THAT(Matrix::Constant(4, 2, 2.5f).flat(), Each(2.5f));
}

TEST(Matrix, MayBeEmptyInEitherDirection) {
  EXPECT_TRUE(Matrix(0, 5).empty());
  EXPECT_TRUE(Matrix(5, 0).empty());
  EXPECT_TRUE(Matrix(0, 5).Clone().empty());
}

TEST(Matrix, ComparesShapesNotSizes) {
  EXPECT_TRUE(SameShape(Matrix(2, 3), Matrix(2, 3)));
  EXPECT_FALSE(SameShape(Matrix(2, 3), Matrix(3, 2)));
}

TEST(MatrixView, LooksAtABlockWithoutCopying) {
  const Matrix m = TwoByThree();
  const MatrixView block = MatrixView(m).Block(1, 1, 1, 2);
  EXPECT_EQ(block.data(), m.row(1) + 1);
  EXPECT_EQ(block(0, 1), 12);
  EXPECT_EQ(block.size(), 2);
}

TEST(MatrixView, KeepsTheStrideInABlockOfABlock) {
  const Matrix m = TwoByThree();
  const MatrixView column = MatrixView(m).Cols(1, 2).Cols(1, 1);
  EXPECT_EQ(column(0, 0), 2);
  EXPECT_EQ(column(1, 0), 12);
}

TEST(MatrixView, AsArraySeesTheSameEntries) {
  const Matrix m = TwoByThree();
  const auto array = ArrayOf(MatrixView(m).Cols(1, 2));
  EXPECT_EQ(array.rows(), 2);
  EXPECT_EQ(array(1, 0), 11);
}

TEST(MutableMatrixView, WritesThrough) {
  Matrix m = TwoByThree();
  ArrayOf(MutableMatrixView(m).Rows(1, 1)) += 1;
  EXPECT_THAT(m.flat(), ElementsAre(0, 1, 2, 11, 12, 13));
}

}  // namespace
}  // namespace attnprune
