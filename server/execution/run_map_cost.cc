#include "server/execution/run_map_cost.h"

#include <vector>

#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/problem/problem_shape.h"
#include "core/sequential/layer_curvature.h"

namespace attnprune {
namespace {

// A linear map as the registry's costs know shapes.
ProblemShape LinearShape(const MatrixSize& size) {
  ProjectionShape layer;
  layer.w_q = {static_cast<Index>(size.out), size.in};
  ProblemShape shape;
  shape.weights = layer;
  return shape;
}

}  // namespace

absl::StatusOr<MatrixSize> SizeOfMaps(const ModelWeights& model, Index layer,
                                      absl::Span<const LinearMap> maps) {
  MatrixSize size;
  for (const LinearMap map : maps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> stored, model.Map(layer, map));
    if (!stored.has_value()) continue;
    size.out += static_cast<double>(stored->out);
    size.in = stored->in;
  }
  return size;
}

absl::StatusOr<MapCost> CostOf(const RunSpec& run, const ModelWeights& model, Index layer,
                               absl::Span<const LinearMap> maps, const ChosenMethod& method,
                               int threads) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MatrixSize size, SizeOfMaps(model, layer, maps));
  const MethodInfo& info = *method.info;
  const auto keep = DenseAttention::kKeep;
  if (!run.curvature.has_value() || !info.coupled.has_value()) {
    const ProblemShape shape = LinearShape(size);
    return MapCost{.operations = info.operations(shape, method.values, keep),
                   .bytes = info.bytes(shape, method.values, keep, threads)};
  }
  std::vector<Index> blocks;
  for (const LinearMap map : maps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const MatrixSize one, SizeOfMaps(model, layer, {&map, 1}));
    const std::vector<Index> of_map =
        CurvatureBlocks(static_cast<Index>(one.out), run.curvature->widest);
    blocks.insert(blocks.end(), of_map.begin(), of_map.end());
  }
  return MapCost{.operations = info.coupled->operations(blocks, size.in, method.values),
                 .bytes = info.coupled->bytes(blocks, size.in, method.values, threads)};
}

absl::StatusOr<double> EntriesOfLayer(const ModelWeights& model, Index layer) {
  double entries = 0;
  for (int map = 0; map < kLinearMaps; ++map) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> stored,
                               model.Map(layer, static_cast<LinearMap>(map)));
    if (!stored.has_value()) continue;
    entries += static_cast<double>(stored->out) * static_cast<double>(stored->in);
  }
  return entries;
}

absl::StatusOr<double> EntriesOfMaps(const ModelWeights& model) {
  double entries = 0;
  for (Index layer = 0; layer < model.options().layer_count(); ++layer) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const double of_layer, EntriesOfLayer(model, layer));
    entries += of_layer;
  }
  return entries;
}

double AttentionBytes(const RunSpec& run, const ProblemShape& shape, DenseAttention dense,
                      int threads) {
  constexpr double kCopies = 6;  // of q and k: the problem's, the result, its target, being stored
  constexpr double kOfFloat = sizeof(float), kOfDouble = sizeof(double);
  const auto d = static_cast<double>(shape.features());
  const ChosenMethod& method = *run.attention_method;
  return ObjectiveBytes(shape, CalibrationSize(shape), dense, threads) +
         ObjectiveBytes(shape, HeldOutSize(shape), dense, threads) +
         method.info->bytes(shape, method.values, dense, threads) +
         (method.info->uses_moments ? kOfDouble * d * d : 0) + kCopies * kOfFloat * Entries(shape);
}

// Errors of a dense_target need the dense attention anew.
double AttentionOperations(const RunSpec& run, const ProblemShape& shape, DenseAttention dense) {
  const ChosenMethod& method = *run.attention_method;
  const double losses = LossOperations(shape, CalibrationSize(shape), dense) +
                        LossOperations(shape, HeldOutSize(shape), dense);
  return method.info->operations(shape, method.values, dense) +
         (run.dense_target > 0 ? 3 : 2) * losses;
}

}  // namespace attnprune
