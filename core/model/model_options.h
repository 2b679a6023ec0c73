// What a model's config.json says of its forward pass: one struct for every family.
//
//   x = embedding[ids]; x = project_in x; x += position[t + offset]; x += token_type[0]
//   x = embedding_scale * embedding_norm(x)
//   for each layer:
//     h = attn_in(x);  a = attn_out(O attention(h));  r = residual_scale
//     parallel:    m = mlp_out(MLP(mlp_in(x), or of h));  x = mlp_after(x + r (a + m))
//     sequential:  x = attn_after(x + r a);  m = mlp_out(MLP(mlp_in(x)));  x = mlp_after(x + r m)
//   logits = softcap(logit_scale (head project_out(final_norm(x)) + head_bias))
//
// Source: Hugging Face transformers 4.55, src/transformers/models/*; docs/models.md lists the
// families and how each was checked.
#ifndef ATTNPRUNE_CORE_MODEL_MODEL_OPTIONS_H_
#define ATTNPRUNE_CORE_MODEL_MODEL_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "core/kernels/activation.h"
#include "core/kernels/alibi.h"
#include "core/kernels/norm.h"
#include "core/kernels/rope.h"
#include "core/problem/attention_mask.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

enum class NormFamily {
  kRms,         // w o x / rms(x)
  kRmsPlusOne,  // (1 + w) o x / rms(x): gemma
  kLayer,       // LayerNorm, with a bias where its tensor is there
  kPlainLayer,  // LayerNorm without weight and bias: olmo
};

enum class QkvLayout {
  kSplit,    // a tensor each
  kConcat,   // rows of one: all q heads, all k heads, all v heads
  kGrouped,  // rows of one: for each kv head its query heads, its k, its v
};

enum class MlpKind {
  kGated,       // down(act(gate x) o up x)
  kFusedGated,  // the same with gate above up in one tensor
  kPlain,       // down(act(up x))
};

// Of queries and keys before the rotary embedding.
enum class QkNormTensors {
  kNone,
  kHead,    // one weight of head_dim for all heads, statistics per head
  kWhole,   // one weight of all heads, statistics over all heads
  kMatrix,  // heads x head_dim, statistics per head
  kEach,    // the rows of kMatrix, a tensor each: NAME.0, NAME.1, ...
};

// Tensors of one layer, below its prefix and without ".weight"; empty: there is none.
struct LayerNames {
  std::string q, k, v, qkv, o;
  std::string gate, up, gate_up, down;
  std::string attn_in, attn_out, attn_after, mlp_in, mlp_out, mlp_after;
  std::string q_norm, k_norm;
};

// Tensors outside the layers; without ".weight" too.
struct ModelNames {
  std::string prefix;  // what a checkpoint of the bare model leaves out: "model."
  std::string layers;  // "model.layers."; then N and "."
  std::string embedding, position, token_type, embedding_norm, project_in;
  std::string final_norm, project_out, head;
  std::string head_dense, head_norm, head_bias;  // of masked models
};

// A bias is used where its tensor is there; these say where it must be.
struct BiasRules {
  bool qkv = false, o = false, mlp = false, head = false;
};

struct LayerAttention {
  Index window = 0;  // tokens a query sees, itself included; 0: no window
  absl::optional<Rope> rope;
};

struct ModelOptions {
  std::string family;  // model_type
  ModelNames names;
  LayerNames layer_names;

  Index hidden_size = 0;  // d
  Index heads = 0;
  Index kv_heads = 0;  // divides heads; query head h reads kv head h / (heads / kv_heads)
  Index head_dim = 0;
  Index ffn = 0;
  Index vocab = 0;               // 0: config.json does not say
  Index embedding_width = 0;     // hidden_size but for opt-350m
  Index max_positions = 0;       // rows of learned positions; what scaled rope types refer to
  Index position_offset = 0;     // of learned positions
  absl::optional<Index> pad_id;  // an id whose position is special (roberta); refused as input
  std::vector<LayerAttention> layers;

  NormFamily norm = NormFamily::kRms;
  double norm_eps = 1e-6;
  QkvLayout qkv = QkvLayout::kSplit;
  MlpKind mlp = MlpKind::kGated;
  bool conv1d = false;  // linear maps are stored (in, out)
  bool parallel = false;
  BiasRules biases;
  Activation activation = Activation::kSilu;
  Activation head_activation = Activation::kSilu;  // of masked models

  bool causal = true;
  QkNormTensors qk_norm = QkNormTensors::kNone;
  Alibi alibi = Alibi::kNone;
  double attention_scale = 0;  // s of the logits
  double softcap = 0;          // of attention logits; 0: none
  double clip_qkv = 0;         // 0: none

  double embedding_scale = 1, residual_scale = 1, logit_scale = 1;
  double logit_softcap = 0;  // 0: none
  bool tied = false;         // the head is the embedding

  std::vector<std::string> notes;  // what was read other than as written, for the user

  Index layer_count() const { return static_cast<Index>(layers.size()); }
  bool masked_model() const { return !names.head_dense.empty(); }  // no next-token loss
  std::string LayerPrefix(Index layer) const;                      // "model.layers.3."
  AttentionMask Mask(Index layer) const;
};

// Reads config.json; absent and null keys take the transformers library's defaults. Rotary options
// come from rope_theta, rope_scaling (transformers 4) and rope_parameters (5). Keys that change
// nothing are ignored.
// INVALID_ARGUMENT, naming `file`, key, rule and value, for an unknown model_type (with the list of
// known ones), one that is known not to work (with the reason), quantised weights, and whatever
// would change the forward pass and is not read.
absl::StatusOr<ModelOptions> ParseModelOptions(absl::string_view json, absl::string_view file);

// The same of folder/config.json; NOT_FOUND with a hint where `folder` looks like a hub id.
absl::StatusOr<ModelOptions> LoadModelOptions(const std::string& folder);

// model_types that ParseModelOptions reads.
std::vector<std::string> KnownModelTypes();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_MODEL_OPTIONS_H_
