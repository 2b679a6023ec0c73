// Every method's entry in the registry: what it does. Its parameters and costs are in
// its own file; what an entry holds: registry.h.
#ifndef ATTNPRUNE_CORE_METHODS_METHODS_H_
#define ATTNPRUNE_CORE_METHODS_METHODS_H_

#include "core/methods/registry.h"

namespace attnprune {

// "alps" (alps_search.h): each linear map's mask and weights by ADMM on X'X of all calibration
// tokens; the fused W itself counts as the map x -> x W. Of a linear problem with the curvature of
// its outputs (LinearProblem::curvature), in that metric too.
const MethodInfo& AlpsInfo();

// "gd": the paper's Algorithm 1. Gradient descent with momentum on a real-valued mask under the
// attention loss, then binarisation.
//
//   M = 1, v = 0; T times:  v <- momentum v + grad L(M) / k;  M <- M - eta v
//   L(M) = sum_j 1/2 ||f~_j - f_j||_F^2 + 1/2 lambda ||M||_F^2
//
// Then the floor(rho size) smallest entries of each mask go (N:M: the N smallest of every M
// inputs); of equal entries the lower flat index goes first. Both problems: one mask (fused,
// Sections 3 to 6) or M_Q and M_K (projections, Section 7).
const MethodInfo& GdInfo();

// "ste": straight-through mask search: one score a weight; the mask of the highest scores is used
// as it is, and its gradient moves the scores as if they were the mask (Bengio et al., "Estimating
// or Propagating Gradients Through Stochastic Neurons"; Ramanujan et al., "What's Hidden in a
// Randomly Weighted Neural Network?"). Kept weights stay as they were. Scores start from
// LogSaliency; the sparsity rises to its target over the first part of the steps; in the rest the
// scores go on moving, ever less. The result is the best mask at full sparsity, by the batches that
// decide.
const MethodInfo& SteInfo();

// "joint": mask and kept weights searched together under the attention loss, in phases:
//   the one-shot answer of kfac;
//   a search from it (sparse_search.h) at full sparsity, one batch a step: scores, which start as
//     ln |U + V / r| of the one-shot's ADMM, and weights, what is pruned from its dense value, move
//     in the same step; then the mask stands still and the weights settle. Its best is kept where
//     it is better than the one-shot answer on the batches that decide;
//   rounds of kfac from there, on the batches that do not decide;
//   ALPS's answer, and conjugate gradients for its mask on the same batches (held_descent.h);
//   rounds of the kind that led to the better of the two by the batches that decide, on all.
// Of a single batch, where none is left to decide, the one-shot answer alone. With long=1 a search
// from the dense weights alone, in which the sparsity rises to its target.
const MethodInfo& JointInfo();

// "kfac" (kfac_search.h): mask and weights of w_q and w_k by ADMM in the attention loss's own
// metric, a Kronecker product a head, then rounds that linearise again where the last one ended.
// The result is the best round's, by the batches that decide.
const MethodInfo& KfacInfo();

// "magnitude": the smallest |W_ij| go, of the whole matrix or (N:M) N of every M consecutive inputs
// of an output. Of equal magnitudes the lower flat index goes first.
const MethodInfo& MagnitudeInfo();

// "wanda" (wanda.h). The norms are those of all calibration tokens.
const MethodInfo& WandaInfo();

// "sparsegpt" (sparsegpt.h). X is all calibration tokens; the fused W itself counts as the map
// x -> x W.
const MethodInfo& SparseGptInfo();

// "BASE+refit": runs BASE, then Adam on the weights that it kept, starting from its own, at a rate
// that falls to 0. Where BASE pruned the factors of a fused problem, so does this. The result has
// BASE's mask and never a greater error than BASE's result, neither on the calibration batches that
// decide nor on all of them.
//
// Parameters: BASE's, then the refit's own under names that begin with "refit_". A BASE that was
// stopped or ran into numbers that are not finite is not refitted. Stoppable, resumable and
// observed through BASE's steps as well as through its own.
//
// `base` must outlive the result. For the registry's making, by one thread: keeps its texts for
// ever.
MethodInfo WithRefit(const MethodInfo& base);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_METHODS_H_
