// Every rule of a problem that needs no data.
#ifndef ATTNPRUNE_CORE_PROBLEM_SHAPE_CHECK_H_
#define ATTNPRUNE_CORE_PROBLEM_SHAPE_CHECK_H_

#include "absl/status/status.h"
#include "core/problem/problem_shape.h"

namespace attnprune {

// A tensor in messages: the field at fault when its shape breaks a rule, and its name in the rules
// of others.
struct TensorField {
  const char* field;
  const char* name;
};

// What a caller's fields are called. The defaults are those of Problem.
struct ProblemFields {
  TensorField w = {"weights.w", "weights.w"};
  TensorField factor_q = {"weights.w_q", "weights.w_q"};
  TensorField factor_k = {"weights.w_k", "weights.w_k"};
  TensorField w_q = {"weights.w_q", "weights.w_q"};
  TensorField w_k = {"weights.w_k", "weights.w_k"};
  const char* b_q = "weights.b_q";
  const char* b_k = "weights.b_k";
  const char* heads = "heads";
  const char* kv_heads = "kv_heads";
  const char* rope = "rope";
  const char* rope_scaling = "rope";  // the message that has the numbers of RopeScaling
  const char* qk_norm = "qk_norm";
  const char* norm_shape = "";  // behind "qk_norm.q_weight"
  const char* softcap = "softcap";
  const char* clip_qkv = "clip_qkv";
  const char* alibi = "alibi";
  const char* attention = "attention";
  const char* scale = "scale";
  const char* fraction = "sparsity";
  const char* n_of_m = "sparsity";
  const char* calibration = "calibration";
  const char* held_out = "held_out";
  const char* batch_shape = "";  // behind "calibration[1]"
  const char* held_out_fraction = "held_out_fraction";
  // Values that stand for a default, as an addition to the rule.
  const char* or_default_kv_heads = "";
  const char* or_default_theta = "";
};

// INVALID_ARGUMENT naming the field, the rule and the value. Pure.
absl::Status Validate(const ProblemShape& shape, const ProblemFields& fields = {});

// The rules of its parts alone.
absl::Status ValidateFactors(const MatrixShape& w_q, const MatrixShape& w_k,
                             const ProblemFields& fields = {});
absl::Status Validate(const AttentionMask& mask, const ProblemFields& fields = {});
absl::Status Validate(const Sparsity& sparsity, const ProblemFields& fields = {});
// N of every M inputs, whatever the number of inputs.
absl::Status ValidateNOfM(Index n, Index m, const ProblemFields& fields = {});

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_SHAPE_CHECK_H_
