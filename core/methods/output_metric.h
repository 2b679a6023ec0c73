// What the loss makes of a linear map's outputs: the metric in which ALPS counts their errors, and
// SparseGPT, by its diagonal, those of a weight.
//
// B = sum over tokens of g g', g the gradient of the loss at the map's output. H (x) B, H of the
// map's inputs, is the Kronecker factorisation of the loss's curvature in the weights (Martens and
// Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015, arXiv
// 1503.05671). Where outputs are many, B is taken as blocks on the diagonal.
#ifndef ATTNPRUNE_CORE_METHODS_OUTPUT_METRIC_H_
#define ATTNPRUNE_CORE_METHODS_OUTPUT_METRIC_H_

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/methods/alps_inputs.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// B, at any scale.
struct OutputCurvature {
  // Of outputs first, first + 1, ...; symmetric, both triangles stored.
  struct Block {
    Index first;
    GramMatrix moments;
  };
  std::vector<Block> blocks;  // in order, together all outputs
};

// INVALID_ARGUMENT naming `curvature` unless its blocks follow each other and are `outputs` in all,
// every number is finite and none on the diagonal is negative. O(entries).
absl::Status Validate(const OutputCurvature& curvature, Index outputs);

// B made ready, each block as alps_inputs.h makes X'X: in the outputs' own scale, with its
// eigenvectors.
struct OutputMetric {
  struct Block {
    Index first = 0;
    AlpsInputs b;
  };
  std::vector<Block> blocks;
};

// The diagonal of share * B / mean(diag B) + (1 - share) * I, of I where B is 0; by output. The
// curvature must be valid.
std::vector<double> MetricDiagonal(const OutputCurvature& curvature, double share);

// Of share * B / mean(diag B) + (1 - share) * I, the mean over all blocks; of I where B is 0. share
// in [0, 1]; at 1 the weights of an output whose B is 0 become 0. The curvature must be valid.
// beside: called once on a thread of the pool while others make blocks. FAILED_PRECONDITION naming
// `curvature` where the mean is not finite or eigenvectors are not found. O(n^3) of a block of n
// outputs on one thread, float64 inside.
absl::StatusOr<OutputMetric> PrepareMetric(
    const OutputCurvature& curvature, double share, ThreadPool& pool,
    absl::FunctionRef<void()> beside = [] {});

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_OUTPUT_METRIC_H_
