// The dense attention f of every batch and head, and the layouts to walk it by.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_DENSE_ATTENTION_H_
#define ATTNPRUNE_CORE_OBJECTIVE_DENSE_ATTENTION_H_

#include <map>
#include <vector>

#include "core/kernels/attention.h"
#include "core/problem/problem.h"

namespace attnprune {

// Storage only; filled by the objectives. Distinct (batch, head) entries may be written at once.
class DenseAttentionStore {
 public:
  DenseAttentionStore(const AttentionMask& mask, const Batches& batches, Index heads);

  const AttentionLayout& layout(Index batch) const { return *layouts_[static_cast<size_t>(batch)]; }
  float* packed(Index batch, Index head) {
    return storage_.data() + offsets_[static_cast<size_t>(batch)] +
           head * layout(batch).packed_size();
  }
  // ||f||^2 of one head of one batch.
  double& norm(Index batch, Index head) {
    return norms_[static_cast<size_t>(batch * heads_ + head)];
  }
  // Over the batches, per head; and over everything.
  std::vector<double> NormPerHead() const;
  double TotalNorm() const;

 private:
  Index heads_;
  std::map<Index, AttentionLayout> by_length_;   // nodes do not move
  std::vector<const AttentionLayout*> layouts_;  // one a batch
  std::vector<Index> offsets_;                   // one a batch
  std::vector<double> norms_;                    // batches x heads
  Matrix storage_;
};

// Sums of a batches x heads table over the batches, in order.
std::vector<double> SumOverBatches(const std::vector<double>& table, Index heads);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_DENSE_ATTENTION_H_
