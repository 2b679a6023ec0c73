// What methods share: the matrices that the linear ones prune, the way from a matrix as stored to
// the (out, in) layout and back, and that from real-valued scores to an exactly sparse mask.
#ifndef ATTNPRUNE_CORE_METHODS_LINEAR_MAP_H_
#define ATTNPRUNE_CORE_METHODS_LINEAR_MAP_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/thread_pool.h"
#include "core/methods/method.h"
#include "core/methods/registry.h"
#include "core/problem/problem.h"
#include "core/problem/problem_shape.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// The attention weights, all maps from the same tokens; but "w_q" and "w_k" (d x r, in x out) in
// place of "w" where `by_factors` and a fused problem has factors. Valid as long as the problem.
std::vector<NamedWeight> LinearMaps(const Problem& problem, bool by_factors);

// The matrices that `result`, of a method on `problem`, pruned: two of a fused problem are its
// factors.
std::vector<NamedWeight> PrunedMaps(const Problem& problem, const PruneResult& result);

// A copy of the matrix with one output a row.
Matrix OutIn(const NamedWeight& weight);

// |m_ij| of every entry.
Matrix Magnitudes(MatrixView m);

// The sum of the products of their entries, in float64 and in their order; of one shape.
double InnerProduct(MatrixView a, MatrixView b);

// A mask or matrix in (out, in) layout, turned as `weight` is stored.
BitMask AsStored(const NamedWeight& weight, const BitMask& out_in);
Matrix AsStored(const NamedWeight& weight, const Matrix& out_in);

// Outputs and inputs of the map, whatever the layout.
Index Outputs(const NamedWeight& weight);
Index Inputs(const NamedWeight& weight);

// Algorithm 1's last lines. Prunes exactly the floor(rho size) smallest scores of the matrix, or
// the N smallest of every M consecutive inputs; of equal scores the lower flat index (as stored; in
// a group, the lower input) goes first. inputs_are_rows: see NamedWeight. No NaN.
BitMask Binarize(const Matrix& scores, bool inputs_are_rows, const Sparsity& sparsity,
                 ThreadPool& pool);

// INVALID_ARGUMENT if a run is to be resumed: these methods have no steps, hence no state.
absl::Status CheckNothingToResume(absl::string_view method, const RunOptions& options);

// What these methods need at most, SparseGPT's; nothing of it is a parameter's. With P the weights'
// entries, d the input features and N the calibration tokens: 10 P floats and d^2 doubles (a copy
// of X'X); 2 N d^2 + 2 d^3 + 2 P d operations.
double LinearBytes(const ProblemShape& shape, const ParameterValues& values, DenseAttention dense,
                   int threads);
double LinearOperations(const ProblemShape& shape, const ParameterValues& values,
                        DenseAttention dense);

// `weight` with zeros where `mask`, laid out as stored, prunes.
PrunedMatrix MaskedMatrix(const NamedWeight& weight, BitMask mask);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_LINEAR_MAP_H_
