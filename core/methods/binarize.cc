#include "core/methods/binarize.h"

#include "core/kernels/select.h"
#include "core/methods/linear_map.h"

namespace attnprune {

BitMask Binarize(const Matrix& scores, bool inputs_are_rows, const Sparsity& sparsity,
                 ThreadPool& pool) {
  if (!sparsity.structured()) return PruneSmallest(scores, sparsity.PrunedOf(scores.size()), pool);
  if (!inputs_are_rows) {
    return PruneSmallestPerGroup(scores, sparsity.pruned, sparsity.group, pool);
  }
  const NamedWeight as_weight{"scores", scores, inputs_are_rows};
  return AsStored(as_weight,
                  PruneSmallestPerGroup(OutIn(as_weight), sparsity.pruned, sparsity.group, pool));
}

}  // namespace attnprune
