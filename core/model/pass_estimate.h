// What a pass over a model is expected to need, from the shapes alone.
#ifndef ATTNPRUNE_CORE_MODEL_PASS_ESTIMATE_H_
#define ATTNPRUNE_CORE_MODEL_PASS_ESTIMATE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "core/model/layer_forward.h"
#include "core/model/model_options.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct PassEstimate {
  double map_operations = 0;        // 2 an entry of a linear map and a token
  double attention_operations = 0;  // 4 h an entry that the mask allows (h: the width of all
                                    // heads), and what its softmax takes
  // At the peak, 4 bytes times: a layer's weights; the hidden states, unless they are in a file;
  // the inner values of some 2,048 tokens, or of the longest sequence; and what any program takes.
  // In bf16, 2 bytes a weight more.
  double bytes = 0;

  // By the rates, of MeasureGemmRate with the threads of the pass, at which linear maps and
  // attention are multiplied.
  double Seconds(double map_rate, double attention_rate) const;
};

// What a layer's way back costs, with what it computes again, in passes forward through it.
inline constexpr double kBackwardPasses = 3;

// Of layers [0, layers) on sequences of `lengths` tokens. memory_budget: PassOptions's.
PassEstimate EstimatePass(const ModelOptions& model, Compute compute,
                          absl::Span<const Index> lengths, Index layers, int64_t memory_budget);

// The operations of all of that through one layer from a point on, as far as `until`.
double OperationsBetween(const ModelOptions& model, absl::Span<const Index> lengths,
                         LayerPoint from, LayerHooks::Until until);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_PASS_ESTIMATE_H_
