// Pruning all linear maps of a model, layer by layer, each on the inputs that the pruned ones
// before it give, as the scripts of SparseGPT (llama.py) and Wanda (lib/prune.py) do.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_SEQUENTIAL_PRUNER_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_SEQUENTIAL_PRUNER_H_

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/methods/method.h"
#include "core/model/forward.h"
#include "core/model/layer_forward.h"
#include "core/model/model_pass.h"
#include "core/model/model_weights.h"
#include "core/model/tokens.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct MapChoice {
  const Method* method;  // one for linear maps (MethodInfo::linear); outlives the pruner
  Sparsity sparsity;
};

struct SequentialOptions {
  // How a map is pruned; nullopt: it stays dense. Maps of one tensor are pruned as one matrix: all
  // of them as the first is.
  std::function<absl::optional<MapChoice>(Index layer, LinearMap map)> choose;
  // Whether q, k, v; o; gate, up; and down each see what the pruned ones before them in the layer
  // give (SparseGPT's --true-sequential); else all see the inputs in the dense layer.
  bool groups = true;
  PassOptions pass;  // its memory budget, spill folder and stop; progress is not told
};

struct PrunedMap {
  LinearMap map;
  BitMask mask;             // out x in; 1: kept
  Matrix weights;           // out x in
  double linear_error = 0;  // ||X (W - W~)'||_F^2 / ||X W'||_F^2 on X, its inputs; of the tensor
  int steps = 0;            // the method took
};

// Holds one layer's weights, the hidden states and one group's moments at a time. One caller at a
// time. The bits depend on the input and the CPU type only, not on the pool's threads.
class SequentialPruner {
 public:
  // forward, pool and tokens must outlive it. INVALID_ARGUMENT unless Forward::Check passes;
  // errors of Forward::Embed and MakeHiddenStates.
  static absl::StatusOr<SequentialPruner> Create(const Forward& forward, ThreadPool& pool,
                                                 const Tokens& tokens, SequentialOptions options);

  Index next_layer() const { return next_layer_; }
  bool done() const { return next_layer_ == forward_.options().layer_count(); }

  // Prunes the next layer and takes the hidden states through it. The maps in order, without those
  // that stay dense. CANCELLED where options.pass.stopped says so, and Method::PruneLinear's
  // errors: then the layer may be pruned once more.
  absl::StatusOr<std::vector<PrunedMap>> PruneNext();

  // Of the layer that was pruned last, as the next layer's inputs came from it.
  const LayerWeights& weights() const { return weights_; }

 private:
  // Maps that share their inputs.
  struct Group {
    std::vector<LinearMap> maps;
    LayerHooks::Input LayerHooks::*input;
    LayerHooks::Until until;
  };
  static const std::vector<Group>& Groups();

  SequentialPruner(const Forward& forward, ThreadPool& pool, const Tokens& tokens,
                   SequentialOptions options, ScratchMatrix hidden)
      : forward_(forward),
        pool_(pool),
        tokens_(tokens),
        options_(std::move(options)),
        hidden_(std::move(hidden)),
        layer_(forward.options(), pool, forward.compute()) {}

  bool Has(const Group& group) const;
  Index InputsOf(const Group& group) const;
  // X'X of the inputs of each group, in the layer as it is now.
  absl::StatusOr<std::vector<GramMatrix>> Collect(const std::vector<const Group*>& groups);
  absl::Status PruneGroup(const Group& group, const GramMatrix& moments,
                          std::vector<PrunedMap>& out);
  // Maps that lie in one tensor, from the first of `maps` on.
  absl::StatusOr<size_t> CountInOneTensor(absl::Span<const LinearMap> maps) const;
  absl::Status PruneTensor(absl::Span<const LinearMap> maps, const MapChoice& choice,
                           const GramMatrix& moments, std::vector<PrunedMap>& out);

  const Forward& forward_;
  ThreadPool& pool_;
  const Tokens& tokens_;
  const SequentialOptions options_;
  ScratchMatrix hidden_;
  LayerForward layer_;
  LayerWeights weights_;
  Matrix scratch_;  // hidden states of some sequences
  Index next_layer_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_SEQUENTIAL_PRUNER_H_
