#include "core/sequential/sequential_pruner.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/judge/linear_error.h"

namespace attnprune {
namespace {

class StopObserver final : public ProgressObserver {
 public:
  explicit StopObserver(const PassOptions& pass) : pass_(pass) {}
  Verdict OnStep(const StepStats&, const Resumable&) override {
    return pass_.stopped && pass_.stopped() ? Verdict::kStop : Verdict::kContinue;
  }

 private:
  const PassOptions& pass_;
};

void CopyRows(MatrixView from, MutableMatrixView to) {
  for (Index i = 0; i < from.rows(); ++i) std::copy_n(from.row(i), from.cols(), to.row(i));
}

// Rows [first, first + rows) of a mask.
BitMask RowsOf(const BitMask& mask, Index first, Index rows) {
  BitMask part(rows, mask.cols(), /*kept=*/true);
  std::vector<uint8_t> kept(static_cast<size_t>(mask.cols()));
  for (Index i = 0; i < rows; ++i) {
    mask.UnpackRow(first + i, absl::MakeSpan(kept));
    for (Index j = 0; j < mask.cols(); ++j) {
      if (kept[static_cast<size_t>(j)] == 0) part.Prune(i * mask.cols() + j);
    }
  }
  return part;
}

}  // namespace

const std::vector<SequentialPruner::Group>& SequentialPruner::Groups() {
  using Until = LayerHooks::Until;
  static const std::vector<Group>& groups = *new std::vector<Group>{
      {{LinearMap::kQuery, LinearMap::kKey, LinearMap::kValue},
       &LayerHooks::attention_input,
       Until::kAttentionInput},
      {{LinearMap::kOutput}, &LayerHooks::output_input, Until::kOutputInput},
      {{LinearMap::kGate, LinearMap::kUp}, &LayerHooks::mlp_input, Until::kMlpInput},
      {{LinearMap::kDown}, &LayerHooks::down_input, Until::kDownInput}};
  return groups;
}

absl::StatusOr<SequentialPruner> SequentialPruner::Create(const Forward& forward, ThreadPool& pool,
                                                          const Tokens& tokens,
                                                          SequentialOptions options) {
  ATTNPRUNE_RETURN_IF_ERROR(forward.Check(tokens));
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix hidden,
                             MakeHiddenStates(forward.options(), tokens, options.pass));
  ATTNPRUNE_RETURN_IF_ERROR(forward.Embed(tokens, hidden.view()));
  return SequentialPruner(forward, pool, tokens, std::move(options), std::move(hidden));
}

bool SequentialPruner::Has(const Group& group) const {
  return std::any_of(group.maps.begin(), group.maps.end(), [&](LinearMap map) {
    return weights_.of(map).weight.size() > 0 && options_.choose(next_layer_, map).has_value();
  });
}

Index SequentialPruner::InputsOf(const Group& group) const {
  Index inputs = 0;
  for (const LinearMap map : group.maps) {
    inputs = std::max(inputs, weights_.of(map).weight.cols());
  }
  return inputs;
}

absl::StatusOr<std::vector<GramMatrix>> SequentialPruner::Collect(
    const std::vector<const Group*>& groups) {
  std::vector<GramMatrix> moments;
  moments.reserve(groups.size());
  for (const Group* const group : groups) moments.emplace_back(InputsOf(*group));
  LayerHooks hooks;
  auto into = moments.begin();
  for (const Group* const group : groups) {
    hooks.*(group->input) = [this, &gram = *into++](Index, MatrixView input) {
      AddGram(input, pool_, gram);
    };
    hooks.until = group->until;  // of the last
  }
  const bool whole =
      ForChunks(tokens_.lengths, [&](Index first_row, absl::Span<const Index> lengths) {
        const Index rows = std::accumulate(lengths.begin(), lengths.end(), Index{0});
        if (scratch_.rows() < rows) scratch_ = Matrix(rows, forward_.options().hidden_size);
        const MutableMatrixView x = MutableMatrixView(scratch_).Rows(0, rows);
        CopyRows(hidden_.view().Rows(first_row, rows), x);
        layer_.Run(next_layer_, weights_, lengths, x, hooks);
        return !options_.pass.stopped || !options_.pass.stopped();
      });
  if (!whole) return absl::CancelledError("interrupted");
  return moments;
}

absl::StatusOr<size_t> SequentialPruner::CountInOneTensor(absl::Span<const LinearMap> maps) const {
  const auto tensor_of = [&](LinearMap map) -> absl::StatusOr<const TensorInfo*> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> stored,
                               forward_.weights().Map(next_layer_, map));
    return stored.has_value() ? stored->weight : nullptr;
  };
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* const first, tensor_of(maps[0]));
  size_t count = 1;
  while (count < maps.size()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* const next, tensor_of(maps[count]));
    if (next == nullptr || next != first) break;
    ++count;
  }
  return count;
}

absl::Status SequentialPruner::PruneGroup(const Group& group, const GramMatrix& moments,
                                          std::vector<PrunedMap>& out) {
  absl::Span<const LinearMap> rest = group.maps;
  while (!rest.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const size_t count, CountInOneTensor(rest));
    const absl::Span<const LinearMap> together = rest.subspan(0, count);
    rest.remove_prefix(count);
    if (weights_.of(together[0]).weight.size() == 0) continue;
    const absl::optional<MapChoice> choice = options_.choose(next_layer_, together[0]);
    if (!choice.has_value()) continue;
    const absl::Status pruned = PruneTensor(together, *choice, moments, out);
    if (pruned.ok()) continue;
    if (absl::IsCancelled(pruned)) return absl::CancelledError("interrupted");
    return Annotate(pruned, absl::StrCat("layer ", next_layer_, ", ", ToString(together[0])));
  }
  return absl::OkStatus();
}

// Maps of a layer lie behind each other in its storage: those of one tensor are one matrix.
absl::Status SequentialPruner::PruneTensor(absl::Span<const LinearMap> maps,
                                           const MapChoice& choice, const GramMatrix& moments,
                                           std::vector<PrunedMap>& out) {
  const MatrixView first = weights_.of(maps[0]).weight;
  Index rows = 0;
  for (const LinearMap map : maps) rows += weights_.of(map).weight.rows();
  const NamedWeight whole{"weight", MatrixView(first.data(), rows, first.cols()),
                          /*inputs_are_rows=*/false};
  const LinearProblem problem{.maps = {whole}, .moments = moments, .sparsity = choice.sparsity};
  StopObserver observer(options_.pass);
  ATTNPRUNE_ASSIGN_OR_RETURN(const PruneResult result,
                             choice.method->PruneLinear(problem, pool_, {}, observer));
  if (result.reason == TerminationReason::kStopped) return absl::CancelledError("interrupted");
  const PrunedMatrix& pruned = result.matrices[0];
  const LinearError error{
      .difference = SquaredNormByMoments(moments, whole, MatrixView(pruned.weights), pool_),
      .dense = SquaredNormByMoments(moments, whole, absl::nullopt, pool_)};
  Index row = 0;
  for (const LinearMap map : maps) {
    const MutableMatrixView weight = weights_.Mutable(map);
    const MatrixView part = MatrixView(pruned.weights).Rows(row, weight.rows());
    CopyRows(part, weight);
    out.push_back({.map = map,
                   .mask = RowsOf(pruned.mask, row, weight.rows()),
                   .weights = Matrix::CopyFrom(part),
                   .linear_error = error.relative(),
                   .steps = result.steps});
    row += weight.rows();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PrunedMap>> SequentialPruner::PruneNext() {
  ATTNPRUNE_RETURN_IF_ERROR(forward_.weights().LoadLayer(next_layer_, pool_, weights_));
  std::vector<const Group*> groups;
  for (const Group& group : Groups()) {
    if (Has(group)) groups.push_back(&group);
  }
  std::vector<PrunedMap> out;
  std::vector<std::vector<const Group*>> passes;  // whose moments are taken together
  if (options_.groups) {
    for (const Group* const group : groups) passes.push_back({group});
  } else if (!groups.empty()) {
    passes.push_back(groups);
  }
  for (const std::vector<const Group*>& together : passes) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<GramMatrix> moments, Collect(together));
    for (size_t i = 0; i < together.size(); ++i) {
      ATTNPRUNE_RETURN_IF_ERROR(PruneGroup(*together[i], moments[i], out));
    }
  }
  layer_.Run(next_layer_, weights_, tokens_.lengths, hidden_.view());
  ++next_layer_;
  return out;
}

}  // namespace attnprune
