// From the gradient at a layer's output to those at its linear maps' outputs and at its input.
//
// Source: the chain rule through the layer of model_options.h; Rumelhart, Hinton and Williams,
// "Learning representations by back-propagating errors".
#ifndef ATTNPRUNE_CORE_MODEL_LAYER_BACKWARD_H_
#define ATTNPRUNE_CORE_MODEL_LAYER_BACKWARD_H_

#include <functional>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/rope.h"
#include "core/model/attention_shards.h"
#include "core/model/layer_parts.h"
#include "core/model/model_options.h"
#include "core/model/model_weights.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// What somebody wants to see of a backward run. Called by the thread that runs it; views are valid
// during the call only. Null: nobody looks.
struct BackwardHooks {
  // The gradient at a map's output (of input W' + b, before clip, norm and rotary embedding), rows
  // x out, with the map's input, rows x in: rows first_row, first_row + 1, ... of all tokens, in
  // order within a map. The gradient in its weight is the sum over the calls of gradient' input.
  std::function<void(LinearMap map, Index first_row, MatrixView input, MatrixView gradient)>
      map_gradient;
  // After the rows of some sequences are done, with how many rows of all are; false ends the run,
  // which leaves the gradient half done.
  std::function<bool(Index rows)> goes_on;
  // Of the layer's attention, on all tokens; null: none. Then *distance becomes that of all.
  const AttentionPull* pull = nullptr;
  AttentionDistance* distance = nullptr;
};

// Runs the layers of one model backwards, in float32. What a layer computed is computed again from
// its input, for about 2,048 tokens at a time, or one sequence where that is longer. The working
// memory for that is kept from call to call: up to 8 hidden states a token, 5 times its queries, 3
// times its keys, twice its values, and 3 times the MLP's inner values of 1,024 tokens. Not
// thread-safe: one caller at a time; it uses the pool's threads inside. The bits of every answer
// depend on the input and the CPU type only, not on the number of threads.
class LayerBackward {
 public:
  // options and pool must outlive it.
  LayerBackward(const ModelOptions& options, ThreadPool& pool) : options_(options), pool_(pool) {}

  // x: the layer's input, tokens x hidden_size, sequences of `lengths` tokens below each other,
  // each at least 1. gradient: of a scalar in the layer's output on entry, in x on return. Same
  // shapes. False if hooks.goes_on ended it. Two to three times the operations of
  // LayerForward::Run.
  bool Run(Index layer, const LayerWeights& weights, absl::Span<const Index> lengths, MatrixView x,
           MutableMatrixView gradient, const BackwardHooks& hooks = {});

 private:
  // A run on one chunk.
  struct Pass {
    const LayerWeights& weights;
    const AttentionShards& shards;
    LayerChunk chunk;
    MatrixView x;
    MutableMatrixView gradient;  // at the layer's output, and more and more of it at its input
    const BackwardHooks& hooks;
  };

  // What the layer computes of a chunk, up to the MLP's input: views of the buffers below, or of
  // each other where the family has no norm between them.
  struct Values {
    MatrixView input;                     // of q, k and v
    MatrixView q_projected, k_projected;  // clipped, before the norm; empty where not needed
    AttentionValues heads;
    MatrixView attended;  // o's output; empty where not needed
    MatrixView before;    // x + r attn_out(attended), the same
    MatrixView middle;    // attn_after of it, the same; parallel: before
    MatrixView mlp_input;
  };

  void RunChunk(const Pass& pass);
  Values Recompute(const Pass& pass);
  AttentionValues RecomputeHeads(const Pass& pass, Values& values);
  // Leaves the gradient at mlp_after's input. The result: at the MLP's input.
  MutableMatrixView RunMlp(const Pass& pass, const Values& values);
  void RunMlpRows(const Pass& pass, const Values& values, Index first, MutableMatrixView d_input);
  // Takes the gradient of rows from `first` on through mlp_after. The result: at down's output.
  MutableMatrixView IntoMlp(const Pass& pass, const Values& values, Index first, MatrixView inner);
  // d_attended: at o's output. The result: at the input of q, k and v.
  MutableMatrixView RunAttention(const Pass& pass, const Values& values, MatrixView d_attended);
  void BackThroughAttention(const Pass& pass, const AttentionValues& heads, MatrixView d_mixed,
                            const AttentionGradients& d);
  void ToProjections(const Pass& pass, const Values& values, const AttentionGradients& d);

  MatrixView Normed(const OptionalNorm& norm, MatrixView x, Matrix& room);
  // Shows a map's gradient.
  static void Show(const Pass& pass, LinearMap map, Index first, MatrixView input,
                   MatrixView gradient);

  const ModelOptions& options_;
  ThreadPool& pool_;
  RopeTables rope_;
  bool has_rope_ = false;
  Matrix input_, q_, k_, v_, q_projected_, k_projected_, mixed_, attended_, before_, middle_,
      mlp_input_, gate_, up_, inner_, mlp_out_, mlp_sum_;
  Matrix d_input_, d_q_, d_k_, d_v_, d_mixed_, d_attended_, d_mlp_input_, d_down_;
  ThreadScratch scratch_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_LAYER_BACKWARD_H_
