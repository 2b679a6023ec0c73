#include "core/model/family_names.h"

#include "absl/strings/str_cat.h"

namespace attnprune {

LayerNames LlamaLayer() {
  return {.q = "self_attn.q_proj",
          .k = "self_attn.k_proj",
          .v = "self_attn.v_proj",
          .o = "self_attn.o_proj",
          .gate = "mlp.gate_proj",
          .up = "mlp.up_proj",
          .down = "mlp.down_proj",
          .attn_in = "input_layernorm",
          .mlp_in = "post_attention_layernorm",
          .q_norm = "self_attn.q_norm",
          .k_norm = "self_attn.k_norm"};
}

ModelNames LlamaModel() {
  return {.prefix = "model.",
          .layers = "model.layers.",
          .embedding = "model.embed_tokens",
          .final_norm = "model.norm",
          .head = "lm_head"};
}

LayerNames Gemma2Layer() {
  LayerNames names = LlamaLayer();
  names.attn_out = "post_attention_layernorm";
  names.mlp_in = "pre_feedforward_layernorm";
  names.mlp_out = "post_feedforward_layernorm";
  return names;
}

LayerNames Olmo2Layer() {
  LayerNames names = LlamaLayer();
  names.attn_in = names.mlp_in = "";
  names.attn_out = "post_attention_layernorm";
  names.mlp_out = "post_feedforward_layernorm";
  return names;
}

// One norm for both branches.
LayerNames CohereLayer() {
  LayerNames names = LlamaLayer();
  names.mlp_in = "";
  return names;
}

LayerNames Phi3Layer() {
  return {.qkv = "self_attn.qkv_proj",
          .o = "self_attn.o_proj",
          .gate_up = "mlp.gate_up_proj",
          .down = "mlp.down_proj",
          .attn_in = "input_layernorm",
          .mlp_in = "post_attention_layernorm"};
}

LayerNames PhiLayer() {
  return {.q = "self_attn.q_proj",
          .k = "self_attn.k_proj",
          .v = "self_attn.v_proj",
          .o = "self_attn.dense",
          .up = "mlp.fc1",
          .down = "mlp.fc2",
          .attn_in = "input_layernorm",
          .q_norm = "self_attn.q_layernorm",
          .k_norm = "self_attn.k_layernorm"};
}

LayerNames StableLmLayer() {
  LayerNames names = LlamaLayer();
  names.q_norm = "self_attn.q_layernorm.norms";
  names.k_norm = "self_attn.k_layernorm.norms";
  return names;
}

LayerNames Starcoder2Layer() {
  LayerNames names = LlamaLayer();
  names.gate = "";
  names.up = "mlp.c_fc";
  names.down = "mlp.c_proj";
  return names;
}

LayerNames Gpt2Layer() {
  return {.qkv = "attn.c_attn",
          .o = "attn.c_proj",
          .up = "mlp.c_fc",
          .down = "mlp.c_proj",
          .attn_in = "ln_1",
          .mlp_in = "ln_2"};
}

LayerNames GptJLayer() {
  return {.q = "attn.q_proj",
          .k = "attn.k_proj",
          .v = "attn.v_proj",
          .o = "attn.out_proj",
          .up = "mlp.fc_in",
          .down = "mlp.fc_out",
          .attn_in = "ln_1"};
}

LayerNames OptLayer() {
  return {.q = "self_attn.q_proj",
          .k = "self_attn.k_proj",
          .v = "self_attn.v_proj",
          .o = "self_attn.out_proj",
          .up = "fc1",
          .down = "fc2",
          .attn_in = "self_attn_layer_norm",
          .mlp_in = "final_layer_norm"};
}

// Of gpt_neox, falcon and bloom, whose attention module has another name in the first.
LayerNames GroupedLayer(const std::string& attention) {
  return {.qkv = absl::StrCat(attention, ".query_key_value"),
          .o = absl::StrCat(attention, ".dense"),
          .up = "mlp.dense_h_to_4h",
          .down = "mlp.dense_4h_to_h",
          .attn_in = "input_layernorm",
          .mlp_in = "post_attention_layernorm"};
}

LayerNames BertLayer() {
  return {.q = "attention.self.query",
          .k = "attention.self.key",
          .v = "attention.self.value",
          .o = "attention.output.dense",
          .up = "intermediate.dense",
          .down = "output.dense",
          .attn_after = "attention.output.LayerNorm",
          .mlp_after = "output.LayerNorm"};
}

ModelNames PhiModel() {
  ModelNames names = LlamaModel();
  names.final_norm = "model.final_layernorm";
  return names;
}

ModelNames Gpt2Model() {
  return {.prefix = "transformer.",
          .layers = "transformer.h.",
          .embedding = "transformer.wte",
          .position = "transformer.wpe",
          .final_norm = "transformer.ln_f",
          .head = "lm_head"};
}

ModelNames GptJModel() {
  ModelNames names = Gpt2Model();
  names.position = "";
  return names;
}

ModelNames FalconModel() {
  ModelNames names = GptJModel();
  names.embedding = "transformer.word_embeddings";
  return names;
}

ModelNames BloomModel() {
  ModelNames names = FalconModel();
  names.embedding_norm = "transformer.word_embeddings_layernorm";
  return names;
}

ModelNames OptModel() {
  return {.prefix = "model.",
          .layers = "model.decoder.layers.",
          .embedding = "model.decoder.embed_tokens",
          .position = "model.decoder.embed_positions",
          .final_norm = "model.decoder.final_layer_norm",
          .head = "lm_head"};
}

ModelNames GptNeoXModel() {
  return {.prefix = "gpt_neox.",
          .layers = "gpt_neox.layers.",
          .embedding = "gpt_neox.embed_in",
          .final_norm = "gpt_neox.final_layer_norm",
          .head = "embed_out"};
}

ModelNames BertModel(const std::string& name) {
  const std::string embeddings = absl::StrCat(name, ".embeddings.");
  return {.prefix = absl::StrCat(name, "."),
          .layers = absl::StrCat(name, ".encoder.layer."),
          .embedding = absl::StrCat(embeddings, "word_embeddings"),
          .position = absl::StrCat(embeddings, "position_embeddings"),
          .token_type = absl::StrCat(embeddings, "token_type_embeddings"),
          .embedding_norm = absl::StrCat(embeddings, "LayerNorm")};
}

}  // namespace attnprune
