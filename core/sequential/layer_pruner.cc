#include "core/sequential/layer_pruner.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/judge/linear_error.h"
#include "core/judge/score.h"
#include "core/kernels/stored_values.h"
#include "core/methods/linear_problem.h"
#include "core/model/attention_layer.h"
#include "core/objective/prepared_problem.h"
#include "core/sequential/target.h"
#include "core/sequential/tensor_bytes.h"

namespace attnprune {
namespace {

absl::Status Interrupted() { return absl::CancelledError("interrupted"); }

}  // namespace

absl::Status LayerPruner::Load(Index layer, double dense_share) {
  loaded_ = layer;
  ForgetLayer();
  dense_share_ = dense_share;
  ATTNPRUNE_RETURN_IF_ERROR(forward_.weights().LoadLayer(layer, pool_, weights_));
  if (dense_share_ == 0) return absl::OkStatus();
  return forward_.weights().LoadLayer(layer, pool_, dense_);
}

void LayerPruner::ForgetLayer() {
  calibration_.clear();
  moments_ = {};
  attention_calibration_ = {};
  attention_held_out_ = {};
  curvature_.reset();
  for (KeptValues& kept : kept_) kept.Forget();
}

LayerWeights LayerPruner::Release() {
  ForgetLayer();
  dense_ = {};
  return std::exchange(weights_, {});
}

absl::StatusOr<Matrix> LayerPruner::TargetOf(MatrixView dense, size_t inputs) {
  return TargetWeights(dense, calibration_[inputs], *moments_.cross, dense_share_, pool_);
}

absl::StatusOr<PruneResult> LayerPruner::PruneRows(absl::Span<const LinearMap> maps, size_t inputs,
                                                   const Method& method, const Sparsity& sparsity,
                                                   const RunOptions& options,
                                                   ProgressObserver& observer) {
  const MatrixView dense = weights_.RowsOf(maps);
  Matrix target;
  NamedWeight wanted{"weight", dense, /*inputs_are_rows=*/false};
  if (dense_share_ > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(target, TargetOf(dense, inputs));
    wanted.dense = target;
  }
  OutputCurvature curvature;
  if (curvature_.has_value()) curvature = curvature_->OfRows(maps);
  const LinearProblem problem{.maps = {wanted},
                              .inputs = calibration_[inputs],
                              .sparsity = sparsity,
                              .curvature = curvature_.has_value() ? &curvature : nullptr};
  ATTNPRUNE_ASSIGN_OR_RETURN(PruneResult result,
                             method.PruneLinear(problem, pool_, options, observer));
  if (result.reason == TerminationReason::kStopped) return Interrupted();
  return result;
}

// Maps of a layer lie behind each other in its storage: those of one tensor are one matrix.
absl::StatusOr<PrunedWeights> LayerPruner::Prune(const Stretch::Tensor& tensor,
                                                 const Method& method, const Sparsity& sparsity,
                                                 const RunOptions& options,
                                                 ProgressObserver& observer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const PruneResult result,
      PruneRows(tensor.what.maps, tensor.inputs, method, sparsity, options, observer));
  std::vector<PrunedRows> rows;
  Index first = 0;
  for (const LinearMap map : tensor.what.maps) {
    rows.push_back({.matrix = &result.matrices[0], .first = first});
    first += weights_.of(map).weight.rows();
  }
  return Finish(tensor, rows, result.steps);
}

absl::StatusOr<Problem> LayerPruner::AttentionProblem(const Stretch::Piece& piece,
                                                      const Sparsity& sparsity) {
  if (attention_calibration_.count() == 0) {
    return absl::InternalError("the inputs of the attention are not there");
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer layer, LoadAttentionLayer(forward_.weights(), loaded_));
  if (dense_share_ > 0) {
    const size_t inputs = piece.tensors[0].inputs;
    ATTNPRUNE_ASSIGN_OR_RETURN(layer.weights.w_q, TargetOf(layer.weights.w_q, inputs));
    ATTNPRUNE_ASSIGN_OR_RETURN(layer.weights.w_k, TargetOf(layer.weights.w_k, inputs));
  }
  return Problem{.weights = std::move(layer.weights),
                 .attention = layer.attention,
                 .scale = layer.scale,
                 .calibration = std::exchange(attention_calibration_, Batches()),
                 .held_out = std::exchange(attention_held_out_, Batches()),
                 .sparsity = sparsity};
}

absl::StatusOr<PrunedAttention> LayerPruner::PruneAttention(const Stretch::Piece& piece,
                                                            const AttentionMethods& methods,
                                                            const Sparsity& sparsity,
                                                            const RunOptions& options,
                                                            ProgressObserver& observer) {
  const PrepareOptions prepare{.threads = pool_.threads(), .attention = places_.attention};
  ATTNPRUNE_ASSIGN_OR_RETURN(Problem problem, AttentionProblem(piece, sparsity));
  ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<PreparedProblem> prepared,
                             PreparedProblem::Create(problem, prepare));
  ATTNPRUNE_ASSIGN_OR_RETURN(const PruneResult attention,
                             methods.attention.Prune(*prepared, options, observer));
  if (attention.reason == TerminationReason::kStopped) return Interrupted();
  PrunedAttention pruned{.reason = attention.reason};
  RunOptions apart = options;  // a state is the attention method's
  apart.resume_from.clear();
  for (const Stretch::Tensor& tensor : piece.tensors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        pruned.tensors.emplace_back(),
        FinishAttention(tensor, attention, methods.others, sparsity, apart, observer));
  }
  if (dense_share_ > 0) {  // the errors are those against the model's own weights
    prepared.reset();
    ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer layer,
                               LoadAttentionLayer(forward_.weights(), loaded_));
    problem.weights = std::move(layer.weights);
    ATTNPRUNE_ASSIGN_OR_RETURN(prepared, PreparedProblem::Create(problem, prepare));
  }
  const MatrixView after[] = {weights_.of(LinearMap::kQuery).weight,
                              weights_.of(LinearMap::kKey).weight};
  ATTNPRUNE_ASSIGN_OR_RETURN(const RelativeErrors errors, ErrorsOf(*prepared, after));
  pruned.calibration_error = errors.calibration;
  pruned.held_out_error = errors.held_out;
  return pruned;
}

absl::StatusOr<PrunedWeights> LayerPruner::FinishAttention(
    const Stretch::Tensor& tensor, const PruneResult& attention, const Method& others,
    const Sparsity& sparsity, const RunOptions& options, ProgressObserver& observer) {
  std::vector<PruneResult> apart;  // of maps that are not q and k
  apart.reserve(tensor.what.maps.size());
  std::vector<PrunedRows> rows;
  int steps = 0;
  for (const LinearMap map : tensor.what.maps) {
    if (IsAttentionMap(map)) {
      rows.push_back({.matrix = &attention.matrices[map == LinearMap::kQuery ? 0 : 1], .first = 0});
      steps = attention.steps;
      continue;
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(apart.emplace_back(), PruneRows({&map, 1}, tensor.inputs, others,
                                                               sparsity, options, observer));
    rows.push_back({.matrix = &apart.back().matrices[0], .first = 0});
  }
  return Finish(tensor, rows, steps);
}

absl::StatusOr<PrunedWeights> LayerPruner::Finish(const Stretch::Tensor& tensor,
                                                  const std::vector<PrunedRows>& rows, int steps) {
  const TensorInfo& stored = *tensor.what.stored;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredMap> maps,
                             StoredMapsOf(forward_.weights(), loaded_, tensor.what));
  Matrix values(stored.shape[0], stored.shape[1]);
  PrunedWeights pruned{.mask = BitMask(values.rows(), values.cols(), /*kept=*/true),
                       .steps = steps};
  for (size_t i = 0; i < maps.size(); ++i) {
    const PrunedMatrix& matrix = *rows[i].matrix;
    ForEntries(maps[i], rows[i].first, [&](Index to, Index from) {
      values.data()[to] = matrix.weights.data()[from];
      if (!matrix.mask.kept(from)) pruned.mask.Prune(to);
    });
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(pruned.bytes, RoundToStored(stored.name, stored.dtype, pruned.mask,
                                                         stored.bytes, values.flat()));

  const MatrixView after = weights_.RowsOf(tensor.what.maps);
  const Matrix before = Matrix::CopyFrom(after);
  ATTNPRUNE_RETURN_IF_ERROR(Put(tensor.what, pruned.bytes));
  const auto error_by = [&](const GramMatrix& gram) {
    const NamedWeight whole{"weight", before, /*inputs_are_rows=*/false};
    return LinearError{.difference = SquaredNormByMoments(gram, whole, after, pool_),
                       .dense = SquaredNormByMoments(gram, whole, absl::nullopt, pool_)}
        .relative();
  };
  pruned.calibration_error = error_by(calibration_[tensor.inputs].moments());
  if (!moments_.held_out.empty()) {
    pruned.held_out_error = error_by(moments_.held_out[tensor.inputs]);
  }
  return pruned;
}

absl::Status LayerPruner::Put(const TensorMaps& tensor, absl::Span<const char> bytes) {
  TensorInfo pruned = *tensor.stored;
  if (bytes.size() != pruned.bytes.size()) {
    return absl::DataLossError(absl::StrCat(pruned.name, ": must have ", pruned.bytes.size(),
                                            " bytes, got ", bytes.size()));
  }
  pruned.bytes = bytes;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredMap> maps,
                             StoredMapsOf(forward_.weights(), loaded_, tensor));
  for (size_t i = 0; i < maps.size(); ++i) {
    StoredMap map = maps[i];
    map.weight = &pruned;
    ATTNPRUNE_RETURN_IF_ERROR(ReadRows(map, 0, weights_.Mutable(tensor.maps[i])));
    for (const Side side : {Side::kCalibration, Side::kHeldOut}) {
      KeptOf(side).Change(GroupOf(tensor.maps[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace attnprune
