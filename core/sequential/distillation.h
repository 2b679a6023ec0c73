// The kept weights of a whole pruned model, trained so that it predicts what the dense one does.
//
// Minimises the mean over tokens of KL(p || q), p and q the next-token distributions of the dense
// and of the pruned model (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural
// Network", arXiv 1503.02531), with the masks fixed: Adam, a few rows a step, the rate falling to 0
// along a cosine. Rows that are never trained on decide which of the weights on the way are kept;
// where none is better than the start, the start is.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_DISTILLATION_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_DISTILLATION_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/io/spilled_matrix.h"
#include "core/model/forward.h"
#include "core/model/layer_backward.h"
#include "core/model/model_pass.h"
#include "core/model/tokens.h"
#include "core/sequential/layer_pruner.h"
#include "core/sequential/trained_layer.h"
#include "core/sequential/training.h"

namespace attnprune {

// One caller at a time; it uses the pool's threads inside. The bits depend on the input and the CPU
// type only, not on the number of threads, on where states are kept, or on stops in between. The
// losses are divergences in nats.
class Distillation : public Training {
 public:
  // forward and pool must outlive it. The dense model is forward's. decides: by row.
  Distillation(Forward& forward, ThreadPool& pool, const Tokens& rows,
               const std::vector<bool>& decides, const TrainingOptions& options);

  // The next layer, the first first: its weights after pruning, and which maps are trained. All
  // layers come before Values.
  absl::Status Add(LayerWeights weights, std::vector<LinearMap> maps);

  Index trained_layers() const override { return std::ssize(layers_); }
  std::vector<absl::Span<float>> Values(Index layer) override;

  // Takes the steps that are left; the layers are the best ones then. A loss that is not finite
  // ends it early. Keeps tokens x hidden_size floats of all rows, in memory or a file as `places`
  // says, and layers + 1 times those of a step's rows. CANCELLED: the listener or the observer
  // ended it; CheckPredicts's errors.
  absl::Status Run(const PassOptions& places, const PassListener& listener,
                   const TrainingObserver& observer);

  const LayerWeights& layer(Index i) const { return layers_[static_cast<size_t>(i)].weights(); }

 private:
  absl::StatusOr<double> Step(const RowBatch& rows) override;
  absl::StatusOr<double> ValidationLoss() override;
  void KeepAsBest() override;
  void TakeBest() override;

  Index layers() const { return forward_.options().layer_count(); }
  absl::Status TakeDenseStates(const PassOptions& places);
  absl::Status StepLayers(const RowBatch& rows, MutableMatrixView gradient);
  absl::Status RunForward(const RowBatch& rows, bool keep);
  MatrixView DenseRows(const RowBatch& rows);
  // token_passes: of a token through the model, that are done since the last call. Whether to go
  // on.
  bool Tell(double token_passes);
  double StepPasses() const;  // with its share of the looks

  Forward& forward_;
  ThreadPool& pool_;
  const Tokens tokens_;
  std::vector<TrainedLayer> layers_;
  absl::optional<ScratchMatrix> dense_;  // last layer's output of all rows in the dense model
  LayerForward layer_forward_;
  LayerBackward layer_backward_;
  LayerGradients gradients_;
  Matrix states_, dense_rows_, gradient_;  // of a batch
  const PassListener* listener_ = nullptr;
  double done_ = 0;  // token passes
};

// What it is expected to need, from the shapes alone.
struct DistillationEstimate {
  double operations = 0;
  double bytes = 0;         // of weights, moments, gradients and a step's states
  double state_bytes = 0;   // of the states of all rows, in memory or a file
  double values_bytes = 0;  // of Values() of all layers
};
// lengths: of all rows. entries: of all maps of the model.
DistillationEstimate EstimateDistillation(const ModelOptions& model, double entries,
                                          absl::Span<const Index> lengths,
                                          const TrainingOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_DISTILLATION_H_
