// Pruning by magnitude: the smallest |W_ij| go.
#ifndef ATTNPRUNE_CORE_METHODS_MAGNITUDE_H_
#define ATTNPRUNE_CORE_METHODS_MAGNITUDE_H_

#include "core/base/thread_pool.h"
#include "core/methods/registry.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Unstructured: prunes floor(rho * size) entries of the whole matrix. N:M: N of every M consecutive
// inputs of an output, which run along the rows or the columns (see NamedWeight). Of equal
// magnitudes the lower flat index goes first.
BitMask MagnitudeMask(MatrixView w, bool inputs_are_rows, const Sparsity& sparsity,
                      ThreadPool& pool);

// The method "magnitude".
const MethodInfo& MagnitudeInfo();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_MAGNITUDE_H_
