// What ADMM for sparse weights keeps of a matrix, and the halves of its step that no metric enters:
//
//   D <- P(U + V / r);  V <- V + r (U - D)
//
// P keeps the largest of the matrix, of an N:M group the largest of each group. r begins at 0.1.
// Every third step, with c the entries that entered or left the support since the last look over
// those kept: c > 0.1: r *= 1.3; c > 0.005: r *= 1.2; any: r *= 1.1; none: settled. Until a look
// has found c > 0.005, r /= 5 in place of the last two, and where something changed the matrix
// begins anew. Settled too after 30 steps where c < 0.0003.
#ifndef ATTNPRUNE_CORE_METHODS_ADMM_H_
#define ATTNPRUNE_CORE_METHODS_ADMM_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "core/base/thread_pool.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct ShardRows {
  Index first, count;
};

// Calls work(rows, shard) for fixed runs of the rows of a matrix, on the pool's threads.
void ForRowShards(Index rows, ThreadPool& pool, absl::FunctionRef<void(ShardRows, size_t)> work);
size_t RowShards(Index rows);

// outputs x inputs, in the scale that makes the metric's diagonal 1. One caller at a time.
struct AdmmState {
  Matrix u, v, d;
  BitMask last_look;  // the support then
  double r = 0;
  bool moving = false;  // a look has found c > 0.005
  bool settled = false;

  // Of a matrix that has not begun; settled where nothing is to go.
  AdmmState() = default;
  AdmmState(Index outputs, Index inputs, const Sparsity& sparsity);
  // From U.
  void Begin(const Matrix& from, const Sparsity& sparsity, ThreadPool& pool);
  // After a new U, with `support` that of P(U + V / r).
  void Project(const BitMask& support, ThreadPool& pool);
  // After step number `step`, from 1. True: it is to begin anew.
  bool Look(const BitMask& support, int step);
  bool finite() const;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_ADMM_H_
