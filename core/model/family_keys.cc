#include "core/model/family_keys.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

using nlohmann::json;

absl::Status MustBe(const ConfigSection& config, const char* key, bool wanted) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool value, config.SwitchOr(key, wanted));
  if (value == wanted) return absl::OkStatus();
  return config.Refuse(key, absl::StrCat("be ", wanted ? "true" : "false"), json(value));
}

absl::Status ReadLogitSoftcap(const ConfigSection& config, double otherwise, ModelOptions& out) {
  if (config.HasNull("final_logit_softcapping")) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(out.logit_softcap,
                             config.PositiveOr("final_logit_softcapping", otherwise));
  return absl::OkStatus();
}

absl::Status ReadQueryScalar(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const double scalar, config.PositiveOr("query_pre_attn_scalar", 256));
  out.attention_scale = 1 / std::sqrt(scalar);
  return absl::OkStatus();
}

absl::Status CheckAbsolutePositions(const ConfigSection& config) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string kind,
                             config.TextOr("position_embedding_type", "absolute"));
  if (kind == "absolute") return MustBe(config, "is_decoder", false);
  return config.Refuse("position_embedding_type", "be 'absolute'", json(kind));
}

}  // namespace

absl::Status ReadQwen3(const ConfigSection&, ModelOptions& out) {
  out.qk_norm = QkNormTensors::kHead;
  return absl::OkStatus();
}

// no_rope_layers[i]: 1 where layer i has a rotary embedding, 0 where it has none.
absl::Status ReadSmolLm3(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index step, config.CountOr("no_rope_layer_interval", 4));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool sliding, config.SwitchOr("use_sliding_window", false));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index window, config.CountOr("sliding_window", 0));
  const json* given = config.Find("no_rope_layers");
  if (given != nullptr && (!given->is_array() || given->size() < out.layers.size())) {
    return config.Refuse("no_rope_layers", "be a list with an entry for every layer", *given);
  }
  for (size_t i = 0; i < out.layers.size(); ++i) {
    const json use = given != nullptr ? (*given)[i] : json((Index(i) + 1) % step != 0 ? 1 : 0);
    if (use != 0 && use != 1) return config.Refuse("no_rope_layers", "hold 0 and 1 only", use);
    if (use == 1) continue;
    out.layers[i].rope.reset();
    if (sliding && config.Find("layer_types") == nullptr) out.layers[i].window = window;
  }
  return absl::OkStatus();
}

absl::Status ReadGemma(const ConfigSection& config, ModelOptions& out) {
  out.embedding_scale = std::sqrt(static_cast<double>(out.hidden_size));
  const json* given = config.Find("hidden_act");
  if (given != nullptr && *given == "gelu" && config.Find("hidden_activation") == nullptr) {
    out.notes.emplace_back(
        "hidden_act 'gelu' without hidden_activation is read as gelu_pytorch_tanh, which Gemma was "
        "trained with");
  }
  return MustBe(config, "use_bidirectional_attention", false);
}

absl::Status ReadGemma2(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_RETURN_IF_ERROR(ReadGemma(config, out));
  ATTNPRUNE_RETURN_IF_ERROR(ReadQueryScalar(config, out));
  if (!config.HasNull("attn_logit_softcapping")) {
    ATTNPRUNE_ASSIGN_OR_RETURN(out.softcap, config.PositiveOr("attn_logit_softcapping", 50));
  }
  return ReadLogitSoftcap(config, 30, out);
}

// Sliding layers have a rotary embedding of their own.
absl::Status ReadGemma3(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_RETURN_IF_ERROR(ReadGemma(config, out));
  ATTNPRUNE_RETURN_IF_ERROR(ReadQueryScalar(config, out));
  out.qk_norm = QkNormTensors::kHead;
  return ReadLogitSoftcap(config, 0, out);
}

absl::Status ReadPhi(const ConfigSection& config, ModelOptions& out) {
  out.parallel = true;
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool norm, config.SwitchOr("qk_layernorm", false));
  if (norm) out.qk_norm = QkNormTensors::kHead;
  return absl::OkStatus();
}

absl::Status ReadGpt2(const ConfigSection& config, ModelOptions& out) {
  out.conv1d = true;
  ATTNPRUNE_RETURN_IF_ERROR(MustBe(config, "add_cross_attention", false));
  ATTNPRUNE_RETURN_IF_ERROR(MustBe(config, "scale_attn_by_inverse_layer_idx", false));
  ATTNPRUNE_RETURN_IF_ERROR(MustBe(config, "reorder_and_upcast_attn", false));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool scaled, config.SwitchOr("scale_attn_weights", true));
  if (!scaled) out.attention_scale = 1;
  return absl::OkStatus();
}

absl::Status ReadGptJ(const ConfigSection&, ModelOptions& out) {
  out.parallel = true;
  return absl::OkStatus();
}

absl::Status ReadOpt(const ConfigSection& config, ModelOptions& out) {
  out.position_offset = 2;
  ATTNPRUNE_RETURN_IF_ERROR(MustBe(config, "layer_norm_elementwise_affine", true));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool before, config.SwitchOr("do_layer_norm_before", true));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool none, config.SwitchOr("_remove_final_layer_norm", false));
  if (!before) {
    LayerNames& names = out.layer_names;
    std::swap(names.attn_in, names.attn_after);
    std::swap(names.mlp_in, names.mlp_after);
  }
  if (!before || none) out.names.final_norm = "";
  ATTNPRUNE_ASSIGN_OR_RETURN(out.embedding_width,
                             config.CountOr("word_embed_proj_dim", out.hidden_size));
  if (out.embedding_width == out.hidden_size) return absl::OkStatus();
  out.names.project_in = "model.decoder.project_in";
  out.names.project_out = "model.decoder.project_out";
  return absl::OkStatus();
}

absl::Status ReadGptNeoX(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(out.parallel, config.SwitchOr("use_parallel_residual", true));
  return absl::OkStatus();
}

absl::Status ReadOlmo(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(out.clip_qkv, config.PositiveOr("clip_qkv", 0));
  return absl::OkStatus();
}

absl::Status ReadOlmo2(const ConfigSection&, ModelOptions& out) {
  out.qk_norm = QkNormTensors::kWhole;
  return absl::OkStatus();
}

absl::Status ReadStableLm(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(out.parallel, config.SwitchOr("use_parallel_residual", false));
  if (out.parallel) out.layer_names.mlp_in = "";
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool norm, config.SwitchOr("qk_layernorm", false));
  if (norm) out.qk_norm = QkNormTensors::kEach;
  return absl::OkStatus();
}

absl::Status ReadGranite(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(out.attention_scale, config.PositiveOr("attention_multiplier", 1));
  ATTNPRUNE_ASSIGN_OR_RETURN(out.residual_scale, config.PositiveOr("residual_multiplier", 1));
  ATTNPRUNE_ASSIGN_OR_RETURN(out.embedding_scale, config.PositiveOr("embedding_multiplier", 1));
  ATTNPRUNE_ASSIGN_OR_RETURN(const double divisor, config.PositiveOr("logits_scaling", 1));
  out.logit_scale = 1 / divisor;
  return absl::OkStatus();
}

absl::Status ReadCohere(const ConfigSection& config, ModelOptions& out) {
  out.parallel = true;
  ATTNPRUNE_ASSIGN_OR_RETURN(out.logit_scale, config.PositiveOr("logit_scale", 0.0625));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool norm, config.SwitchOr("use_qk_norm", false));
  if (norm) out.qk_norm = QkNormTensors::kMatrix;
  const bool rope_theta =
      config.Find("rope_theta") != nullptr || config.Find("rope_parameters") != nullptr;
  if (rope_theta) return absl::OkStatus();
  return config.Refuse("rope_theta", "be given: versions of transformers differ in its default",
                       json());
}

// Full layers have no position at all.
absl::Status ReadCohere2(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_RETURN_IF_ERROR(ReadCohere(config, out));
  for (LayerAttention& layer : out.layers) {
    if (layer.window == 0) layer.rope.reset();
  }
  return absl::OkStatus();
}

absl::Status ReadFalcon(const ConfigSection& config, ModelOptions& out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool renewed,
                             config.SwitchOr("new_decoder_architecture", false));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool multi_query, config.SwitchOr("multi_query", true));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool parallel, config.SwitchOr("parallel_attn", true));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool alibi, config.SwitchOr("alibi", false));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index norms,
                             config.CountOr("num_ln_in_parallel_attn", renewed ? 2 : 1));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index kv_heads, config.CountOr("num_kv_heads", out.heads));
  out.kv_heads = renewed ? kv_heads : multi_query ? 1 : out.heads;
  out.parallel = renewed || parallel;
  if (out.parallel) {
    const bool two = renewed && norms == 2;
    out.layer_names.attn_in = two ? "ln_attn" : "input_layernorm";
    out.layer_names.mlp_in = two ? "ln_mlp" : "";
  }
  if (!alibi) return absl::OkStatus();
  out.alibi = Alibi::kFalcon;
  for (LayerAttention& layer : out.layers) layer.rope.reset();
  return absl::OkStatus();
}

absl::Status ReadBloom(const ConfigSection& config, ModelOptions& out) {
  out.alibi = Alibi::kBloom;
  out.activation = Activation::kGeluBloom;
  return MustBe(config, "apply_residual_connection_post_layernorm", false);
}

absl::Status ReadBert(const ConfigSection& config, ModelOptions& out) {
  out.causal = false;
  out.head_activation = out.activation;
  out.names.head_dense = "cls.predictions.transform.dense";
  out.names.head_norm = "cls.predictions.transform.LayerNorm";
  out.names.head_bias = "cls.predictions.bias";
  out.names.head = "cls.predictions.decoder";
  return CheckAbsolutePositions(config);
}

absl::Status ReadRoberta(const ConfigSection& config, ModelOptions& out) {
  out.causal = false;
  out.head_activation = Activation::kGelu;
  out.names.head_dense = "lm_head.dense";
  out.names.head_norm = "lm_head.layer_norm";
  out.names.head_bias = "lm_head.bias";
  out.names.head = "lm_head.decoder";
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index pad, config.CountOr("pad_token_id", 1, /*at_least=*/0));
  out.pad_id = pad;
  out.position_offset = pad + 1;
  out.max_positions = std::max<Index>(1, out.max_positions - out.position_offset);
  return CheckAbsolutePositions(config);
}

}  // namespace attnprune
