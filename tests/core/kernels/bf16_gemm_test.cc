#include "core/kernels/bf16_gemm.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels/blas.h"
#include "gtest/gtest.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;

Bf16Matrix Rounded(const Matrix& x) {
  Bf16Matrix out;
  out.Resize(x.rows(), x.cols());
  for (Index i = 0; i < x.rows(); ++i) out.SetRow(i, x.row(i));
  return out;
}

Matrix Float32Of(const Bf16Matrix& x) {
  Matrix out(x.rows(), x.cols());
  for (Index i = 0; i < x.rows(); ++i) {
    for (Index j = 0; j < x.cols(); ++j) {
      out(i, j) = std::bit_cast<float>(static_cast<uint32_t>(x.row(i)[j]) << 16);
    }
  }
  return out;
}

TEST(Bf16Matrix, RoundsToTheNearestAndTiesToEven) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Matrix x(1, 8);
  const std::vector<uint32_t> bits = {0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001,
                                      0x80000000, 0x7f7fffff, 0x7f800000, 0x7f800001};
  for (size_t i = 0; i < bits.size(); ++i) x.flat()[i] = std::bit_cast<float>(bits[i]);
  const Bf16Matrix rounded = Rounded(x);
  const std::vector<uint16_t> expected = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x8000, 0x7f80, 0x7f80};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(rounded.row(0)[i], expected[i]) << i;
  EXPECT_EQ(Float32Of(rounded)(0, 6), kInfinity);
  EXPECT_TRUE(std::isnan(Float32Of(rounded)(0, 7))) << "a NaN whose bits are all low";
}

TEST(Bf16Gemm, IsTheProductOfTheRoundedFactors) {
  if (const absl::Status there = CheckBf16Products(); !there.ok()) GTEST_SKIP() << there;
  const Bf16Matrix a = Rounded(GaussianMatrix(37, 129, 1)), b = Rounded(GaussianMatrix(50, 129, 2));
  const Matrix left = Float32Of(a), right = Float32Of(b);
  Matrix expected(30, 41), wide(30, 64);
  Gemm(Trans::kNo, Trans::kYes, 1.0f, MatrixView(left).Rows(7, 30), MatrixView(right).Rows(9, 41),
       0.0f, expected);
  Bf16Gemm(a, 7, b, 9, MutableMatrixView(wide).Block(0, 3, 30, 41));
  for (Index i = 0; i < 30; ++i) {
    EXPECT_EQ(wide(i, 2), 0) << "what is beside the block stays";
    EXPECT_EQ(wide(i, 44), 0);
    for (Index j = 0; j < 41; ++j)
      ASSERT_NEAR(wide(i, 3 + j), expected(i, j), 1e-4) << i << " " << j;
  }
}

}  // namespace
}  // namespace attnprune
