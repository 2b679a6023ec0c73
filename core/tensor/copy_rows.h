#ifndef ATTNPRUNE_CORE_TENSOR_COPY_ROWS_H_
#define ATTNPRUNE_CORE_TENSOR_COPY_ROWS_H_

#include <algorithm>

#include "core/tensor/matrix.h"

namespace attnprune {

// `to` has the shape of `from` and does not overlap it.
inline void CopyRows(MatrixView from, MutableMatrixView to) {
  for (Index i = 0; i < from.rows(); ++i) std::copy_n(from.row(i), from.cols(), to.row(i));
}

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TENSOR_COPY_ROWS_H_
