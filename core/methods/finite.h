// Whether numbers are finite.
#ifndef ATTNPRUNE_CORE_METHODS_FINITE_H_
#define ATTNPRUNE_CORE_METHODS_FINITE_H_

#include <algorithm>
#include <cmath>

#include "core/tensor/matrix.h"

namespace attnprune {

inline bool IsFinite(const Matrix& matrix) {
  return std::all_of(matrix.flat().begin(), matrix.flat().end(),
                     [](float value) { return std::isfinite(value); });
}

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_FINITE_H_
