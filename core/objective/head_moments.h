// The Gauss-Newton matrix of one head's attention on one batch, a block a query and a block a key.
//
// Of loss = 1/2 ||f~ - f||^2 with S = s Q K' + bias, S~ = c tanh(S / c), f~ = softmax(S~), e the
// derivative of S~ in S (1 without a softcap) and p a row of f~:
//   M_i = s^2 sum_j p_j^2 (e_ij k_j - m_i)(e_ij k_j - m_i)',  m_i = sum_j p_j e_ij k_j
//   M_j = s^2 sum_i p_j^2 (1 - 2 p_j + sum p^2) e_ij^2 q_i q_i'
// in the queries and keys as the logits see them. O(n^2 r^2) for all of either.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_HEAD_MOMENTS_H_
#define ATTNPRUNE_CORE_OBJECTIVE_HEAD_MOMENTS_H_

#include <vector>

#include "core/problem/attention_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Rows of the attention are filled, and moments read, from any thread; what is filled is all of a
// head's rows before the first moment is read.
class HeadMoments {
 public:
  // For batches of up to `longest` tokens: longest^2 floats, twice that with a softcap (0: none).
  HeadMoments(Index longest, float scale, float softcap);

  // Queries and keys, tokens x r, and a bias a key (null: none); all must outlive what follows.
  void Begin(MatrixView q, MatrixView k, const float* key_bias, const AttentionMask& mask);
  void FillRows(Index first, Index count);
  // r x r.
  void OfQuery(Index query, MutableMatrixView moment) const;
  void OfKey(Index key, MutableMatrixView moment) const;

 private:
  float Slope(Index query, Index key) const { return slopes_.empty() ? 1 : slopes_(query, key); }
  void Softmax(Index query);

  const float scale_, softcap_;
  Matrix attention_, slopes_;                 // p; e, empty without a softcap
  std::vector<float> squares_;                // sum p^2, one a query
  std::vector<AttentionMask::Range> ranges_;  // one a query
  MatrixView q_, k_;
  const float* key_bias_ = nullptr;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_HEAD_MOMENTS_H_
