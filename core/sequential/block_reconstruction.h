// The kept weights of one pruned layer, trained so that the layer gives what the dense one does,
// as far as the model's loss feels it.
//
// With the layer's inputs x in the model as it is pruned so far, z in the dense model, both mixed
// in m = (1 - s) x + s z, its output f, its attention matrices a, pruned weights W~ and dense ones
// W, it minimises
//
//   ||(f(x; W~) - y) L||^2 / ||(y - x) L||^2 + 0.1 ||a(x; W~) - a(m; W)||^2 / ||a(m; W)||^2,
//   y = (1 - s) f(x; W) + s f(z; W),   L L' = 0.9 R / mean(diag R) + 0.1 I,
//
// R the loss's curvature in the layer's output (curvature.h). Norms of denominators are means over
// the validation rows. Reconstruction layer by layer: Li et al., "BRECQ" (arXiv 2102.05426); of
// what pruning keeps: EBFT (arXiv 2402.12419); the curvature and the attention term are this
// project's (docs/methods.md).
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_BLOCK_RECONSTRUCTION_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_BLOCK_RECONSTRUCTION_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/io/spilled_matrix.h"
#include "core/methods/output_metric.h"
#include "core/model/forward.h"
#include "core/model/layer_backward.h"
#include "core/model/layer_forward.h"
#include "core/model/model_pass.h"
#include "core/sequential/layer_pruner.h"
#include "core/sequential/trained_layer.h"
#include "core/sequential/training.h"

namespace attnprune {

struct ReconstructionProblem {
  Index layer = 0;
  // The layer's inputs in the model as it is pruned so far; in the dense model, for a dense_share
  // above 0, else empty. Read until the end.
  TokenStates inputs, dense;
  double dense_share = 0;     // s, in [0, 1]
  OutputCurvature metric;     // R, of hidden_size outputs; no blocks: L = I
  std::vector<bool> decides;  // by row: whether it is a validation row
};

// One caller at a time; it uses the pool's threads inside. The bits depend on the input and the CPU
// type only, not on the number of threads, on where states are kept, or on stops in between.
class BlockReconstruction : public Training {
 public:
  // forward and pool must outlive it. weights: the layer's after pruning. maps: those that are
  // trained. Errors of ModelWeights::LoadLayer; INVALID_ARGUMENT: Validate(R).
  static absl::StatusOr<std::unique_ptr<BlockReconstruction>> Create(
      const Forward& forward, ThreadPool& pool, ReconstructionProblem problem, LayerWeights weights,
      std::vector<LinearMap> maps, const TrainingOptions& options);

  Index trained_layers() const override { return 1; }
  std::vector<absl::Span<float>> Values(Index layer) override;

  // Takes the steps that are left; the layer is the best one then. A loss that is not finite ends
  // it early. Keeps tokens x hidden_size floats, in memory or a file as `places` says. CANCELLED:
  // the listener or the observer ended it; errors of ScratchMatrix::Create.
  absl::Status Run(const PassOptions& places, const PassListener& listener,
                   const TrainingObserver& observer);

  const LayerWeights& weights() const { return trained_.weights(); }

 private:
  // Sums over the tokens of some rows, before any scale.
  struct Terms {
    double output = 0, output_size = 0;        // ||(f - y) L||^2, ||(y - x) L||^2
    double attention = 0, attention_size = 0;  // ||a - a*||^2, ||a*||^2
  };

  BlockReconstruction(const Forward& forward, ThreadPool& pool, ReconstructionProblem problem,
                      LayerWeights dense, TrainedLayer trained, const TrainingOptions& options);

  absl::StatusOr<double> Step(const RowBatch& rows) override;
  absl::StatusOr<double> ValidationLoss() override;
  void KeepAsBest() override { trained_.KeepAsBest(); }
  void TakeBest() override { trained_.TakeBest(); }

  absl::Status TakeTargets(const PassOptions& places);
  absl::Status TakeScales();
  // Runs the rows forwards and backwards; adds gradients in the weights to gradients_ where
  // `train`.
  absl::StatusOr<Terms> Run(const RowBatch& rows, bool train);
  // gradient: of the term in the layer's output, `out`. with_size: output_size too.
  void AddOutputTerm(const RowBatch& rows, MatrixView x, MatrixView out, bool with_size,
                     MutableMatrixView gradient, Terms& terms);
  AttentionPull PullOf(const RowBatch& rows);
  void ApplyMetric(MatrixView from, MutableMatrixView to);
  double LossOf(const Terms& terms, double tokens) const;
  // token_passes: of a token through the layer, that are done since the last call. Whether to go
  // on.
  bool Tell(double token_passes);
  double StepPasses() const;

  const Forward& forward_;
  ThreadPool& pool_;
  const ReconstructionProblem problem_;
  std::vector<Matrix> metric_;  // L L', by block of R
  const LayerWeights dense_;
  TrainedLayer trained_;
  absl::optional<ScratchMatrix> targets_;          // y of all rows
  double output_scale_ = 1, attention_scale_ = 1;  // of a token's terms
  double step_tokens_ = 1;
  LayerForward layer_forward_;
  LayerBackward layer_backward_;
  LayerGradients gradients_;
  Matrix x_, out_, y_, gradient_, weighted_, mixed_, q_, k_;  // of a batch
  const PassListener* listener_ = nullptr;
  double done_ = 0;  // token passes
};

// What it is expected to need for one layer, from the shapes alone.
struct ReconstructionEstimate {
  double operations = 0;
  double bytes = 0;         // of weights, moments, gradients and a step's states
  double state_bytes = 0;   // of the targets of all rows, in memory or a file
  double values_bytes = 0;  // of Values()
};
// lengths: of all rows. entries: of all maps of the layer. dense: whether dense_share is above 0.
ReconstructionEstimate EstimateReconstruction(const ModelOptions& model, double entries,
                                              absl::Span<const Index> lengths, bool dense,
                                              const TrainingOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_BLOCK_RECONSTRUCTION_H_
