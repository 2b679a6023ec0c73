#include "core/sequential/layer_pruner.h"

#include <algorithm>
#include <memory>
#include <numeric>
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
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

absl::Status Interrupted() { return absl::CancelledError("interrupted"); }

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

Index InputsOf(const LayerWeights& weights, const MapGroup& group) {
  Index inputs = 0;
  for (const LinearMap map : group.maps) {
    inputs = std::max(inputs, weights.of(map).weight.cols());
  }
  return inputs;
}

// Told the share of `total` rows that is done.
bool Tell(const PassListener& listener, Index done, Index total) {
  return !listener || listener(static_cast<double>(done) / static_cast<double>(total));
}

// How many sequences have `rows` rows; -1: none ends there.
Index SequencesBefore(absl::Span<const Index> lengths, Index rows) {
  Index count = 0;
  for (Index before = 0; before < rows; ++count) {
    if (count == std::ssize(lengths)) return -1;
    before += lengths[static_cast<size_t>(count)];
    if (before > rows) return -1;
  }
  return count;
}

// ForChunks from a row on at which a chunk began.
bool ForChunksFrom(
    absl::Span<const Index> lengths, Index start,
    absl::FunctionRef<bool(Index first_row, absl::Span<const Index> lengths)> visit) {
  const auto sequences = static_cast<size_t>(SequencesBefore(lengths, start));
  return ForChunks(lengths.subspan(sequences), [&](Index first, absl::Span<const Index> some) {
    return visit(start + first, some);
  });
}

}  // namespace

absl::Status LayerPruner::Load(Index layer, double dense_share) {
  loaded_ = layer;
  calibration_.clear();
  moments_ = {};
  attention_calibration_ = {};
  attention_held_out_ = {};
  dense_share_ = dense_share;
  ATTNPRUNE_RETURN_IF_ERROR(forward_.weights().LoadLayer(layer, pool_, weights_));
  if (dense_share_ == 0) return absl::OkStatus();
  return forward_.weights().LoadLayer(layer, pool_, dense_);
}

class LayerPruner::InputKeeper {
 public:
  // Of as many tokens as the states have. Null: nobody asks for them.
  static absl::StatusOr<std::unique_ptr<InputKeeper>> Create(const Stretch& stretch,
                                                             const TokenStates& states,
                                                             Index features,
                                                             const std::string& folder) {
    if (stretch.attention_tensors == 0) return nullptr;
    ATTNPRUNE_ASSIGN_OR_RETURN(BatchesBuilder builder,
                               BatchesBuilder::Create(states.hidden.rows(), features, folder));
    return std::unique_ptr<InputKeeper>(new InputKeeper(std::move(builder)));
  }

  void Append(MatrixView input) {
    if (!status_.ok()) return;
    status_ = builder_.Append(input.rows(), [input](Index first, MutableMatrixView out) {
      CopyRows(input.Rows(first, out.rows()), out);
      return absl::OkStatus();
    });
  }

  absl::StatusOr<Batches> Finish(absl::Span<const Index> lengths) {
    ATTNPRUNE_RETURN_IF_ERROR(status_);
    return builder_.Finish({lengths.begin(), lengths.end()});
  }

 private:
  explicit InputKeeper(BatchesBuilder builder) : builder_(std::move(builder)) {}

  BatchesBuilder builder_;
  absl::Status status_;  // the first error
};

absl::Status LayerPruner::CheckBegun(const Stretch& stretch, const Tokens& tokens) const {
  const auto fits = [&](const std::vector<GramMatrix>& moments, Index rows,
                        const TokenStates& states) {
    if (moments.empty()) return rows == 0;
    bool fit =
        moments.size() == stretch.groups.size() && SequencesBefore(states.lengths, rows) >= 0;
    for (size_t i = 0; fit && i < moments.size(); ++i) {
      fit = moments[i].size() == InputsOf(weights_, GroupAt(stretch.groups[i]));
    }
    return fit;
  };
  const bool none = moments_.calibration.empty() && moments_.held_out.empty();
  const bool whole = fits(moments_.calibration, moments_.calibration_rows, tokens.calibration) &&
                     fits(moments_.held_out, moments_.held_out_rows, tokens.held_out) &&
                     moments_.cross.has_value() == (!none && dense_share_ > 0) &&
                     (none || stretch.attention_tensors == 0);
  return whole ? absl::OkStatus()
               : absl::DataLossError("the moments that were saved are not of this stretch");
}

absl::Status LayerPruner::Collect(const Stretch& stretch, const Tokens& tokens,
                                  const PassListener& listener, StretchMoments begun) {
  const auto first = static_cast<double>(tokens.calibration.hidden.rows());
  const double all = first + static_cast<double>(tokens.held_out.hidden.rows());
  const auto part = [&](double before, double rows) -> PassListener {
    if (!listener) return nullptr;
    return [&listener, before, rows, all](double share) {
      return listener((before + rows * share) / all);
    };
  };
  calibration_.clear();
  attention_calibration_ = {};
  attention_held_out_ = {};
  moments_ = std::move(begun);
  ATTNPRUNE_RETURN_IF_ERROR(CheckBegun(stretch, tokens));
  if (dense_share_ > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(CollectBeside(stretch, tokens, part(0, first)));
  } else {
    ATTNPRUNE_RETURN_IF_ERROR(AddMoments(stretch, tokens.calibration, part(0, first),
                                         moments_.calibration, moments_.calibration_rows,
                                         attention_calibration_));
  }
  ATTNPRUNE_RETURN_IF_ERROR(AddMoments(stretch, tokens.held_out, part(first, all - first),
                                       moments_.held_out, moments_.held_out_rows,
                                       attention_held_out_));
  for (GramMatrix& gram : moments_.calibration) calibration_.emplace_back(std::move(gram));
  moments_.calibration.clear();
  return absl::OkStatus();
}

std::vector<const GramMatrix*> LayerPruner::Moments() const {
  std::vector<const GramMatrix*> all;
  for (const LinearInputs& inputs : calibration_) all.push_back(&inputs.moments());
  for (const GramMatrix& moments : moments_.calibration) all.push_back(&moments);
  if (moments_.cross.has_value()) all.push_back(&*moments_.cross);
  for (const GramMatrix& moments : moments_.held_out) all.push_back(&moments);
  return all;
}

void LayerPruner::RunRows(const TokenStates& states, Index first, absl::Span<const Index> lengths,
                          const LayerWeights& weights, const LayerHooks& hooks) {
  const Index rows = std::accumulate(lengths.begin(), lengths.end(), Index{0});
  if (scratch_.rows() < rows) scratch_ = Matrix(rows, forward_.options().hidden_size);
  const MutableMatrixView x = MutableMatrixView(scratch_).Rows(0, rows);
  CopyRows(states.hidden.Rows(first, rows), x);
  layer_.Run(loaded_, weights, lengths, x, hooks);
}

absl::Status LayerPruner::AddMoments(const Stretch& stretch, const TokenStates& states,
                                     const PassListener& listener, std::vector<GramMatrix>& moments,
                                     Index& done, Batches& inputs) {
  if (states.lengths.empty()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<InputKeeper> keeper,
      InputKeeper::Create(stretch, states, InputsOf(weights_, GroupAt(stretch.groups[0])),
                          place_.tokens_folder));
  if (moments.empty()) {
    for (const size_t g : stretch.groups) moments.emplace_back(InputsOf(weights_, GroupAt(g)));
  }
  LayerHooks hooks;
  for (size_t i = 0; i < stretch.groups.size(); ++i) {
    const MapGroup& group = GroupAt(stretch.groups[i]);
    InputKeeper* const kept = i == 0 ? keeper.get() : nullptr;
    hooks.*(group.input) = [this, &gram = moments[i], kept](Index, MatrixView input) {
      AddGram(input, pool_, gram);
      if (kept != nullptr) kept->Append(input);
    };
    hooks.until = group.until;  // of the last
  }
  const bool whole =
      ForChunksFrom(states.lengths, done, [&](Index first, absl::Span<const Index> lengths) {
        RunRows(states, first, lengths, weights_, hooks);
        done = std::accumulate(lengths.begin(), lengths.end(), first);
        return Tell(listener, done, states.hidden.rows());
      });
  if (!whole) return Interrupted();
  if (keeper != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(inputs, keeper->Finish(states.lengths));
  }
  return absl::OkStatus();
}

// The same tokens through the pruned and the dense layer, chunk by chunk: the moments of the one's
// inputs, and those with the other's.
absl::Status LayerPruner::CollectBeside(const Stretch& stretch, const Tokens& tokens,
                                        const PassListener& listener) {
  if (stretch.groups.size() != 1) {
    return absl::InternalError("a dense share needs a pass for each group");
  }
  const MapGroup& group = GroupAt(stretch.groups[0]);
  const Index inputs = InputsOf(weights_, group);
  if (moments_.calibration.empty()) {
    moments_.calibration.emplace_back(inputs);
    moments_.cross.emplace(inputs);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<InputKeeper> keeper,
      InputKeeper::Create(stretch, tokens.calibration, inputs, place_.tokens_folder));
  Matrix beside;  // inputs of the chunk in the pruned layer
  LayerHooks pruned, dense;
  pruned.until = dense.until = group.until;
  pruned.*(group.input) = [&](Index row, MatrixView input) {
    CopyRows(input, MutableMatrixView(beside).Rows(row, input.rows()));
  };
  dense.*(group.input) = [&](Index row, MatrixView input) {
    AddCross(MatrixView(beside).Rows(row, input.rows()), input, pool_, *moments_.cross);
  };
  const absl::Span<const Index> all = tokens.calibration.lengths;
  Index& done = moments_.calibration_rows;
  const bool whole = ForChunksFrom(all, done, [&](Index first, absl::Span<const Index> lengths) {
    const Index rows = std::accumulate(lengths.begin(), lengths.end(), Index{0});
    if (beside.rows() < rows) beside = Matrix(rows, inputs);
    RunRows(tokens.calibration, first, lengths, weights_, pruned);
    AddGram(MatrixView(beside).Rows(0, rows), pool_, moments_.calibration[0]);
    if (keeper != nullptr) keeper->Append(MatrixView(beside).Rows(0, rows));
    RunRows(tokens.dense, first, lengths, dense_, dense);
    done = first + rows;
    return Tell(listener, done, tokens.calibration.hidden.rows());
  });
  if (!whole) return Interrupted();
  if (keeper != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(attention_calibration_, keeper->Finish(all));
  }
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

absl::StatusOr<Matrix> LayerPruner::TargetOf(MatrixView dense, size_t inputs) {
  return TargetWeights(dense, calibration_[inputs], *moments_.cross, dense_share_, pool_);
}

absl::StatusOr<PruneResult> LayerPruner::PruneRows(MatrixView dense, size_t inputs,
                                                   const Method& method, const Sparsity& sparsity,
                                                   const RunOptions& options,
                                                   ProgressObserver& observer) {
  Matrix target;
  NamedWeight wanted{"weight", dense, /*inputs_are_rows=*/false};
  if (dense_share_ > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(target, TargetOf(dense, inputs));
    wanted.dense = target;
  }
  const LinearProblem problem{
      .maps = {wanted}, .inputs = calibration_[inputs], .sparsity = sparsity};
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
  ATTNPRUNE_ASSIGN_OR_RETURN(const PruneResult result,
                             PruneRows(weights_.RowsOf(tensor.what.maps), tensor.inputs, method,
                                       sparsity, options, observer));
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
  const PrepareOptions prepare{.threads = pool_.threads(), .attention = place_.dense};
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
    ATTNPRUNE_ASSIGN_OR_RETURN(
        apart.emplace_back(),
        PruneRows(weights_.of(map).weight, tensor.inputs, others, sparsity, options, observer));
    rows.push_back({.matrix = &apart.back().matrices[0], .first = 0});
  }
  return Finish(tensor, rows, steps);
}

absl::StatusOr<PrunedWeights> LayerPruner::Finish(const Stretch::Tensor& tensor,
                                                  const std::vector<PrunedRows>& rows, int steps) {
  const TensorInfo& stored = *tensor.what.stored;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredMap> maps, StoredMapsOf(tensor.what));
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
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredMap> maps, StoredMapsOf(tensor));
  for (size_t i = 0; i < maps.size(); ++i) {
    StoredMap map = maps[i];
    map.weight = &pruned;
    ATTNPRUNE_RETURN_IF_ERROR(ReadRows(map, 0, weights_.Mutable(tensor.maps[i])));
  }
  return absl::OkStatus();
}

absl::Status LayerPruner::Advance(const TokenStates& states, const PassListener& listener,
                                  Index first) {
  const Index all = states.hidden.rows(), sequences = SequencesBefore(states.lengths, first);
  if (sequences < 0) {
    return absl::DataLossError("the rows that were saved do not end with a sequence");
  }
  LayerHooks hooks;
  hooks.goes_on = [&](Index rows) { return Tell(listener, first + rows, all); };
  const bool whole =
      layer_.Run(loaded_, weights_, states.lengths.subspan(static_cast<size_t>(sequences)),
                 states.hidden.Rows(first, all - first), hooks);
  return whole ? absl::OkStatus() : Interrupted();
}

}  // namespace attnprune
