// What a method costs on some linear maps of a run's model.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_MAP_COST_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_MAP_COST_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/methods/registry.h"
#include "core/model/model_weights.h"
#include "core/objective/attention_objective.h"
#include "core/problem/problem_shape.h"
#include "core/tensor/matrix.h"
#include "server/execution/run_spec.h"

namespace attnprune {

// Of the matrix that maps of the same inputs make, (out, in).
struct MatrixSize {
  double out = 0;
  Index in = 0;
  double entries() const { return out * static_cast<double>(in); }
};
absl::StatusOr<MatrixSize> SizeOfMaps(const ModelWeights& model, Index layer,
                                      absl::Span<const LinearMap> maps);

// As MethodInfo's; with the run's curvature, where the method reads it.
struct MapCost {
  double operations = 0, bytes = 0;
};
// Of maps that are pruned as one matrix.
absl::StatusOr<MapCost> CostOf(const RunSpec& run, const ModelWeights& model, Index layer,
                               absl::Span<const LinearMap> maps, const ChosenMethod& method,
                               int threads);

// Of q and k that the run prunes together, and the error on both sets of rows: memory in bytes, and
// operations. The run has an attention method.
double AttentionBytes(const RunSpec& run, const ProblemShape& shape, DenseAttention dense,
                      int threads);
double AttentionOperations(const RunSpec& run, const ProblemShape& shape, DenseAttention dense);

// Of all linear maps of a layer; of the model. Errors of ModelWeights::Map.
absl::StatusOr<double> EntriesOfLayer(const ModelWeights& model, Index layer);
absl::StatusOr<double> EntriesOfMaps(const ModelWeights& model);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_MAP_COST_H_
