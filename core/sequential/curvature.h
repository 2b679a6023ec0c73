// What the loss of a dense model feels of a change at the output of each of its linear maps.
//
// B = sum over tokens of g g', g the gradient of -log p(y) at the map's output, with y drawn from
// the model's own next-token distribution: the output factor of the Fisher information, whose other
// factor is X'X of the inputs (Martens and Grosse, "Optimizing Neural Networks with
// Kronecker-factored Approximate Curvature", 2015, arXiv 1503.05671).
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_CURVATURE_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_CURVATURE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

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

// How far a pass is: counts of rows, one layer's or draw's behind the other's. T tokens.
struct CurvaturePoint {
  Index forward = 0;    // through layers on the way forward: layers * T in the end
  Index gradients = 0;  // of gradients that are taken behind the last layer: draws * T in the end
  Index back = 0;       // of gradients that are back through layers: layers * draws * T in the end
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

  // To the end. at_point, unless null, is called after each chunk of rows: some 2,048 through a
  // layer, 4,096 through the head. CANCELLED: the listener ended it; the point and what it
  // needs are then as at_point was told last. After another error what it needs may be spoilt.
  absl::Status Run(const PassListener& listener, const CurvatureSink& sink,
                   const std::function<void()>& at_point = nullptr);

  const CurvaturePoint& point() const { return point_; }
  double share() const;          // that is done at the point
  Index layers_through() const;  // whose curvature the sink has
  // Goes on from a point of a pass with the same input, once what that needs is filled. Errors of
  // reading the weights; INVALID_ARGUMENT: no such pass has the point.
  absl::Status SetPoint(const CurvaturePoint& point);

  // What a point needs. States behind layers, T x hidden_size each, one layer's below the other's:
  // its first rows.
  MutableMatrixView Kept(Index rows) { return kept_->view().Rows(rows_.total(), rows); }
  Index kept_rows() const;
  Index most_kept_rows() const { return layers() * tokens(); }  // of any point
  // Gradients of all draws, draws * T x hidden_size: its first rows, or none.
  MutableMatrixView Gradients() { return gradients_->view().Rows(0, gradient_rows()); }
  Index gradient_rows() const;
  // Of the layer that the gradients are in the middle of; or none.
  std::vector<absl::Span<double>> Sums();

 private:
  CurvaturePass(Forward& forward, ThreadPool& pool, const Tokens& rows,
                const CurvatureOptions& options)
      : forward_(forward), pool_(pool), rows_(rows), options_(options) {}

  absl::Status MakeRoom(const PassOptions& places);
  absl::Status RunForward(Index layer);
  absl::Status TakeGradients(int draw);
  absl::Status RunBack(Index layer, const CurvatureSink& sink);
  absl::Status RunBack(Index layer, int draw, Index first);
  absl::Status OpenLayer(Index layer);

  Index layers() const { return forward_.options().layer_count(); }
  Index tokens() const { return rows_.total(); }
  Index all_gradients() const { return options_.draws * tokens(); }
  MutableMatrixView Input(Index layer) { return kept_->view().Rows(layer * tokens(), tokens()); }
  MutableMatrixView Gradient(int draw) {
    return gradients_->view().Rows(draw * tokens(), tokens());
  }
  bool Reach() {  // the point
    if (at_point_) at_point_();
    return !listener_ || listener_(share());
  }

  Forward& forward_;
  ThreadPool& pool_;
  const Tokens& rows_;
  const CurvatureOptions options_;
  PassListener listener_;
  std::function<void()> at_point_;
  CurvaturePoint point_;
  absl::optional<ScratchMatrix> kept_;       // the input of every layer, the last one's output
  absl::optional<ScratchMatrix> gradients_;  // of every draw
  // The layer that the gradients are in.
  absl::optional<Index> open_;
  LayerWeights weights_;
  LayerCurvature curvature_;
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
