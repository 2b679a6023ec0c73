// Rotary position embedding of projected queries and keys.
#ifndef ATTNPRUNE_CORE_KERNELS_ROPE_H_
#define ATTNPRUNE_CORE_KERNELS_ROPE_H_

#include "core/tensor/matrix.h"

namespace attnprune {

// cos and sin of position * theta^(-2 i / head_dim), positions x head_dim / 2 each.
struct RopeTable {
  Matrix cos, sin;
  bool interleaved = false;  // pairs (2 i, 2 i + 1); else (i, i + head_dim / 2)

  bool empty() const { return cos.empty(); }
};

// theta > 0, head_dim even. Angles are computed in float64.
RopeTable MakeRopeTable(double theta, Index head_dim, Index positions, bool interleaved);

// Rotates heads that lie side by side, in place; row t is the token at positions[t].
// `sign` is 1 for R and -1 for its inverse. Positions below table.cos.rows().
void Rotate(const RopeTable& table, const Index* positions, float sign, MutableMatrixView heads);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ROPE_H_
