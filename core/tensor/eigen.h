// Matrices as Eigen sees them. Apart from matrix.h because Eigen's headers take seconds to compile.
#ifndef ATTNPRUNE_CORE_TENSOR_EIGEN_H_
#define ATTNPRUNE_CORE_TENSOR_EIGEN_H_

#include <Eigen/Core>

#include "core/tensor/matrix.h"

namespace attnprune {

using RowMajorArray = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstArrayMap = Eigen::Map<const RowMajorArray, Eigen::Unaligned, Eigen::OuterStride<>>;
using ArrayMap = Eigen::Map<RowMajorArray, Eigen::Unaligned, Eigen::OuterStride<>>;

// Valid as long as what the view looks at; nothing is copied.
inline ConstArrayMap ArrayOf(MatrixView m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.stride())};
}
inline ArrayMap ArrayOf(MutableMatrixView m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.stride())};
}
inline ArrayMap ArrayOf(Matrix& m) { return ArrayOf(MutableMatrixView(m)); }
inline ConstArrayMap ArrayOf(const Matrix& m) { return ArrayOf(MatrixView(m)); }

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TENSOR_EIGEN_H_
