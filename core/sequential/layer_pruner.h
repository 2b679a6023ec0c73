// Pruning all linear maps of one layer, each on the inputs that the pruned ones before it give, as
// the scripts of SparseGPT (llama.py) and Wanda (lib/prune.py) do.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_LAYER_PRUNER_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_LAYER_PRUNER_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/methods/linear_inputs.h"
#include "core/methods/method.h"
#include "core/model/forward.h"
#include "core/model/layer_forward.h"
#include "core/model/model_weights.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Linear maps that lie in one tensor and are pruned as one matrix.
struct TensorMaps {
  const TensorInfo* stored;  // where they are
  std::vector<LinearMap> maps;
};

// Maps that are pruned on one pass over the tokens, in their order.
struct Stretch {
  struct Tensor {
    TensorMaps what;
    size_t inputs;  // which of the groups' moments are its own
  };
  std::vector<size_t> groups;  // of maps that share their inputs: q, k, v; o; gate, up; down
  std::vector<Tensor> tensors;
};

// Whether a tensor of a layer is pruned.
using Chosen = std::function<bool(Index layer, const TensorMaps& tensor)>;

// How often inputs are taken within a layer.
enum class Passes {
  // For q, k, v; for o; for gate, up; for down: each sees what the pruned ones before it give
  // (SparseGPT's --true-sequential).
  kByGroup,
  kOnce,  // all of them in the dense layer
};

// The layer's stretches in order, those of chosen tensors only. Errors of ModelWeights::Map.
absl::StatusOr<std::vector<Stretch>> StretchesOf(const ModelWeights& model, Index layer,
                                                 Passes passes, const Chosen& chosen);

// Hidden states of some sequences on their way through a model.
struct TokenStates {
  absl::Span<const Index> lengths;
  MutableMatrixView hidden;
};

// Told the share that is done after each piece of work; false ends it with CANCELLED. Null: nobody
// looks.
using PassListener = std::function<bool(double share)>;

struct PrunedWeights {
  std::vector<char> bytes;  // of the whole tensor, in its dtype and shape, zeros where pruned
  BitMask mask;             // of its shape, as rows x columns; 1: kept
  // ||X (W - W~)'||_F^2 / ||X W'||_F^2 on X, its inputs.
  double calibration_error = 0;
  absl::optional<double> held_out_error;
  int steps = 0;  // the method took
};

// Holds one layer's weights and one stretch's moments. One caller at a time. The bits depend on the
// input and the CPU type only, not on the pool's threads.
class LayerPruner {
 public:
  // Both must outlive it.
  LayerPruner(const Forward& forward, ThreadPool& pool)
      : forward_(forward), pool_(pool), layer_(forward.options(), pool, forward.compute()) {}

  // The dense layer takes the place of the one before. dense_share: of a map's target that is what
  // it gives in the dense model (target.h), in [0, 1]; above 0 with Passes::kByGroup only, and then
  // the layer is held twice.
  absl::Status Load(Index layer, double dense_share = 0);

  // The states of the calibration tokens in the model as it is pruned so far; in the dense one, for
  // a dense_share above 0, else empty; of held-out ones, which may be empty.
  struct Tokens {
    TokenStates calibration, dense, held_out;
  };
  // Takes the moments of the stretch's inputs in the layer as it is now.
  absl::Status Collect(const Stretch& stretch, const Tokens& tokens,
                       const PassListener& listener = nullptr);

  // Prunes a tensor of the stretch that was collected last, rounds it to what can be stored, and
  // puts it into the layer. CANCELLED where `observer` stopped it; OUT_OF_RANGE: a weight is too
  // large for the tensor's dtype; else Method::PruneLinear's errors.
  absl::StatusOr<PrunedWeights> Prune(const Stretch::Tensor& tensor, const Method& method,
                                      const Sparsity& sparsity, const RunOptions& options,
                                      ProgressObserver& observer);

  // Puts what Prune gave for this tensor into the layer.
  absl::Status Put(const TensorMaps& tensor, absl::Span<const char> bytes);

  // The states through the layer as it is now.
  absl::Status Advance(const TokenStates& states, const PassListener& listener = nullptr);

  const LayerWeights& weights() const { return weights_; }

 private:
  absl::StatusOr<std::vector<StoredMap>> StoredMapsOf(const TensorMaps& tensor) const;
  absl::StatusOr<std::vector<GramMatrix>> MomentsOf(const Stretch& stretch,
                                                    const TokenStates& states,
                                                    const PassListener& listener);
  absl::Status CollectBeside(const Stretch& stretch, const Tokens& tokens,
                             const PassListener& listener);
  // Copies rows of the states and runs them through a layer as far as the hooks say.
  void RunRows(const TokenStates& states, Index first, absl::Span<const Index> lengths,
               const LayerWeights& weights, const LayerHooks& hooks);

  const Forward& forward_;
  ThreadPool& pool_;
  LayerForward layer_;
  LayerWeights weights_, dense_;
  double dense_share_ = 0;
  Index loaded_ = 0;
  std::vector<LinearInputs> calibration_;  // by the stretch's groups
  std::vector<GramMatrix> held_out_;       // the same
  absl::optional<GramMatrix> cross_;       // of the one group, for a dense_share above 0
  Matrix scratch_;                         // hidden states of some sequences
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_LAYER_PRUNER_H_
