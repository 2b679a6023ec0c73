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

// Rotates, in place, every head of the token at `position`; heads lie side by side in `row`.
// `sign` is 1 for R and -1 for its inverse. position < table.cos.rows().
void RotateToken(const RopeTable& table, Index position, Index heads, float sign, float* row);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ROPE_H_
