// The kept weights of a whole pruned model, trained so that it predicts what the dense one does.
//
// Minimises the mean over tokens of KL(p || q), p and q the next-token distributions of the dense
// and of the pruned model (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural
// Network", arXiv 1503.02531), with the masks fixed: Adam, a few rows a step, the rate falling to 0
// along a cosine. Rows that are never trained on decide which of the weights on the way are kept;
// where none is better than the start, the start is.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_DISTILLATION_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_DISTILLATION_H_

#include <cstdint>
#include <functional>
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

namespace attnprune {

struct DistillationOptions {
  int steps = 400;     // at least 1
  Index rows = 4;      // a step, at least 1; all rows where there are no more
  double rate = 0.01;  // of the first step, in units of twice a map's mean |W|
  uint64_t seed = 0;   // of the order of the rows
};

// Where a run is. The divergences are means over the validation rows' tokens, in nats.
struct DistillationPoint {
  int steps = 0;                       // taken
  absl::optional<double> start, best;  // nullopt: not looked at yet
  int best_step = 0;                   // after which the best weights were; 0: the start
};

// Told after each step with the mean divergence of the step's rows before it; false ends the run
// with CANCELLED. values() may be read meanwhile.
using DistillationObserver = std::function<bool(const DistillationPoint& point, double loss)>;

// One caller at a time; it uses the pool's threads inside. The bits depend on the input and the CPU
// type only, not on the number of threads, on where states are kept, or on stops in between.
class Distillation {
 public:
  // forward and pool must outlive it. The dense model is forward's. training and validation: at
  // least one row each.
  Distillation(Forward& forward, ThreadPool& pool, const Tokens& training, const Tokens& validation,
               const DistillationOptions& options);

  // The next layer, the first first: its weights after pruning, and which maps are trained.
  absl::Status Add(LayerWeights weights, std::vector<LinearMap> maps);

  // Goes on from another's point and values. Once all layers are added.
  std::vector<absl::Span<float>> Values(Index layer);  // TrainedLayer's
  void SetPoint(const DistillationPoint& point) { point_ = point; }
  const DistillationPoint& point() const { return point_; }

  // Takes the steps that are left; the layers are the best ones then. A loss that is not finite
  // ends it early. Keeps tokens x hidden_size floats of all rows, in memory or a file as `places`
  // says, and layers + 1 times those of a step's rows. CANCELLED: the listener or the observer
  // ended it; CheckPredicts's errors.
  absl::Status Run(const PassOptions& places, const PassListener& listener,
                   const DistillationObserver& observer);

  const LayerWeights& layer(Index i) const { return layers_[static_cast<size_t>(i)].weights(); }

 private:
  // Some rows, and where their tokens are among all: training rows, then validation rows.
  struct Batch {
    Tokens tokens;
    std::vector<Index> first;  // of each row
  };

  Index layers() const { return forward_.options().layer_count(); }
  Batch RowsAt(absl::Span<const Index> rows) const;
  Batch BatchOf(int step) const;
  absl::Status TakeDenseStates(const PassOptions& places);
  absl::StatusOr<double> Step();
  absl::Status StepLayers(const Batch& batch, MutableMatrixView gradient);
  absl::Status RunForward(const Batch& batch, bool keep);
  MatrixView DenseRows(const Batch& batch);
  absl::Status Look();
  // token_passes: of a token through the model, that are done since the last call. Whether to go
  // on.
  bool Tell(double token_passes);
  double AllPasses() const;

  Forward& forward_;
  ThreadPool& pool_;
  const Tokens tokens_;                // training rows, then validation rows
  const Index training_, validation_;  // rows
  const DistillationOptions options_;
  std::vector<Index> begins_;  // of rows
  std::vector<TrainedLayer> layers_;
  DistillationPoint point_;
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
                                          const DistillationOptions& options);

// The share of rows that decide: an eighth, at least one, of those that a corpus gave.
inline constexpr double kDistillationValidation = 0.125;

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_DISTILLATION_H_
