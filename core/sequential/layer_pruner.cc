#include "core/sequential/layer_pruner.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/judge/linear_error.h"
#include "core/kernels/stored_values.h"
#include "core/methods/linear_problem.h"
#include "core/sequential/target.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

// Maps that share their inputs.
struct Group {
  std::vector<LinearMap> maps;
  LayerHooks::Input LayerHooks::*input;
  LayerHooks::Until until;
};

const std::array<Group, 4>& Groups() {
  using Until = LayerHooks::Until;
  static const std::array<Group, 4>& groups = *new std::array<Group, 4>{
      {{{LinearMap::kQuery, LinearMap::kKey, LinearMap::kValue},
        &LayerHooks::attention_input,
        Until::kAttentionInput},
       {{LinearMap::kOutput}, &LayerHooks::output_input, Until::kOutputInput},
       {{LinearMap::kGate, LinearMap::kUp}, &LayerHooks::mlp_input, Until::kMlpInput},
       {{LinearMap::kDown}, &LayerHooks::down_input, Until::kDownInput}}};
  return groups;
}

absl::Status Interrupted() { return absl::CancelledError("interrupted"); }

// The group's tensors with the maps that lie in each.
absl::StatusOr<std::vector<TensorMaps>> TensorsOf(const ModelWeights& model, Index layer,
                                                  const Group& group) {
  std::vector<TensorMaps> tensors;
  for (const LinearMap map : group.maps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> stored, model.Map(layer, map));
    if (!stored.has_value()) continue;
    if (tensors.empty() || tensors.back().stored != stored->weight) {
      tensors.push_back({stored->weight, {}});
    }
    tensors.back().maps.push_back(map);
  }
  return tensors;
}

// Calls visit(flat entry of the tensor, flat entry of the matrix) for all entries of a map whose
// first row is row `first` of a matrix of all maps of the tensor.
template <typename Visit>
void ForEntries(const StoredMap& map, Index first, const Visit& visit) {
  const Index columns = map.weight->shape[1];
  Index row = first;
  for (const RowRun& run : map.rows) {
    for (Index i = run.first; i < run.first + run.count; ++i, ++row) {
      for (Index j = 0; j < map.in; ++j) {
        visit(map.transposed ? j * columns + i : i * columns + j, row * map.in + j);
      }
    }
  }
}

Index InputsOf(const LayerWeights& weights, const Group& group) {
  Index inputs = 0;
  for (const LinearMap map : group.maps) {
    inputs = std::max(inputs, weights.of(map).weight.cols());
  }
  return inputs;
}

// Told the share of `total` rows that is done behind rows [first, first + of lengths).
bool Tell(const PassListener& listener, Index first, absl::Span<const Index> lengths, Index total) {
  if (!listener) return true;
  const Index done = std::accumulate(lengths.begin(), lengths.end(), first);
  return listener(static_cast<double>(done) / static_cast<double>(total));
}

}  // namespace

absl::StatusOr<std::vector<Stretch>> StretchesOf(const ModelWeights& model, Index layer,
                                                 Passes passes, const Chosen& chosen) {
  std::vector<Stretch> stretches;
  for (size_t g = 0; g < Groups().size(); ++g) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<TensorMaps> tensors,
                               TensorsOf(model, layer, Groups()[g]));
    std::erase_if(tensors, [&](const TensorMaps& tensor) { return !chosen(layer, tensor); });
    if (tensors.empty()) continue;
    if (stretches.empty() || passes == Passes::kByGroup) stretches.emplace_back();
    Stretch& stretch = stretches.back();
    for (TensorMaps& tensor : tensors) {
      stretch.tensors.push_back({std::move(tensor), stretch.groups.size()});
    }
    stretch.groups.push_back(g);
  }
  return stretches;
}

absl::Status LayerPruner::Load(Index layer, double dense_share) {
  loaded_ = layer;
  calibration_.clear();
  held_out_.clear();
  cross_.reset();
  dense_share_ = dense_share;
  ATTNPRUNE_RETURN_IF_ERROR(forward_.weights().LoadLayer(layer, pool_, weights_));
  if (dense_share_ == 0) return absl::OkStatus();
  return forward_.weights().LoadLayer(layer, pool_, dense_);
}

absl::Status LayerPruner::Collect(const Stretch& stretch, const Tokens& tokens,
                                  const PassListener& listener) {
  const auto first = static_cast<double>(tokens.calibration.hidden.rows());
  const double all = first + static_cast<double>(tokens.held_out.hidden.rows());
  const auto part = [&](double before, double rows) -> PassListener {
    if (!listener) return nullptr;
    return [&listener, before, rows, all](double share) {
      return listener((before + rows * share) / all);
    };
  };
  calibration_.clear();
  held_out_.clear();
  if (dense_share_ > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(CollectBeside(stretch, tokens, part(0, first)));
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<GramMatrix> moments,
                               MomentsOf(stretch, tokens.calibration, part(0, first)));
    for (GramMatrix& gram : moments) calibration_.emplace_back(std::move(gram));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(held_out_,
                             MomentsOf(stretch, tokens.held_out, part(first, all - first)));
  return absl::OkStatus();
}

void LayerPruner::RunRows(const TokenStates& states, Index first, absl::Span<const Index> lengths,
                          const LayerWeights& weights, const LayerHooks& hooks) {
  const Index rows = std::accumulate(lengths.begin(), lengths.end(), Index{0});
  if (scratch_.rows() < rows) scratch_ = Matrix(rows, forward_.options().hidden_size);
  const MutableMatrixView x = MutableMatrixView(scratch_).Rows(0, rows);
  CopyRows(states.hidden.Rows(first, rows), x);
  layer_.Run(loaded_, weights, lengths, x, hooks);
}

absl::StatusOr<std::vector<GramMatrix>> LayerPruner::MomentsOf(const Stretch& stretch,
                                                               const TokenStates& states,
                                                               const PassListener& listener) {
  std::vector<GramMatrix> moments;
  if (states.lengths.empty()) return moments;
  moments.reserve(stretch.groups.size());
  LayerHooks hooks;
  for (const size_t g : stretch.groups) {
    const Group& group = Groups()[g];
    GramMatrix& gram = moments.emplace_back(InputsOf(weights_, group));
    hooks.*(group.input) = [this, &gram](Index, MatrixView input) { AddGram(input, pool_, gram); };
    hooks.until = group.until;  // of the last
  }
  const bool whole = ForChunks(states.lengths, [&](Index first, absl::Span<const Index> lengths) {
    RunRows(states, first, lengths, weights_, hooks);
    return Tell(listener, first, lengths, states.hidden.rows());
  });
  if (!whole) return Interrupted();
  return moments;
}

// The same tokens through the pruned and the dense layer, chunk by chunk: the moments of the one's
// inputs, and those with the other's.
absl::Status LayerPruner::CollectBeside(const Stretch& stretch, const Tokens& tokens,
                                        const PassListener& listener) {
  if (stretch.groups.size() != 1) {
    return absl::InternalError("a dense share needs a pass for each group");
  }
  const Group& group = Groups()[stretch.groups[0]];
  const Index inputs = InputsOf(weights_, group);
  GramMatrix moments(inputs);
  cross_.emplace(inputs);
  Matrix beside;  // inputs of the chunk in the pruned layer
  LayerHooks pruned, dense;
  pruned.until = dense.until = group.until;
  pruned.*(group.input) = [&](Index row, MatrixView input) {
    CopyRows(input, MutableMatrixView(beside).Rows(row, input.rows()));
  };
  dense.*(group.input) = [&](Index row, MatrixView input) {
    AddCross(MatrixView(beside).Rows(row, input.rows()), input, pool_, *cross_);
  };
  const absl::Span<const Index> all = tokens.calibration.lengths;
  const bool whole = ForChunks(all, [&](Index first, absl::Span<const Index> lengths) {
    const Index rows = std::accumulate(lengths.begin(), lengths.end(), Index{0});
    if (beside.rows() < rows) beside = Matrix(rows, inputs);
    RunRows(tokens.calibration, first, lengths, weights_, pruned);
    AddGram(MatrixView(beside).Rows(0, rows), pool_, moments);
    RunRows(tokens.dense, first, lengths, dense_, dense);
    return Tell(listener, first, lengths, tokens.calibration.hidden.rows());
  });
  if (!whole) return Interrupted();
  calibration_.emplace_back(std::move(moments));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoredMap>> LayerPruner::StoredMapsOf(const TensorMaps& tensor) const {
  std::vector<StoredMap> stored;
  for (const LinearMap map : tensor.maps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<StoredMap> one, forward_.weights().Map(loaded_, map));
    if (!one.has_value()) return absl::InternalError("a map of the tensor is not in the layer");
    stored.push_back(*std::move(one));
  }
  return stored;
}

// Maps of a layer lie behind each other in its storage: those of one tensor are one matrix.
absl::StatusOr<PrunedWeights> LayerPruner::Prune(const Stretch::Tensor& tensor,
                                                 const Method& method, const Sparsity& sparsity,
                                                 const RunOptions& options,
                                                 ProgressObserver& observer) {
  const TensorInfo& stored = *tensor.what.stored;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredMap> maps, StoredMapsOf(tensor.what));
  const MatrixView first = weights_.of(tensor.what.maps[0]).weight;
  Index rows = 0;
  for (const StoredMap& map : maps) rows += map.out;
  const NamedWeight dense{"weight", MatrixView(first.data(), rows, first.cols()),
                          /*inputs_are_rows=*/false};
  LinearInputs& inputs = calibration_[tensor.inputs];
  Matrix target;
  NamedWeight wanted = dense;
  if (dense_share_ > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(target,
                               TargetWeights(dense.dense, inputs, *cross_, dense_share_, pool_));
    wanted.dense = target;
  }
  const LinearProblem problem{.maps = {wanted}, .inputs = inputs, .sparsity = sparsity};
  ATTNPRUNE_ASSIGN_OR_RETURN(const PruneResult result,
                             method.PruneLinear(problem, pool_, options, observer));
  if (result.reason == TerminationReason::kStopped) return Interrupted();

  const PrunedMatrix& matrix = result.matrices[0];
  Matrix values(stored.shape[0], stored.shape[1]);
  PrunedWeights pruned{.mask = BitMask(values.rows(), values.cols(), /*kept=*/true),
                       .steps = result.steps};
  Index row = 0;
  for (const StoredMap& map : maps) {
    ForEntries(map, row, [&](Index to, Index from) {
      values.data()[to] = matrix.weights.data()[from];
      if (!matrix.mask.kept(from)) pruned.mask.Prune(to);
    });
    row += map.out;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(pruned.bytes, RoundToStored(stored.name, stored.dtype, pruned.mask,
                                                         stored.bytes, values.flat()));

  const Matrix before = Matrix::CopyFrom(dense.dense);
  ATTNPRUNE_RETURN_IF_ERROR(Put(tensor.what, pruned.bytes));
  const MatrixView after = dense.dense;  // the same place
  const auto error_by = [&](const GramMatrix& gram) {
    const NamedWeight whole{"weight", before, /*inputs_are_rows=*/false};
    return LinearError{.difference = SquaredNormByMoments(gram, whole, after, pool_),
                       .dense = SquaredNormByMoments(gram, whole, absl::nullopt, pool_)}
        .relative();
  };
  pruned.calibration_error = error_by(inputs.moments());
  if (!held_out_.empty()) pruned.held_out_error = error_by(held_out_[tensor.inputs]);
  return pruned;
}

absl::Status LayerPruner::Put(const TensorMaps& tensor, absl::Span<const char> bytes) {
  TensorInfo pruned = *tensor.stored;
  if (bytes.size() != pruned.bytes.size()) {
    return absl::DataLossError(absl::StrCat(pruned.name, ": must have ", pruned.bytes.size(),
                                            " bytes, got ", bytes.size()));
  }
  pruned.bytes = bytes;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredMap> maps, StoredMapsOf(tensor));
  for (size_t i = 0; i < maps.size(); ++i) {
    StoredMap map = maps[i];
    map.weight = &pruned;
    ATTNPRUNE_RETURN_IF_ERROR(ReadRows(map, 0, weights_.Mutable(tensor.maps[i])));
  }
  return absl::OkStatus();
}

absl::Status LayerPruner::Advance(const TokenStates& states, const PassListener& listener) {
  LayerHooks hooks;
  if (listener) {
    hooks.goes_on = [&](Index rows) {
      return listener(static_cast<double>(rows) / static_cast<double>(states.hidden.rows()));
    };
  }
  const bool whole = layer_.Run(loaded_, weights_, states.lengths, states.hidden, hooks);
  return whole ? absl::OkStatus() : Interrupted();
}

}  // namespace attnprune
