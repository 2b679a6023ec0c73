// Which entries of a score matrix go.
#ifndef ATTNPRUNE_CORE_KERNELS_SELECT_H_
#define ATTNPRUNE_CORE_KERNELS_SELECT_H_

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Flat indices of the `count` smallest scores, ascending by index; of equal scores the lower index
// goes first. 0 <= count <= scores.size(); no NaN. -0 equals 0. O(size).
std::vector<Index> SmallestIndices(absl::Span<const float> scores, Index count);

// Where the `count` smallest of some scores end, which is found without sorting them.
struct Cut {
  float threshold = 0;
  Index equal_pruned = 0;  // of the scores that equal the threshold, the first so many go
  Index equal = 0;         // scores that equal it
};

// 0 < count <= scores.size(); no NaN. -0 equals 0. Two to four passes over the scores on the
// pool's threads: each finds more of the threshold's leading bits, until few scores share them,
// which are sorted. Takes memory for these few and for counters, 1/16 of what the scores take.
Cut FindCut(absl::Span<const float> scores, Index count, ThreadPool& pool);

// mask: 0 where PruneSmallest prunes, else 1; as large as scores. count may be 0.
void PruneSmallestInto(const Matrix& scores, Index count, ThreadPool& pool, Matrix& mask);

// Prunes exactly `count` entries of the whole matrix (Algorithm 1's binarisation).
BitMask PruneSmallest(const Matrix& scores, Index count, ThreadPool& pool);

// Writes the scores of one row; called on the pool's threads.
using RowScores = absl::FunctionRef<void(Index row, absl::Span<float> scores)>;

// Prunes exactly `count` of every `group` consecutive entries of a row; cols divisible by group.
// With group = cols it is Wanda's comparison within each row.
BitMask PruneSmallestPerGroup(Index rows, Index cols, RowScores row_scores, Index count,
                              Index group, ThreadPool& pool);
BitMask PruneSmallestPerGroup(const Matrix& scores, Index count, Index group, ThreadPool& pool);

// For many short runs of scores: keeps its memory between them. Not thread-safe.
class SmallestFinder {
 public:
  // FindCut's answer, under its conditions.
  Cut Find(absl::Span<const float> scores, Index count);
  // Calls visit(index) where SmallestIndices would list it, in the same order and under the same
  // conditions.
  void ForEach(absl::Span<const float> scores, Index count, absl::FunctionRef<void(Index)> visit);

 private:
  std::vector<float> sorted_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_SELECT_H_
