// What the loss of a dense model feels of a change at the output of each of its linear maps.
//
// B = sum over tokens of g g', g the gradient of -log p(y) at the map's output, with y drawn from
// the model's own next-token distribution: the output factor of the Fisher information, whose other
// factor is X'X of the inputs (Martens and Grosse, "Optimizing Neural Networks with
// Kronecker-factored Approximate Curvature", 2015, arXiv 1503.05671).
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_CURVATURE_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_CURVATURE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/io/spilled_matrix.h"
#include "core/model/forward.h"
#include "core/model/model_pass.h"
#include "core/model/tokens.h"
#include "core/sequential/layer_curvature.h"
#include "core/sequential/layer_pruner.h"

namespace attnprune {

struct CurvatureOptions {
  uint64_t seed = 0;    // of the labels
  int draws = 1;        // labels of each token, at least 1
  Index widest = 2048;  // outputs of a block of B: a wider map's B has several on its diagonal
  bool output = false;  // R too, of each layer's output
};

// Told of each layer, from the last to the first, with its weights; an error ends the pass.
using CurvatureSink = std::function<absl::Status(Index layer, const LayerWeights& weights,
                                                 const LayerCurvature& curvature)>;

// A place between two layers of a pass.
struct CurvaturePoint {
  Index forward = 0;            // layers that the rows are through
  absl::optional<Index> back;   // layers that the gradients have yet to go back through; nullopt:
                                // they are not taken yet
  // Of the layers whose inputs the pass needs from here on, the embedding's rows aside: 1 to this.
  Index inputs() const { return back.has_value() ? std::max<Index>(*back - 1, 0) : forward; }
};

// A pass forward, and one back for each draw. Kept are layers + 1 + draws times tokens x
// hidden_size floats, in memory or a file as `places` says, and one layer's B. The bits depend on
// the input and the CPU type only, also where a pass goes on from a point of another. Not
// thread-safe; uses `forward` and the pool.
class CurvaturePass {
 public:
  // All but `places` must outlive it. CheckPredicts's errors; ScratchMatrix::Create's.
  static absl::StatusOr<std::unique_ptr<CurvaturePass>> Create(Forward& forward, ThreadPool& pool,
                                                               const Tokens& rows,
                                                               const CurvatureOptions& options,
                                                               const PassOptions& places);

  Index layers() const { return forward_.options().layer_count(); }  // of the model
  const CurvaturePoint& point() const { return point_; }
  // Goes on from a point of a pass with the same input, once Input(1) ... Input(point.inputs())
  // and, with point.back, Gradients() are filled with that pass's.
  void SetPoint(const CurvaturePoint& point) { point_ = point; }
  // Of a layer, tokens x hidden_size; Input(layers): the output of the last.
  MutableMatrixView Input(Index layer);
  // Of every draw at the output of layer point.back - 1, draws * tokens x hidden_size.
  MutableMatrixView Gradients() { return gradients_->view(); }
  double share() const;  // that is done at the point

  // To the end. at_point, unless null, is called after each layer, forward and back. CANCELLED: the
  // listener ended it; the point and what it needs are then as they were behind the last layer,
  // but for Gradients(), which are spoilt where point.back is there.
  absl::Status Run(const PassListener& listener, const CurvatureSink& sink,
                   const std::function<void()>& at_point = nullptr);

 private:
  CurvaturePass(Forward& forward, ThreadPool& pool, const Tokens& rows,
                const CurvatureOptions& options)
      : forward_(forward), pool_(pool), rows_(rows), options_(options) {}

  absl::Status MakeRoom(const PassOptions& places);
  absl::Status RunForward(Index layer);
  absl::Status TakeGradients();
  absl::Status RunBack(Index layer, const CurvatureSink& sink);

  double tokens() const { return static_cast<double>(rows_.total()); }
  MutableMatrixView Gradient(int draw) {
    return gradients_->view().Rows(draw * rows_.total(), rows_.total());
  }
  double ShareOf(double passes) const;
  bool Tell(double passes) const { return !listener_ || listener_(ShareOf(passes)); }

  Forward& forward_;
  ThreadPool& pool_;
  const Tokens& rows_;
  const CurvatureOptions options_;
  PassListener listener_;
  CurvaturePoint point_;
  absl::optional<ScratchMatrix> kept_;       // the input of every layer, the last one's output
  absl::optional<ScratchMatrix> gradients_;  // of every draw
};

// What it is expected to need, from the shapes alone.
struct CurvatureEstimate {
  double operations = 0;    // of all passes
  double state_bytes = 0;   // of the states that are kept, in memory or a file
  double layer_bytes = 0;   // of one layer's B
  double stored_bytes = 0;  // of every layer's B in float32
};
// lengths: of the rows that it is taken on.
CurvatureEstimate EstimateCurvature(const ModelOptions& model, absl::Span<const Index> lengths,
                                    const CurvatureOptions& options);

// So many of the rows, evenly spaced; all where there are no more. ids may be left out.
Tokens SomeRows(const Tokens& tokens, Index rows);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_CURVATURE_H_
