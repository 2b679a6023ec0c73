// `gd`: the paper's Algorithm 1. Gradient descent with momentum on a real-valued mask under the
// attention loss, then binarisation.
//
//   M = 1, v = 0; T times:  v <- momentum v + grad L(M) / k;  M <- M - eta v
//   L(M) = sum_j 1/2 ||f~_j - f_j||_F^2 + 1/2 lambda ||M||_F^2
//
// Then the floor(rho size) smallest entries of each mask go (N:M: the N smallest of every M
// inputs); of equal entries the lower flat index goes first. Both problems: one mask (fused,
// Sections 3 to 6) or M_Q and M_K (projections, Section 7).
#ifndef ATTNPRUNE_CORE_METHODS_GD_H_
#define ATTNPRUNE_CORE_METHODS_GD_H_

#include "core/methods/registry.h"

namespace attnprune {

const MethodInfo& GdInfo();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_GD_H_
