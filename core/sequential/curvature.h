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

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
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

// A pass forward, and one back for each draw. Kept are layers + 1 + draws times tokens x
// hidden_size floats, in memory or a file as `places` says, and one layer's B. CANCELLED: the
// listener ended it; CheckPredicts's errors. The bits depend on the input and the CPU type only.
absl::Status MeasureCurvature(Forward& forward, ThreadPool& pool, const Tokens& rows,
                              const CurvatureOptions& options, const PassOptions& places,
                              const PassListener& listener, const CurvatureSink& sink);

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
