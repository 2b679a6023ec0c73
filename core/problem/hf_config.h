// What a Hugging Face config.json says about the attention of one layer.
#ifndef ATTNPRUNE_CORE_PROBLEM_HF_CONFIG_H_
#define ATTNPRUNE_CORE_PROBLEM_HF_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/problem/attention_mask.h"
#include "core/problem/problem.h"

namespace attnprune {

struct HfAttention {
  Index layers = 0;       // of the model
  Index hidden_size = 0;  // d
  Index heads = 0;
  Index kv_heads = 0;   // divides heads
  Index head_dim = 0;   // even
  bool biases = false;  // on q and k
  Rope rope;
  AttentionMask attention;
};

// Reads the architectures whose attention is the projections problem exactly, by model_type:
//
//   llama    biases if attention_bias; causal
//   mistral  no biases; a window of sliding_window tokens (4096 if the key is absent, as in the
//            transformers library), causal if that is null
//   qwen2    biases; causal; use_sliding_window must be false
//
// Absent or null keys take the transformers library's defaults: num_key_value_heads those of the
// architecture (null: num_attention_heads), head_dim hidden_size / num_attention_heads, rope_theta
// 10000. Rotary options are read from rope_theta, rope_scaling and rope_parameters.
//
// INVALID_ARGUMENT, naming `file`, key, rule and value, for any other model_type, a rope type other
// than "default", any further rope option, a partial rotary embedding, quantised weights, a key of
// the wrong type or range, and a layer that the model does not have (field `layer`).
absl::StatusOr<HfAttention> ParseHfConfig(absl::string_view json, absl::string_view file,
                                          Index layer);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_HF_CONFIG_H_
