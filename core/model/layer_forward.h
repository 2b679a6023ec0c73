// One transformer layer on many sequences, in place.
#ifndef ATTNPRUNE_CORE_MODEL_LAYER_FORWARD_H_
#define ATTNPRUNE_CORE_MODEL_LAYER_FORWARD_H_

#include <array>
#include <functional>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/bf16_gemm.h"
#include "core/kernels/rope.h"
#include "core/model/attention_shards.h"
#include "core/model/layer_cache.h"
#include "core/model/layer_parts.h"
#include "core/model/model_options.h"
#include "core/model/model_weights.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Where a layer's run can begin: behind q, k and v, and behind o. In the layer's order, so that the
// number of each is that of the groups of maps (core/sequential/stretch.h) before it.
enum class LayerPoint {
  kInput,     // of the layer
  kMixed,     // the inputs of o
  kAttended,  // what attention adds to the layer's input: of o and the norm behind it
};

// What somebody wants to see of a layer's run. All are called by the thread that runs it, in the
// order of the rows; views are valid during the call only. Null: nobody looks.
struct LayerHooks {
  // The input of some linear maps: rows first_row, first_row + 1, ... of all tokens.
  using Input = std::function<void(Index first_row, MatrixView input)>;
  Input attention_input;   // of q, k and v
  Input output_input;      // of o
  Input attention_output;  // LayerPoint::kAttended
  Input mlp_input;         // of gate and up
  Input down_input;        // of down
  // Where the layer is run from, and, unless that is kInput, the values there: a row for each of
  // x, which is the layer's input all the same. Hooks before that point are not called.
  LayerPoint from = LayerPoint::kInput;
  MatrixView values;
  // How far the layer is run: behind that hook the rest is left out, and x is half done.
  enum class Until { kAttentionInput, kOutputInput, kMlpInput, kDownInput, kEnd };
  Until until = Until::kEnd;
  // After the rows of some sequences are done, with how many rows of all are; false ends the run,
  // which leaves x half done.
  std::function<bool(Index rows)> goes_on;
  // Queries and keys, after norm and rotary embedding and before the scale.
  std::function<void(Index first_row, MatrixView q, MatrixView k)> queries_and_keys;
};

// The last point that a run as far as `until` comes by.
LayerPoint LastPointBefore(LayerHooks::Until until);

// In what the products of linear maps are taken; everything else is float32.
enum class Compute {
  kFloat32,
  kBf16,  // factors rounded to bf16, sums in float32: where CheckBf16Products passes
};

// Calls visit(first row, lengths) for runs of sequences that a layer works on together, of at most
// LayerForward::kChunkTokens tokens unless one is longer; false ends it, and is the answer.
bool ForChunks(absl::Span<const Index> lengths,
               absl::FunctionRef<bool(Index first_row, absl::Span<const Index> lengths)> visit);

// Runs the layers of one model. Keeps its working memory from call to call: about 2,048 tokens of a
// layer's inner values, or one sequence's where that is longer. Not thread-safe: one caller at a
// time; it uses the pool's threads inside. The bits of every answer depend on the input and the CPU
// type only, not on the number of threads.
class LayerForward {
 public:
  // Worked on together, unless one sequence is longer.
  static constexpr Index kChunkTokens = 2048;
  static constexpr Index kMlpRows = 1024;  // of the MLP's inner values, at one time

  // options and pool must outlive it.
  LayerForward(const ModelOptions& options, ThreadPool& pool, Compute compute = Compute::kFloat32)
      : options_(options), pool_(pool), compute_(compute) {}

  // x: tokens x hidden_size, sequences of `lengths` tokens below each other; a layer's input on
  // entry, its output on return. The sum of lengths is x.rows(); each at least 1. False if
  // hooks.goes_on ended it.
  bool Run(Index layer, const LayerWeights& weights, absl::Span<const Index> lengths,
           MutableMatrixView x, const LayerHooks& hooks = {});

  // One more token of each of the first x.rows() sequences of `cache`, which is the layer's; x as
  // Run's, a row each. In float32.
  void Step(const LayerWeights& weights, LayerCache& cache, MutableMatrixView x);

  // The attention matrix of one head and sequence, n x n with zeros where a key is not allowed,
  // from what queries_and_keys showed of that sequence. For tests and plots: n^2 floats.
  Matrix Attention(Index layer, MatrixView q, MatrixView k, Index head) const;

 private:
  void RunChunk(Index layer, const LayerWeights& weights, const LayerChunk& chunk,
                MutableMatrixView x, const LayerHooks& hooks);
  // attended = the values at kAttended. False: the run ends before them.
  bool RunAttention(Index layer, const LayerWeights& weights, const LayerChunk& chunk, MatrixView x,
                    MutableMatrixView attended, const LayerHooks& hooks);
  // mixed_ = the weighted values of every head; from `input`, the input of q, k and v.
  void Attend(Index layer, const LayerWeights& weights, const LayerChunk& chunk, MatrixView input,
              const LayerHooks& hooks);
  void Position(const LayerWeights& weights, const LayerChunk& chunk);
  void Mix(Index layer, const LayerChunk& chunk);
  // out = MLP(input).
  void RunMlp(const LayerWeights& weights, Index first_row, MatrixView input, MutableMatrixView out,
              const LayerHooks& hooks);
  // out = input W' + b.
  void Apply(const LayerWeights& weights, LinearMap which, MatrixView input, MutableMatrixView out);

  const ModelOptions& options_;
  ThreadPool& pool_;
  const Compute compute_;
  std::array<Bf16Matrix, kLinearMaps> half_;  // the layer's maps, where compute_ is kBf16
  Bf16Matrix half_input_;
  RopeTables rope_;
  bool has_rope_ = false;
  Matrix normed_, q_, k_, v_, mixed_, attention_out_, mlp_out_, gate_, up_;
  ThreadScratch scratch_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_LAYER_FORWARD_H_
