#include "core/model/model_options.h"

#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/io/strict_json.h"
#include "core/model/config_section.h"
#include "core/model/family.h"
#include "core/model/rope_config.h"

namespace attnprune {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = size_t{1} << 20;  // real configs have a few KiB
constexpr int kMaxConfigDepth = 32;                  // of nested JSON; real configs have 3

// Reads the keys that rows of the table share.
class OptionsReader {
 public:
  OptionsReader(const ConfigSection& config, const Family& family)
      : config_(config), family_(family) {
    out_.family = family.model_type;
    out_.names = family.model;
    out_.layer_names = family.layer;
    out_.norm = family.norm;
    out_.norm_eps = family.eps;
    out_.qkv = family.qkv;
    out_.mlp = family.mlp;
    out_.biases.head = family.head_bias;
  }

  absl::StatusOr<ModelOptions> Read() {
    ATTNPRUNE_RETURN_IF_ERROR(ReadSizes());
    ATTNPRUNE_RETURN_IF_ERROR(ReadHeads());
    ATTNPRUNE_RETURN_IF_ERROR(ReadParts());
    ATTNPRUNE_RETURN_IF_ERROR(ReadWindows());
    ATTNPRUNE_RETURN_IF_ERROR(ReadRope());
    if (family_.own != nullptr) ATTNPRUNE_RETURN_IF_ERROR(family_.own(config_, out_));
    ATTNPRUNE_RETURN_IF_ERROR(CheckKvHeads());
    ATTNPRUNE_RETURN_IF_ERROR(ReadCausal());
    return std::move(out_);
  }

 private:
  absl::Status ReadSizes() {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Index layers, config_.Count({"num_hidden_layers", "n_layer"}));
    constexpr Index kMostLayers = 100'000;
    if (layers > kMostLayers) {
      return config_.Refuse("num_hidden_layers", absl::StrCat("be at most ", kMostLayers),
                            json(layers));
    }
    out_.layers.resize(static_cast<size_t>(layers));
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.hidden_size,
                               config_.Count({"hidden_size", "n_embd", "n_embed"}));
    out_.embedding_width = out_.hidden_size;
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.vocab, config_.CountOr("vocab_size", 0));
    for (const char* key : {"intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"}) {
      ATTNPRUNE_ASSIGN_OR_RETURN(out_.ffn, config_.CountOr(key, out_.ffn));
      if (out_.ffn > 0) break;
    }
    if (out_.ffn == 0) out_.ffn = 4 * out_.hidden_size;
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.max_positions,
                               config_.CountOr("n_positions", family_.max_positions));
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.max_positions,
                               config_.CountOr("max_position_embeddings", out_.max_positions));
    return absl::OkStatus();
  }

  absl::Status ReadHeads() {
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.heads, config_.Count({"num_attention_heads", "n_head"}));
    out_.kv_heads = out_.heads;
    if (family_.reads_kv_heads) {
      const bool as_heads = family_.default_kv_heads == 0 || config_.HasNull("num_key_value_heads");
      ATTNPRUNE_ASSIGN_OR_RETURN(
          out_.kv_heads,
          config_.CountOr("num_key_value_heads", as_heads ? out_.heads : family_.default_kv_heads));
    }
    const Index given = family_.default_head_dim;
    const bool has_key = family_.reads_head_dim && config_.Find("head_dim") != nullptr;
    if (!has_key && given == 0 && out_.hidden_size % out_.heads != 0) {
      return config_.Refuse(
          "num_attention_heads",
          absl::StrCat("divide hidden_size (", out_.hidden_size, ") where head_dim is not given"),
          json(out_.heads));
    }
    out_.head_dim = given > 0 ? given : out_.hidden_size / out_.heads;
    if (has_key) {
      ATTNPRUNE_ASSIGN_OR_RETURN(out_.head_dim, config_.CountOr("head_dim", out_.head_dim));
    }
    out_.attention_scale = 1 / std::sqrt(static_cast<double>(out_.head_dim));
    return absl::OkStatus();
  }

  absl::Status CheckKvHeads() const {
    if (out_.heads % out_.kv_heads == 0) return absl::OkStatus();
    return config_.Refuse("num_key_value_heads",
                          absl::StrCat("divide num_attention_heads (", out_.heads, ")"),
                          json(out_.kv_heads));
  }

  absl::StatusOr<bool> HasBias(const BiasKey& rule) const {
    return rule.key == nullptr ? rule.otherwise : config_.SwitchOr(rule.key, rule.otherwise);
  }

  absl::Status ReadParts() {
    if (family_.eps_key != nullptr) {
      ATTNPRUNE_ASSIGN_OR_RETURN(out_.norm_eps, config_.RealOr(family_.eps_key, family_.eps));
      if (!(out_.norm_eps >= 0)) {
        return config_.Refuse(family_.eps_key, "be at least 0", json(out_.norm_eps));
      }
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.biases.qkv, HasBias(family_.qkv_bias));
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.biases.o, HasBias(family_.o_bias));
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.biases.mlp, HasBias(family_.mlp_bias));
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.tied, config_.SwitchOr("tie_word_embeddings", family_.tied));
    const char* key = family_.activation_key;
    std::string name = family_.activation;
    if (key != nullptr) {
      ATTNPRUNE_ASSIGN_OR_RETURN(name, config_.TextOr(key, family_.activation));
    }
    const auto activation = ParseActivation(name);
    if (!activation.has_value()) {
      return config_.Refuse(key, absl::StrCat("be one of ", ActivationNames()), json(name));
    }
    out_.activation = *activation;
    return absl::OkStatus();
  }

  // Tokens of the window of layers that have one; 0: none has.
  absl::StatusOr<Index> ReadWindow() const {
    if (family_.window == WindowRule::kNone || config_.HasNull("sliding_window")) return 0;
    if (family_.window == WindowRule::kSwitched || family_.window == WindowRule::kNoRope) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const bool used, config_.SwitchOr("use_sliding_window", false));
      if (!used) return 0;
    }
    return config_.CountOr("sliding_window", family_.default_window);
  }

  // Whether the family's own rule gives layer i a window.
  absl::StatusOr<bool> Slides(Index i) const {
    if (family_.window == WindowRule::kNoRope) return false;  // its own reader says so later
    if (family_.window == WindowRule::kSwitched) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const Index first, config_.CountOr("max_window_layers", 28, 0));
      return i >= first;
    }
    if (family_.window == WindowRule::kEveryOther) {
      ATTNPRUNE_ASSIGN_OR_RETURN(
          const Index pattern, config_.CountOr("sliding_window_pattern", family_.default_pattern));
      return (i + 1) % pattern != 0;
    }
    return true;
  }

  // layer_types, where it is there, rules over the family's own pattern.
  absl::Status ReadWindows() {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Index window, ReadWindow());
    const json* types = config_.Find("layer_types");
    if (types != nullptr && (!types->is_array() || types->size() < out_.layers.size())) {
      return config_.Refuse("layer_types", "be a list with an entry for every layer", *types);
    }
    for (Index i = 0; i < out_.layer_count(); ++i) {
      Index& of_layer = out_.layers[static_cast<size_t>(i)].window;
      if (types == nullptr) {
        ATTNPRUNE_ASSIGN_OR_RETURN(const bool slides, Slides(i));
        if (slides) of_layer = window;
        continue;
      }
      const json& type = (*types)[static_cast<size_t>(i)];
      const std::string name = absl::StrCat("layer_types[", i, "]");
      if (type == "sliding_attention") {
        if (window == 0 && family_.window == WindowRule::kNone) {
          return config_.Refuse(name, "be 'full_attention', as the other keys say", type);
        }
        of_layer = window;
      } else if (type != "full_attention") {
        return config_.Refuse(name, "be 'full_attention' or 'sliding_attention'", type);
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadRope() {
    if (!family_.rope) return absl::OkStatus();
    ATTNPRUNE_ASSIGN_OR_RETURN(RopeConfig rope,
                               ReadRopeConfig(config_, family_, out_.head_dim, out_.max_positions));
    for (LayerAttention& layer : out_.layers) {
      layer.rope = layer.window > 0 && rope.sliding.has_value() ? *rope.sliding : rope.everywhere;
    }
    for (std::string& note : rope.notes) out_.notes.push_back(std::move(note));
    return absl::OkStatus();
  }

  absl::Status ReadCausal() {
    ATTNPRUNE_ASSIGN_OR_RETURN(out_.causal, config_.SwitchOr("is_causal", out_.causal));
    if (out_.causal) return absl::OkStatus();
    for (const LayerAttention& layer : out_.layers) {
      if (layer.window == 0) continue;
      return config_.Refuse("is_causal", "be true where layers have a sliding window", json(false));
    }
    return absl::OkStatus();
  }

  const ConfigSection& config_;
  const Family& family_;
  ModelOptions out_;
};

// {} and options that only tell which weights are zero leave the weights floats.
absl::Status CheckNotQuantized(const ConfigSection& config) {
  const json* value = config.Find("quantization_config");
  if (value == nullptr) return absl::OkStatus();
  if (value->is_object()) {
    const json method = value->value("quant_method", json());
    const json format = value->value("format", json());
    const bool sparse_only = method == "compressed-tensors" &&
                             value->value("config_groups", json::object()).empty() &&
                             (format.is_null() || format == "dense");
    if (value->empty() || sparse_only) return absl::OkStatus();
  }
  return config.Refuse("quantization_config", "not be given: weights must be floats", *value);
}

// A hub id is "owner/name"; its folder is in the hub's cache once it is downloaded.
absl::Status NoSuchFolder(const std::string& folder) {
  const std::vector<std::string> parts = absl::StrSplit(folder, '/');
  const bool like_hub_id = parts.size() == 2 && !parts[0].empty() && !parts[1].empty() &&
                           parts[0][0] != '.' && parts[0][0] != '~';
  return absl::NotFoundError(absl::StrCat(
      folder, ": no such folder",
      like_hub_id ? absl::StrCat("; it must be one on this machine: for a model of the hub, "
                                 "`hf download ",
                                 folder, " --local-dir DIR`, then name DIR")
                  : ""));
}

}  // namespace

std::string ModelOptions::LayerPrefix(Index layer) const {
  return absl::StrCat(names.layers, layer, ".");
}

AttentionMask ModelOptions::Mask(Index layer) const {
  if (!causal) return {.kind = AttentionMask::Kind::kFull};
  const Index window = layers[static_cast<size_t>(layer)].window;
  if (window == 0) return {};
  return {.kind = AttentionMask::Kind::kWindow, .size = window};
}

absl::StatusOr<ModelOptions> ParseModelOptions(absl::string_view text, absl::string_view file) {
  if (text.size() > kMaxConfigBytes) {
    return Refuse(file, ": must have at most ", kMaxConfigBytes, " bytes, got ", text.size());
  }
  absl::StatusOr<json> root = ParseStrictJson(text, kMaxConfigDepth);
  if (!root.ok()) return Annotate(root.status(), file);
  const ConfigSection config(*root, absl::StrCat(file, ": "));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Family* family, FindFamily(config));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNotQuantized(config));
  return OptionsReader(config, *family).Read();
}

absl::StatusOr<ModelOptions> LoadModelOptions(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return NoSuchFolder(folder);
  const std::string path = absl::StrCat(folder, "/config.json");
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<ModelOptions> options =
      ParseModelOptions(absl::string_view(file.bytes().data(), file.bytes().size()), path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  return options;
}

}  // namespace attnprune
