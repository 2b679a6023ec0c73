// Algorithm 1's last lines: from real-valued scores to an exactly sparse mask.
#ifndef ATTNPRUNE_CORE_METHODS_BINARIZE_H_
#define ATTNPRUNE_CORE_METHODS_BINARIZE_H_

#include "core/base/thread_pool.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Prunes exactly the floor(rho size) smallest scores of the matrix, or the N smallest of every M
// consecutive inputs; of equal scores the lower flat index (as stored; in a group, the lower input)
// goes first. inputs_are_rows: see NamedWeight. No NaN.
BitMask Binarize(const Matrix& scores, bool inputs_are_rows, const Sparsity& sparsity,
                 ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_BINARIZE_H_
