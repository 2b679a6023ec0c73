// What is to be pruned: one attention layer's weights, the data they see and the sparsity asked
// for.
#ifndef ATTNPRUNE_CORE_PROBLEM_PROBLEM_H_
#define ATTNPRUNE_CORE_PROBLEM_PROBLEM_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "core/kernels/alibi.h"
#include "core/kernels/rope.h"
#include "core/problem/attention_mask.h"
#include "core/problem/batches.h"
#include "core/problem/qk_norm.h"
#include "core/problem/sparsity.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// The paper's problem (Definition 1.1, Sections 3 to 6): f = softmax(s X W X'). One head.
struct FusedWeights {
  Matrix w;  // d x d, in x out (x -> x W)
  // W = w_q w_k' when the layer is given by its factors, both d x r, in x out; else empty.
  Matrix w_q, w_k;
  bool has_factors() const { return !w_q.empty(); }
};

// Computes W = w_q w_k' and keeps the factors. INVALID_ARGUMENT unless both are d x r, not empty.
absl::StatusOr<FusedWeights> FusedFromFactors(Matrix w_q, Matrix w_k);

// A real layer's problem (Section 7, made exact). In this order, where a layer has it:
//   project (+ bias), clip, q/k norm, rotary embedding R, scale (+ alibi), softcap, mask, softmax
// so that with none but R, S_h = s R(X W_Qh' + b) R(X W_Kg' + b)'. Options as in
// huggingface/transformers, models/ of the families named.
struct ProjectionWeights {
  Matrix w_q;              // (heads * head_dim) x d, Hugging Face's (out, in)
  Matrix w_k;              // (kv_heads * head_dim) x d
  std::vector<float> b_q;  // heads * head_dim, or empty for none
  std::vector<float> b_k;  // kv_heads * head_dim, or empty for none
  Index heads = 1;
  Index kv_heads = 1;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  absl::optional<Rope> rope;
  absl::optional<QkNorm> qk_norm;  // Qwen3, Gemma 3, OLMo 2, ...
  double softcap = 0;              // c of S <- c tanh(S / c), above 0 (Gemma 2); 0: none
  double clip_qkv = 0;  // projections are cut to [-clip_qkv, clip_qkv], above 0 (OLMo); 0: none
  Alibi alibi = Alibi::kNone;

  Index head_dim() const { return w_q.rows() / heads; }
  // Whether gradients need the projections as they were.
  bool has_norm_or_clip() const { return qk_norm.has_value() || clip_qkv > 0; }
};

// Immutable once validated; any number of threads may read it.
struct Problem {
  std::variant<FusedWeights, ProjectionWeights> weights;
  AttentionMask attention;
  absl::optional<double> scale;  // s; default 1 (fused) or 1 / sqrt(head_dim) (projections)
  Batches calibration;           // at least one batch; decides
  Batches held_out;              // may be empty; only ever scored, never used to decide
  Sparsity sparsity;

  bool fused() const { return std::holds_alternative<FusedWeights>(weights); }
  const FusedWeights& fused_weights() const { return std::get<FusedWeights>(weights); }
  const ProjectionWeights& projections() const { return std::get<ProjectionWeights>(weights); }

  Index features() const;         // d
  Index heads() const;            // query heads; 1 when fused
  float effective_scale() const;  // s with its default filled in
};

// A weight matrix as the attention uses it: "w" (fused) or "w_q" and "w_k" (projections).
struct NamedWeight {
  const char* name;
  MatrixView dense;
  // Which axis runs over the inputs of the linear map: rows for x -> x W (fused problem), columns
  // for Hugging Face's (out, in). N:M groups run along it.
  bool inputs_are_rows;
};
std::vector<NamedWeight> AttentionWeights(const Problem& problem);

// Every rule a problem must meet: those of its shape (shape_check.h), and that its values are
// finite, w is w_q w_k' and not all rows of a batch are equal, from which nothing can be learned.
// INVALID_ARGUMENT naming the field, the rule and the value.
absl::Status Validate(const Problem& problem);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_PROBLEM_H_
