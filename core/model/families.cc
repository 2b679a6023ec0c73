// The table of model families. Source of every row: the config and modelling files of its
// model_type in huggingface/transformers 4.55.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/model/family.h"
#include "core/model/family_keys.h"
#include "core/model/family_names.h"
#include "core/model/refused_families.h"

namespace attnprune {
namespace {

using nlohmann::json;

constexpr BiasKey kAttentionBias = {"attention_bias", false};
constexpr BiasKey kAlways = {nullptr, true};

std::vector<Family> MakeFamilies() {
  const Family llama = {.model_type = "llama",
                        .layer = LlamaLayer(),
                        .model = LlamaModel(),
                        .mlp = MlpKind::kGated,
                        .qkv_bias = kAttentionBias,
                        .o_bias = kAttentionBias,
                        .mlp_bias = {"mlp_bias", false},
                        .max_positions = 2048};
  // A LayerNorm model with a plain MLP, biases everywhere and as many kv heads as heads.
  const Family gpt = {.model_type = "gpt2",
                      .layer = Gpt2Layer(),
                      .model = Gpt2Model(),
                      .norm = NormFamily::kLayer,
                      .eps_key = "layer_norm_epsilon",
                      .eps = 1e-5,
                      .activation_key = "activation_function",
                      .activation = "gelu_new",
                      .mlp = MlpKind::kPlain,
                      .qkv_bias = kAlways,
                      .o_bias = kAlways,
                      .mlp_bias = kAlways,
                      .reads_kv_heads = false,
                      .reads_head_dim = false,
                      .max_positions = 2048};
  const auto with = [](Family family, const char* type, auto change) {
    family.model_type = type;
    change(family);
    return family;
  };
  const auto qwen2 = with(llama, "qwen2", [](Family& f) {
    f.qkv_bias = kAlways;
    f.o_bias = f.mlp_bias = {};
    f.default_kv_heads = 32;
    f.window = WindowRule::kSwitched;
    f.default_window = 4096;
    f.max_positions = 32768;
  });
  const auto gemma = with(llama, "gemma", [](Family& f) {
    f.norm = NormFamily::kRmsPlusOne;
    f.activation_key = "hidden_activation";
    f.activation = "gelu_pytorch_tanh";
    f.mlp_bias = {};
    f.default_kv_heads = 16;
    f.default_head_dim = 256;
    f.tied = true;
    f.max_positions = 32768;
    f.own = ReadGemma;
  });
  const auto gemma2 = with(gemma, "gemma2", [](Family& f) {
    f.layer = Gemma2Layer();
    f.default_kv_heads = 4;
    f.window = WindowRule::kEveryOther;
    f.default_window = 4096;
    f.default_pattern = 2;
    f.own = ReadGemma2;
  });
  const auto cohere = with(llama, "cohere", [](Family& f) {
    f.layer = CohereLayer();
    f.norm = NormFamily::kLayer;
    f.eps_key = "layer_norm_eps";
    f.eps = 1e-5;
    f.mlp_bias = {};
    f.tied = true;
    f.interleaved = true;
    f.max_positions = 32768;
    f.own = ReadCohere;
  });
  const auto neox = with(gpt, "gpt_neox", [](Family& f) {
    f.layer = GroupedLayer("attention");
    f.model = GptNeoXModel();
    f.eps_key = "layer_norm_eps";
    f.activation_key = "hidden_act";
    f.activation = "gelu";
    f.qkv = QkvLayout::kGrouped;
    f.qkv_bias = f.o_bias = {"attention_bias", true};
    f.theta_key = "rotary_emb_base";
    f.partial = 0.25;
    f.partial_key = "rotary_pct";
    f.own = ReadGptNeoX;
  });
  const auto bert = with(gpt, "bert", [](Family& f) {
    f.layer = BertLayer();
    f.model = BertModel("bert");
    f.eps_key = "layer_norm_eps";
    f.eps = 1e-12;
    f.activation_key = "hidden_act";
    f.activation = "gelu";
    f.tied = true;
    f.rope = false;
    f.max_positions = 512;
    f.own = ReadBert;
  });
  return {
      llama,
      with(llama, "mistral",
           [](Family& f) {
             f.qkv_bias = f.o_bias = f.mlp_bias = {};
             f.default_kv_heads = 8;
             f.window = WindowRule::kSliding;
             f.default_window = 4096;
             f.max_positions = 131072;
           }),
      qwen2,
      with(qwen2, "qwen3",
           [](Family& f) {
             f.qkv_bias = f.o_bias = kAttentionBias;
             f.default_head_dim = 128;
             f.own = ReadQwen3;
           }),
      with(llama, "smollm3",
           [](Family& f) {
             f.default_kv_heads = 4;
             f.theta = 2000000;
             f.max_positions = 32768;
             f.window = WindowRule::kNoRope;
             f.default_window = 0;
             f.own = ReadSmolLm3;
           }),
      gemma,
      gemma2,
      with(gemma2, "gemma3_text",
           [](Family& f) {
             f.theta = 1000000;
             f.local_theta_key = "rope_local_base_freq";
             f.default_pattern = 6;
             f.max_positions = 131072;
             f.own = ReadGemma3;
           }),
      with(llama, "phi3",
           [](Family& f) {
             f.layer = Phi3Layer();
             f.eps = 1e-5;
             f.qkv = QkvLayout::kConcat;
             f.mlp = MlpKind::kFusedGated;
             f.qkv_bias = f.o_bias = f.mlp_bias = {};
             f.window = WindowRule::kSliding;
             f.max_positions = 4096;
           }),
      with(llama, "phi",
           [](Family& f) {
             f.layer = PhiLayer();
             f.model = PhiModel();
             f.norm = NormFamily::kLayer;
             f.eps_key = "layer_norm_eps";
             f.eps = 1e-5;
             f.activation = "gelu_new";
             f.mlp = MlpKind::kPlain;
             f.qkv_bias = f.o_bias = f.mlp_bias = kAlways;
             f.head_bias = true;
             f.partial = 0.5;
             f.own = ReadPhi;
           }),
      with(llama, "starcoder2",
           [](Family& f) {
             f.layer = Starcoder2Layer();
             f.norm = NormFamily::kLayer;
             f.eps_key = "norm_epsilon";
             f.eps = 1e-5;
             f.activation = "gelu_pytorch_tanh";
             f.mlp = MlpKind::kPlain;
             f.qkv_bias = f.o_bias = f.mlp_bias = {"use_bias", true};
             f.default_kv_heads = 2;
             f.tied = true;
             f.window = WindowRule::kSliding;
             f.max_positions = 4096;
           }),
      with(llama, "stablelm",
           [](Family& f) {
             f.layer = StableLmLayer();
             f.norm = NormFamily::kLayer;
             f.eps_key = "layer_norm_eps";
             f.eps = 1e-5;
             f.qkv_bias = {"use_qkv_bias", false};
             f.o_bias = f.mlp_bias = {};
             f.default_kv_heads = 32;
             f.reads_head_dim = false;
             f.partial = 0.25;
             f.max_positions = 4096;
             f.own = ReadStableLm;
           }),
      with(llama, "olmo",
           [](Family& f) {
             f.norm = NormFamily::kPlainLayer;
             f.eps_key = nullptr;
             f.eps = 1e-5;
             f.mlp_bias = {};
             f.own = ReadOlmo;
           }),
      with(llama, "olmo2",
           [](Family& f) {
             f.layer = Olmo2Layer();
             f.eps = 1e-5;
             f.mlp_bias = {};
             f.own = ReadOlmo2;
           }),
      with(llama, "granite", [](Family& f) { f.own = ReadGranite; }),
      cohere,
      with(cohere, "cohere2",
           [](Family& f) {
             f.window = WindowRule::kEveryOther;
             f.default_window = 4096;
             f.default_pattern = 4;
             f.own = ReadCohere2;
           }),
      with(gpt, "gpt2",
           [](Family& f) {
             f.qkv = QkvLayout::kConcat;
             f.tied = true;
             f.rope = false;
             f.max_positions = 1024;
             f.own = ReadGpt2;
           }),
      with(gpt, "gptj",
           [](Family& f) {
             f.layer = GptJLayer();
             f.model = GptJModel();
             f.qkv_bias = f.o_bias = {};
             f.head_bias = true;
             f.interleaved = true;
             f.theta_key = nullptr;
             f.partial_key = nullptr;
             f.own = ReadGptJ;
           }),
      with(gpt, "opt",
           [](Family& f) {
             f.layer = OptLayer();
             f.model = OptModel();
             f.eps_key = nullptr;
             f.activation = "relu";
             f.qkv_bias = f.o_bias = f.mlp_bias = {"enable_bias", true};
             f.tied = true;
             f.rope = false;
             f.own = ReadOpt;
           }),
      neox,
      with(gpt, "falcon",
           [](Family& f) {
             f.layer = GroupedLayer("self_attention");
             f.model = FalconModel();
             f.activation_key = "activation";
             f.activation = "gelu";
             f.qkv = QkvLayout::kGrouped;
             f.qkv_bias = f.o_bias = f.mlp_bias = {"bias", false};
             f.tied = true;
             f.own = ReadFalcon;
           }),
      with(gpt, "bloom",
           [](Family& f) {
             f.layer = GroupedLayer("self_attention");
             f.model = BloomModel();
             f.activation_key = nullptr;
             f.qkv = QkvLayout::kGrouped;
             f.tied = true;
             f.rope = false;
             f.own = ReadBloom;
           }),
      bert,
      with(bert, "roberta",
           [](Family& f) {
             f.model = BertModel("roberta");
             f.own = ReadRoberta;
           }),
  };
}

}  // namespace

absl::Span<const Family> Families() {
  static const auto& families = *new std::vector<Family>(MakeFamilies());
  return families;
}

std::vector<std::string> KnownModelTypes() {
  std::vector<std::string> names;
  for (const Family& family : Families()) names.emplace_back(family.model_type);
  return names;
}

absl::StatusOr<const Family*> FindFamily(const ConfigSection& config) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string type, config.TextOr("model_type", ""));
  for (const Family& family : Families()) {
    if (type == family.model_type) return &family;
  }
  const std::string known = absl::StrCat("be one of ", absl::StrJoin(KnownModelTypes(), ", "));
  if (const char* reason = ReasonToRefuse(type)) {
    return config.Refuse("model_type", absl::StrCat(known, " ('", type, "' is ", reason, ")"),
                         json(type));
  }
  return config.Refuse("model_type", known,
                       config.Find("model_type") == nullptr ? json() : json(type));
}

}  // namespace attnprune
