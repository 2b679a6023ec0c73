// Pruning all linear maps of one layer, each on the inputs that the pruned ones before it give, as
// the scripts of SparseGPT (llama.py) and Wanda (lib/prune.py) do.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_LAYER_PRUNER_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_LAYER_PRUNER_H_

#include <array>
#include <functional>
#include <string>
#include <utility>
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
#include "core/objective/attention_objective.h"
#include "core/problem/batches.h"
#include "core/problem/sparsity.h"
#include "core/sequential/kept_values.h"
#include "core/sequential/layer_curvature.h"
#include "core/sequential/stretch.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Hidden states of some sequences on their way through a model.
struct TokenStates {
  absl::Span<const Index> lengths;
  MutableMatrixView hidden;
};

// Told the share that is done after each piece of work; false ends it with CANCELLED. Null: nobody
// looks.
using PassListener = std::function<bool(double share)>;

// Second moments of a stretch's inputs, and of how many rows they are: where a pass goes on.
struct StretchMoments {
  // From the first on, up to the end of sequences that a layer works on together (ForChunks).
  Index calibration_rows = 0, held_out_rows = 0;
  std::vector<GramMatrix> calibration, held_out;  // by the stretch's groups; empty: no rows yet
  absl::optional<GramMatrix> cross;               // of the one group, for a dense_share above 0
};

struct PrunedWeights {
  std::vector<char> bytes;  // of the whole tensor, in its dtype and shape, zeros where pruned
  BitMask mask;             // of its shape, as rows x columns; 1: kept
  // ||X (W - W~)'||_F^2 / ||X W'||_F^2 on X, its inputs.
  double calibration_error = 0;
  absl::optional<double> held_out_error;
  int steps = 0;  // the method took
};

// What the queries and keys of a layer came to that were pruned together.
struct PrunedAttention {
  std::vector<PrunedWeights> tensors;  // of the piece, in its order
  // ||f~ - f||_F^2 / ||f||_F^2 of the attention matrices (equation 1) that the pruned and the dense
  // weights give on the same inputs.
  double calibration_error = 0;
  absl::optional<double> held_out_error;
  TerminationReason reason = TerminationReason::kCompleted;  // of the method
};

// Where a layer's large intermediate results are. No bit depends on it.
struct LayerPlaces {
  // Of a layer's attention while queries and keys are pruned together.
  DenseAttention attention = DenseAttention::kKeep;
  std::string tokens_folder;  // the attention's inputs are in a file there; empty: in memory
  // Whether a pass goes on where the one before it over the same tokens ended (kept_values.h).
  bool keeps_values = true;
  std::string values_folder;  // as tokens_folder, of kept values
};

// Holds one layer's weights and one stretch's moments. One caller at a time. The bits depend on the
// input and the CPU type only, not on the pool's threads.
class LayerPruner {
 public:
  // Both must outlive it.
  LayerPruner(const Forward& forward, ThreadPool& pool, LayerPlaces places = {})
      : forward_(forward),
        pool_(pool),
        places_(std::move(places)),
        layer_(forward.options(), pool, forward.compute()),
        kept_{Kept(), Kept(), Kept()} {}

  // The dense layer takes the place of the one before. dense_share: of a map's target that is what
  // it gives in the dense model (target.h), in [0, 1]; above 0 with Passes::kByGroup only, and then
  // the layer is held twice.
  absl::Status Load(Index layer, double dense_share = 0);
  // Of the layer that was loaded last: Prune's methods weigh its maps' outputs by it.
  void TakeCurvature(LayerCurvature curvature) { curvature_ = std::move(curvature); }

  // The states of the calibration tokens in the model as it is pruned so far; in the dense one, for
  // a dense_share above 0, else empty; of held-out ones, which may be empty.
  struct Tokens {
    TokenStates calibration, dense, held_out;
  };
  enum class Side { kCalibration, kDense, kHeldOut };
  // Takes the moments of the stretch's inputs in the layer as it is now, on the same tokens as all
  // stretches since Load; of a piece that is pruned as attention the inputs themselves, until it is
  // pruned. begun: what moments() was of the same stretch, layer and tokens, none of it pruned as
  // attention; the bits are those of a whole pass. DATA_LOSS: it does not fit.
  absl::Status Collect(const Stretch& stretch, const Tokens& tokens,
                       const PassListener& listener = nullptr, StretchMoments begun = {});
  // What is collected by now, also while a listener of Collect is told: by groups of the
  // calibration tokens; with the dense model's inputs, for a dense_share above 0; by groups of
  // held-out tokens.
  std::vector<const GramMatrix*> Moments() const;
  bool has_cross() const { return moments_.cross.has_value(); }
  Index calibration_rows() const { return moments_.calibration_rows; }
  Index held_out_rows() const { return moments_.held_out_rows; }

  // Prunes a tensor of the stretch that was collected last, rounds it to what can be stored, and
  // puts it into the layer. CANCELLED where `observer` stopped it; OUT_OF_RANGE: a weight is too
  // large for the tensor's dtype; else Method::PruneLinear's errors.
  absl::StatusOr<PrunedWeights> Prune(const Stretch::Tensor& tensor, const Method& method,
                                      const Sparsity& sparsity, const RunOptions& options,
                                      ProgressObserver& observer);

  // How a piece with the queries and keys is pruned.
  struct AttentionMethods {
    const Method& attention;
    const Method& others;  // of maps that lie in the same tensors: a method for linear maps
  };
  // The same for the piece of the stretch with queries and keys, which are pruned together: to what
  // the attention matrices were on these inputs, or with a dense_share above 0 to what the target's
  // weights would make them. Once a Collect. INVALID_ARGUMENT: the problem is none (Validate), as
  // where the tokens of a row are all alike; else Method::Prune's errors too.
  absl::StatusOr<PrunedAttention> PruneAttention(const Stretch::Piece& piece,
                                                 const AttentionMethods& methods,
                                                 const Sparsity& sparsity,
                                                 const RunOptions& options,
                                                 ProgressObserver& observer);

  // Puts what Prune gave for this tensor into the layer.
  absl::Status Put(const TensorMaps& tensor, absl::Span<const char> bytes);

  // The side's states through the layer as it is now, the dense side's through the dense one, from
  // row `first` on: one at which a listener was told, whose rows before it are through.
  absl::Status Advance(Side side, const TokenStates& states, const PassListener& listener = nullptr,
                       Index first = 0);

  const LayerWeights& weights() const { return weights_; }
  // Gives the layer away as it is now, and forgets all else of it; a Load comes before anything.
  LayerWeights Release();
  // Gives away what TakeCurvature took of the layer: once.
  LayerCurvature ReleaseCurvature() { return *std::exchange(curvature_, absl::nullopt); }

 private:
  // The pruned rows of one map: those of `matrix` from `first` on.
  struct PrunedRows {
    const PrunedMatrix* matrix;
    Index first;
  };
  // Inputs of a layer's attention as they come, chunk by chunk.
  class InputKeeper;

  void ForgetLayer();  // but its weights
  absl::Status CheckBegun(const Stretch& stretch, const Tokens& tokens) const;
  KeptValues Kept() const { return {forward_.options(), places_.values_folder}; }
  KeptValues& KeptOf(Side side) { return kept_[static_cast<size_t>(side)]; }
  const LayerWeights& WeightsOf(Side side) const {
    return side == Side::kDense ? dense_ : weights_;
  }
  // Of the stretch's pass over so many rows, from row `done` on.
  absl::Status BeginPass(Side side, const Stretch& stretch, Index rows, Index done);
  // Adds what is missing of the moments of the calibration or the held-out side.
  absl::Status AddMoments(Side side, const Stretch& stretch, const TokenStates& states,
                          const PassListener& listener);
  absl::Status CollectBeside(const Stretch& stretch, const Tokens& tokens,
                             const PassListener& listener);
  // Copies rows of the side's states and runs them through its layer as far as the hooks say.
  void RunRows(Side side, const TokenStates& states, Index first, absl::Span<const Index> lengths,
               LayerHooks hooks);
  // Maps whose rows lie behind each other, dense, as one matrix by a method for linear maps.
  absl::StatusOr<PruneResult> PruneRows(absl::Span<const LinearMap> maps, size_t inputs,
                                        const Method& method, const Sparsity& sparsity,
                                        const RunOptions& options, ProgressObserver& observer);
  // What `dense`, rows of the layer's storage, is pruned to instead, for a dense_share above 0.
  absl::StatusOr<Matrix> TargetOf(MatrixView dense, size_t inputs);
  absl::StatusOr<Problem> AttentionProblem(const Stretch::Piece& piece, const Sparsity& sparsity);
  // A tensor of the piece: q and k as `attention` has them, the other maps by `others`.
  absl::StatusOr<PrunedWeights> FinishAttention(const Stretch::Tensor& tensor,
                                                const PruneResult& attention, const Method& others,
                                                const Sparsity& sparsity, const RunOptions& options,
                                                ProgressObserver& observer);
  // Rounds what was pruned, puts it into the layer and takes its errors. rows: one a map.
  absl::StatusOr<PrunedWeights> Finish(const Stretch::Tensor& tensor,
                                       const std::vector<PrunedRows>& rows, int steps);

  const Forward& forward_;
  ThreadPool& pool_;
  const LayerPlaces places_;
  LayerForward layer_;
  std::array<KeptValues, 3> kept_;  // by Side
  LayerWeights weights_, dense_;
  double dense_share_ = 0;
  absl::optional<LayerCurvature> curvature_;
  Index loaded_ = 0;
  // Of the stretch; those of the calibration tokens are in calibration_ once they are whole.
  StretchMoments moments_;
  std::vector<LinearInputs> calibration_;  // by the stretch's groups
  // Inputs of the attention, where the stretch has a piece that is pruned as attention.
  Batches attention_calibration_, attention_held_out_;
  Matrix scratch_;  // hidden states of some sequences
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_LAYER_PRUNER_H_
