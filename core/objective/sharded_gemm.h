// Large matrix products cut into fixed shards over the threads of a pool.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_SHARDED_GEMM_H_
#define ATTNPRUNE_CORE_OBJECTIVE_SHARDED_GEMM_H_

#include "absl/functional/function_ref.h"
#include "core/base/thread_pool.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Calls shard(first, count) for consecutive runs of `total` rows, `rows` at a time.
void ForRowShards(ThreadPool& pool, Index total, Index rows,
                  absl::FunctionRef<void(Index, Index)> shard);

enum class Into { kReplace, kAdd };

// c = a' b or c += a' b, cut by rows of c, or by tokens where c is small. a: t x m, b: t x n,
// c: m x n; t the long side (tokens).
void ShardedTransposedGemm(ThreadPool& pool, MatrixView a, MatrixView b, Into into,
                           MutableMatrixView c);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_SHARDED_GEMM_H_
