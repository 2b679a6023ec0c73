// Where the model families differ: one row a model_type.
#ifndef ATTNPRUNE_CORE_MODEL_FAMILY_H_
#define ATTNPRUNE_CORE_MODEL_FAMILY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/model/config_section.h"
#include "core/model/model_options.h"

namespace attnprune {

enum class WindowRule {
  kNone,
  kSliding,     // sliding_window in every layer
  kSwitched,    // use_sliding_window, then from layer max_window_layers on
  kNoRope,      // use_sliding_window, then layers without a rotary embedding
  kEveryOther,  // sliding_window but in every sliding_window_pattern-th layer
};

// A bias by a key of config.json; without a key, as `otherwise` says.
struct BiasKey {
  const char* key = nullptr;
  bool otherwise = false;
};

struct Family {
  const char* model_type;
  LayerNames layer;
  ModelNames model;

  NormFamily norm = NormFamily::kRms;
  const char* eps_key = "rms_norm_eps";  // null: fixed
  double eps = 1e-6;

  const char* activation_key = "hidden_act";
  const char* activation = "silu";

  QkvLayout qkv = QkvLayout::kSplit;
  MlpKind mlp = MlpKind::kGated;
  BiasKey qkv_bias, o_bias, mlp_bias;
  bool head_bias = false;

  Index default_kv_heads = 0;  // where the key is absent; 0: as many as query heads
  bool reads_kv_heads = true;  // num_key_value_heads; else kv_heads = heads
  Index default_head_dim = 0;  // 0: hidden_size / heads
  bool reads_head_dim = true;
  bool tied = false;  // where tie_word_embeddings is absent

  bool rope = true;
  bool interleaved = false;
  double theta = 10000;
  const char* theta_key = "rope_theta";
  double partial = 1;
  const char* partial_key = "partial_rotary_factor";
  const char* local_theta_key = nullptr;  // of layers with a window, where they differ
  Index max_positions = 32768;            // where max_position_embeddings is absent

  WindowRule window = WindowRule::kNone;
  Index default_window = 0;   // where sliding_window is absent; 0: none
  Index default_pattern = 0;  // of kEveryOther

  // What this family alone reads, after all of the above; null: nothing.
  absl::Status (*own)(const ConfigSection& config, ModelOptions& out) = nullptr;
};

// All rows.
absl::Span<const Family> Families();
// INVALID_ARGUMENT with the reason, or with the list of what is known.
absl::StatusOr<const Family*> FindFamily(const ConfigSection& config);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_FAMILY_H_
