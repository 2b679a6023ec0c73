// The attention of one layer of a Hugging Face model, as a problem to prune.
#ifndef ATTNPRUNE_CORE_MODEL_ATTENTION_LAYER_H_
#define ATTNPRUNE_CORE_MODEL_ATTENTION_LAYER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/io/tensor_source.h"
#include "core/model/model_weights.h"
#include "core/problem/attention_mask.h"
#include "core/problem/problem.h"
#include "core/problem/problem_shape.h"

namespace attnprune {

// A tensor of the layer as it is stored. Rows of a fused tensor, and of a transposed one, are put
// together and are called "NAME[q]" and "NAME[k]"; norms that are stored one by one "NAME[all]".
struct AttentionTensor {
  std::string role;  // "w_q", "w_k", "b_q", "b_k", "q_norm", "k_norm", "q_norm_bias", "k_norm_bias"
  TensorInfo tensor;
  std::shared_ptr<const std::vector<char>> bytes;  // null: those of the mapped file
};

struct AttentionLayer {
  // Its sizes, options and norms; weights and biases are filled in by LoadAttentionLayer only.
  ProjectionWeights weights;
  AttentionMask attention;
  absl::optional<double> scale;  // of the logits, where it is not 1 / sqrt(head_dim)
  // What is added to the norms' weights: 1 for families that store w for 1 + w.
  double norm_offset = 0;
  std::vector<AttentionTensor> tensors;
};

// Layer `layer`, from 0; valid as long as `model`. INVALID_ARGUMENT or NOT_FOUND names the tensor,
// the rule and the value: ModelWeights::CheckAttention's errors.
absl::StatusOr<AttentionLayer> StoredAttentionLayer(const ModelWeights& model, Index layer);

// The same with everything as float32, without its tensors.
absl::StatusOr<AttentionLayer> LoadAttentionLayer(const ModelWeights& model, Index layer);

// As a problem without data and sparsity, of a model whose tensors need no bytes. The same errors.
absl::StatusOr<ProblemShape> AttentionShapeOf(const ModelWeights& model, Index layer);

// The layer with its tensors and with everything as float32, of the model in `folder`. Errors of
// LoadModelOptions and ModelWeights::Open too.
absl::StatusOr<AttentionLayer> LoadAttentionLayer(const std::string& folder, Index layer);

// "NAME[q]" or "NAME[k]": what a part of a fused tensor is.
struct FusedPart {
  std::string tensor;  // NAME
  Index layer = 0;
  LinearMap map = LinearMap::kQuery;
};
// nullopt: `name` is no part of one of this model's fused tensors.
absl::optional<FusedPart> ParseFusedPart(const ModelWeights& model, const std::string& name);
// Writes a part, (out, in), into its whole tensor; both have elements of `size` bytes: those of the
// tensor, or other values one for each of them.
absl::Status PutBack(const ModelWeights& model, const FusedPart& part, size_t size,
                     absl::Span<const char> part_bytes, absl::Span<char> whole);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_ATTENTION_LAYER_H_
