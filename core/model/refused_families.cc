#include "core/model/refused_families.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace attnprune {
namespace {

struct Refusal {
  const char* reason;
  std::vector<absl::string_view> model_types;  // '*' at an end: any name that begins so
};

const std::vector<Refusal>& Refusals() {
  static const auto& refusals = *new std::vector<Refusal>{
      {"a mixture of experts: its router is not implemented",
       {"mixtral",    "qwen2_moe",    "qwen3_moe",  "qwen3_5_moe",    "olmoe",    "flex_olmo",
        "phimoe",     "granitemoe*",  "dbrx",       "jetmoe",         "gpt_oss",  "llama4*",
        "glm4_moe",   "ernie4_5_moe", "exaone_moe", "hunyuan_v1_moe", "hy_v3",    "minimax",
        "minimax_m2", "dots1",        "afmoe",      "cohere2_moe",    "lfm2_moe", "solar_open"}},
      {"multi-head latent attention, which is not implemented",
       {"deepseek_v2", "deepseek_v3", "deepseek_v4", "mistral4", "longcat_flash", "youtu",
        "glm4_moe_lite", "glm_moe_dsa", "minicpm3"}},
      {"a state-space or linear-attention model, which has no softmax attention in every layer",
       {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "jamba", "zamba", "zamba2", "bamba",
        "nemotron_h", "recurrent_gemma", "rwkv", "xlstm", "qwen3_next", "qwen3_5", "olmo_hybrid",
        "lfm2"}},
      {"an encoder-decoder, whose cross-attention is not implemented",
       {"t5", "umt5", "bart", "mbart", "pegasus", "marian", "t5gemma", "switch_transformers",
        "whisper"}},
      {"a model with image or audio towers; save its text model by itself",
       {"gemma3", "gemma3n", "gemma4", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "mllama", "llava*",
        "idefics*", "phi4_multimodal"}},
  };
  return refusals;
}

}  // namespace

const char* ReasonToRefuse(absl::string_view model_type) {
  const auto matches = [model_type](absl::string_view pattern) {
    return absl::ConsumeSuffix(&pattern, "*") ? absl::StartsWith(model_type, pattern)
                                              : model_type == pattern;
  };
  for (const Refusal& refusal : Refusals()) {
    if (std::any_of(refusal.model_types.begin(), refusal.model_types.end(), matches)) {
      return refusal.reason;
    }
  }
  return nullptr;
}

}  // namespace attnprune
