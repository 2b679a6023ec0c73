// The dense attention f of every batch and head, or what it takes to make it again.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_DENSE_ATTENTION_H_
#define ATTNPRUNE_CORE_OBJECTIVE_DENSE_ATTENTION_H_

#include <cstdint>
#include <map>
#include <vector>

#include "core/kernels/attention.h"
#include "core/objective/attention_objective.h"
#include "core/problem/problem.h"

namespace attnprune {

// Storage and layouts only; filled by the objectives. Distinct (batch, head) entries may be written
// at once.
class DenseAttentionStore {
 public:
  // Throws std::bad_alloc where memory or its addresses run out.
  DenseAttentionStore(const AttentionMask& mask, const Batches& batches, Index heads,
                      DenseAttention use);

  // How many this process has made: what is prepared once is seen to be prepared once.
  static int64_t Made();

  // Whether f is kept. If not, DenseRows needs the dense queries and keys too.
  bool keeps_attention() const { return use_ == DenseAttention::kKeep; }
  // Then those are kept for all tokens, or made again for every chunk.
  bool keeps_projections() const { return use_ == DenseAttention::kRebuild; }
  bool recomputes_projections() const { return use_ == DenseAttention::kRecompute; }

  const AttentionLayout& layout(Index batch) const { return *layouts_[static_cast<size_t>(batch)]; }
  // Floats of scratch for the kernels on any of the batches.
  Index scratch_size(Index width) const;

  // Computes f of one head of one batch, or of some of its blocks, and keeps what is to be kept of
  // it. Returns ||f||^2 of those rows.
  double Fill(Index batch, Index head, const AttentionHead& dense, float* scratch);
  // f as the kernels take it; without the dense queries and keys where it is not kept.
  DenseRows rows(Index batch, Index head) const;

  // ||f||^2 of one head of one batch: for the objective to set.
  double& norm(Index batch, Index head) {
    return norms_[static_cast<size_t>(batch * heads_ + head)];
  }
  // ||f||^2 over the batches, in order: per head, and in all.
  std::vector<double> NormPerHead() const;
  double TotalNorm() const;

  // The dense queries and keys of all tokens, where keeps_projections(): for the objective to fill.
  Matrix queries, keys;

 private:
  Index PackedOffset(Index batch, Index head) const;  // in packed_
  Index QueryOffset(Index batch, Index head) const;   // in row_max_ and row_inverse_sum_

  Index heads_;
  const DenseAttention use_;
  std::map<Index, AttentionLayout> by_length_;   // nodes do not move
  std::vector<const AttentionLayout*> layouts_;  // one a batch
  std::vector<Index> offsets_;                   // one a batch, in packed_
  std::vector<Index> first_tokens_;              // one a batch
  std::vector<double> norms_;                    // batches x heads
  Matrix packed_;                                // empty if f is not kept
  Matrix row_max_, row_inverse_sum_;             // batches x heads x tokens; empty if f is kept
};

// Sums of a batches x heads table over the batches, in order.
std::vector<double> SumOverBatches(const std::vector<double>& table, Index heads);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_DENSE_ATTENTION_H_
