// The passes of LayerPruner over the tokens.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "core/base/status_macros.h"
#include "core/model/tokens.h"
#include "core/sequential/layer_pruner.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

absl::Status PassEnded() { return absl::CancelledError("interrupted"); }

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
    ATTNPRUNE_RETURN_IF_ERROR(
        AddMoments(Side::kCalibration, stretch, tokens.calibration, part(0, first)));
  }
  ATTNPRUNE_RETURN_IF_ERROR(
      AddMoments(Side::kHeldOut, stretch, tokens.held_out, part(first, all - first)));
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

// One that goes on in the middle has not seen the values before.
absl::Status LayerPruner::BeginPass(Side side, const Stretch& stretch, Index rows, Index done) {
  return KeptOf(side).BeginPass(GroupAt(stretch.groups.back()).until, rows,
                                places_.keeps_values && done == 0);
}

void LayerPruner::RunRows(Side side, const TokenStates& states, Index first,
                          absl::Span<const Index> lengths, LayerHooks hooks) {
  const Index rows = std::accumulate(lengths.begin(), lengths.end(), Index{0});
  if (scratch_.rows() < rows) scratch_ = Matrix(rows, forward_.options().hidden_size);
  const MutableMatrixView x = MutableMatrixView(scratch_).Rows(0, rows);
  CopyRows(states.hidden.Rows(first, rows), x);
  KeptOf(side).Attach(first, rows, hooks);
  layer_.Run(loaded_, WeightsOf(side), lengths, x, hooks);
}

absl::Status LayerPruner::AddMoments(Side side, const Stretch& stretch, const TokenStates& states,
                                     const PassListener& listener) {
  if (states.lengths.empty()) return absl::OkStatus();
  const bool held_out = side == Side::kHeldOut;
  std::vector<GramMatrix>& moments = held_out ? moments_.held_out : moments_.calibration;
  Index& done = held_out ? moments_.held_out_rows : moments_.calibration_rows;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<InputKeeper> keeper,
      InputKeeper::Create(stretch, states, InputsOf(weights_, GroupAt(stretch.groups[0])),
                          places_.tokens_folder));
  if (moments.empty()) {
    for (const size_t g : stretch.groups) moments.emplace_back(InputsOf(weights_, GroupAt(g)));
  }
  ATTNPRUNE_RETURN_IF_ERROR(BeginPass(side, stretch, states.hidden.rows(), done));
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
        RunRows(side, states, first, lengths, hooks);
        done = std::accumulate(lengths.begin(), lengths.end(), first);
        return Tell(listener, done, states.hidden.rows());
      });
  if (!whole) return PassEnded();
  KeptOf(side).EndPass();
  if (keeper != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN((held_out ? attention_held_out_ : attention_calibration_),
                               keeper->Finish(states.lengths));
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
      InputKeeper::Create(stretch, tokens.calibration, inputs, places_.tokens_folder));
  for (const Side side : {Side::kCalibration, Side::kDense}) {
    ATTNPRUNE_RETURN_IF_ERROR(
        BeginPass(side, stretch, tokens.calibration.hidden.rows(), moments_.calibration_rows));
  }
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
    RunRows(Side::kCalibration, tokens.calibration, first, lengths, pruned);
    AddGram(MatrixView(beside).Rows(0, rows), pool_, moments_.calibration[0]);
    if (keeper != nullptr) keeper->Append(MatrixView(beside).Rows(0, rows));
    RunRows(Side::kDense, tokens.dense, first, lengths, dense);
    done = first + rows;
    return Tell(listener, done, tokens.calibration.hidden.rows());
  });
  if (!whole) return PassEnded();
  for (const Side side : {Side::kCalibration, Side::kDense}) KeptOf(side).EndPass();
  if (keeper != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(attention_calibration_, keeper->Finish(all));
  }
  return absl::OkStatus();
}

absl::Status LayerPruner::Advance(Side side, const TokenStates& states,
                                  const PassListener& listener, Index first) {
  const Index all = states.hidden.rows(), sequences = SequencesBefore(states.lengths, first);
  if (sequences < 0) {
    return absl::DataLossError("the rows that were saved do not end with a sequence");
  }
  LayerHooks hooks;
  hooks.goes_on = [&](Index rows) { return Tell(listener, first + rows, all); };
  KeptValues& kept = KeptOf(side);
  ATTNPRUNE_RETURN_IF_ERROR(kept.BeginPass(hooks.until, all, /*keep=*/false));
  kept.Attach(first, all - first, hooks);
  const bool whole =
      layer_.Run(loaded_, WeightsOf(side), states.lengths.subspan(static_cast<size_t>(sequences)),
                 states.hidden.Rows(first, all - first), hooks);
  if (!whole) return PassEnded();
  kept.Forget();
  return absl::OkStatus();
}

}  // namespace attnprune
