// Small matrices and masks to write down, random ones, and masks to look at.
#ifndef ATTNPRUNE_TESTS_SUPPORT_MATRICES_H_
#define ATTNPRUNE_TESTS_SUPPORT_MATRICES_H_

#include <algorithm>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune::testing {

// MatrixOf({{1, 2}, {3, 4}}): rows of one length.
inline Matrix MatrixOf(std::initializer_list<std::initializer_list<float>> rows) {
  Matrix matrix(static_cast<Index>(rows.size()), static_cast<Index>(rows.begin()->size()));
  float* next = matrix.data();
  for (const auto& row : rows) next = std::copy(row.begin(), row.end(), next);
  return matrix;
}

inline Matrix GaussianMatrix(Index rows, Index cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Matrix matrix(rows, cols);
  for (float& value : matrix.flat()) value = normal(random);
  return matrix;
}

// 1 where the entry is not 0.
inline BitMask MaskOfNonZeros(MatrixView matrix) {
  BitMask mask(matrix.rows(), matrix.cols(), /*kept=*/true);
  for (Index i = 0; i < matrix.rows(); ++i) {
    for (Index j = 0; j < matrix.cols(); ++j) {
      if (matrix(i, j) == 0.0f) mask.Prune(i * matrix.cols() + j);
    }
  }
  return mask;
}

// One string a row: 'x' kept, '.' pruned.
inline std::vector<std::string> Picture(const BitMask& mask) {
  std::vector<std::string> rows(static_cast<size_t>(mask.rows()));
  for (Index flat = 0; flat < mask.size(); ++flat) {
    rows[static_cast<size_t>(flat / mask.cols())] += mask.kept(flat) ? 'x' : '.';
  }
  return rows;
}

inline std::vector<float> Values(const Matrix& matrix) {
  return {matrix.flat().begin(), matrix.flat().end()};
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SUPPORT_MATRICES_H_
