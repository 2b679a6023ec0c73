#include "core/problem/hf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/io/strict_json.h"

namespace attnprune {
namespace {

using nlohmann::json;

constexpr double kDefaultTheta = 10000.0;

enum class Biases { kNever, kAlways, kByKey };
enum class Window { kNone, kByKey, kRefused };

// Where the supported architectures differ.
struct Architecture {
  const char* model_type;
  Biases biases;
  Window window;
  Index default_kv_heads;  // when the key is absent; 0: as many as query heads
};
constexpr Architecture kArchitectures[] = {
    {"llama", Biases::kByKey, Window::kNone, 0},
    {"mistral", Biases::kNever, Window::kByKey, 8},
    {"qwen2", Biases::kAlways, Window::kRefused, 32},
};
constexpr int kMaxDepth = 32;           // of nested JSON; real configs have 3
constexpr Index kDefaultWindow = 4096;  // mistral's

// A value for a message; a list or an object may be long, so only its type.
std::string ToText(const json& value) {
  if (value.is_structured()) return absl::StrCat("an ", value.type_name());
  return value.is_string() ? Quoted(value.get_ref<const std::string&>()) : value.dump();
}

// One JSON object and its name in messages. A null value counts as absent throughout, except where
// HasNull tells.
class Section {
 public:
  Section(const json& object, std::string name) : object_(object), name_(std::move(name)) {}

  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  bool HasNull(const char* key) const {
    const auto it = object_.find(key);
    return it != object_.end() && it->is_null();
  }
  const json& object() const { return object_; }

  absl::Status Refuse(absl::string_view key, absl::string_view rule, const json& value) const {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, key, " must ", rule, ", got ", ToText(value)));
  }
  Section Below(const char* key) const {
    return Section(object_[key], absl::StrCat(name_, key, "."));
  }

  absl::StatusOr<Index> Count(const char* key) const {
    const json* value = Find(key);
    if (value == nullptr) return Refuse(key, "be given", json());
    return ToCount(key, *value);
  }
  absl::StatusOr<Index> CountOr(const char* key, Index otherwise) const {
    const json* value = Find(key);
    return value == nullptr ? otherwise : ToCount(key, *value);
  }
  absl::StatusOr<double> RealOr(const char* key, double otherwise) const {
    const json* value = Find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) return Refuse(key, "be a number", *value);
    return value->get<double>();
  }
  absl::StatusOr<bool> SwitchOr(const char* key, bool otherwise) const {
    const json* value = Find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) return Refuse(key, "be true or false", *value);
    return value->get<bool>();
  }

 private:
  absl::StatusOr<Index> ToCount(const char* key, const json& value) const {
    constexpr int64_t kMax = std::numeric_limits<int>::max();
    const bool fits = value.is_number_integer() && value <= kMax && value >= 1;
    if (!fits) return Refuse(key, absl::StrCat("be a whole number in [1, ", kMax, "]"), value);
    return value.get<Index>();
  }

  const json& object_;
  std::string name_;
};

absl::StatusOr<const Architecture*> FindArchitecture(const Section& config) {
  const json* type = config.Find("model_type");
  const json given = type == nullptr ? json() : *type;
  for (const Architecture& architecture : kArchitectures) {
    if (given == architecture.model_type) return &architecture;
  }
  const auto name = [](std::string* out, const Architecture& a) {
    absl::StrAppend(out, a.model_type);
  };
  return config.Refuse("model_type",
                       absl::StrCat("be one of ", absl::StrJoin(kArchitectures, ", ", name),
                                    ", whose attention is known to be the one pruned here"),
                       given);
}

absl::Status ReadHeads(const Section& config, const Architecture& architecture, HfAttention* out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(out->layers, config.Count("num_hidden_layers"));
  ATTNPRUNE_ASSIGN_OR_RETURN(out->hidden_size, config.Count("hidden_size"));
  ATTNPRUNE_ASSIGN_OR_RETURN(out->heads, config.Count("num_attention_heads"));
  const bool as_heads = architecture.default_kv_heads == 0 || config.HasNull("num_key_value_heads");
  ATTNPRUNE_ASSIGN_OR_RETURN(
      out->kv_heads,
      config.CountOr("num_key_value_heads", as_heads ? out->heads : architecture.default_kv_heads));
  if (out->heads % out->kv_heads != 0) {
    return config.Refuse("num_key_value_heads",
                         absl::StrCat("divide num_attention_heads (", out->heads, ")"),
                         json(out->kv_heads));
  }
  if (config.Find("head_dim") == nullptr && out->hidden_size % out->heads != 0) {
    return config.Refuse(
        "num_attention_heads",
        absl::StrCat("divide hidden_size (", out->hidden_size, ") where head_dim is not given"),
        json(out->heads));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(out->head_dim,
                             config.CountOr("head_dim", out->hidden_size / out->heads));
  if (out->head_dim % 2 == 0) return absl::OkStatus();
  return config.Refuse("head_dim", "be even for the rotary embedding", json(out->head_dim));
}

// One of the objects that hold rotary options: "rope_scaling", or "rope_parameters" since
// transformers 5.
absl::Status ReadRopeSection(const Section& config, const char* key, double* theta) {
  const json* value = config.Find(key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_object()) return config.Refuse(key, "be an object", *value);
  const Section rope = config.Below(key);
  for (const char* type_key : {"rope_type", "type"}) {
    const json* type = rope.Find(type_key);
    if (type != nullptr && *type != "default") {
      return rope.Refuse(type_key, "be 'default', the only rotary embedding supported", *type);
    }
  }
  constexpr std::array<absl::string_view, 4> kKnown = {"rope_type", "type", "rope_theta",
                                                       "partial_rotary_factor"};
  for (const auto& [name, option] : value->items()) {
    const bool known = std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end();
    if (!known && !option.is_null()) return rope.Refuse(name, "not be given", option);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(*theta, rope.RealOr("rope_theta", *theta));
  ATTNPRUNE_ASSIGN_OR_RETURN(const double partial, rope.RealOr("partial_rotary_factor", 1.0));
  if (partial == 1.0) return absl::OkStatus();
  return rope.Refuse("partial_rotary_factor", "be 1", json(partial));
}

absl::Status ReadRope(const Section& config, Rope* rope) {
  ATTNPRUNE_ASSIGN_OR_RETURN(rope->theta, config.RealOr("rope_theta", kDefaultTheta));
  ATTNPRUNE_ASSIGN_OR_RETURN(const double partial, config.RealOr("partial_rotary_factor", 1.0));
  if (partial != 1.0) return config.Refuse("partial_rotary_factor", "be 1", json(partial));
  ATTNPRUNE_RETURN_IF_ERROR(ReadRopeSection(config, "rope_scaling", &rope->theta));
  ATTNPRUNE_RETURN_IF_ERROR(ReadRopeSection(config, "rope_parameters", &rope->theta));
  if (std::isfinite(rope->theta) && rope->theta > 0) return absl::OkStatus();
  return config.Refuse("rope_theta", "be finite and above 0", json(rope->theta));
}

absl::Status ReadBiases(const Section& config, Biases rule, bool* biases) {
  *biases = rule == Biases::kAlways;
  if (rule != Biases::kByKey) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(*biases, config.SwitchOr("attention_bias", false));
  return absl::OkStatus();
}

absl::Status ReadWindow(const Section& config, Window rule, AttentionMask* mask) {
  if (rule == Window::kRefused) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool used, config.SwitchOr("use_sliding_window", false));
    if (used) {
      return config.Refuse("use_sliding_window", "be false for this model_type", json(true));
    }
  }
  if (rule != Window::kByKey || config.HasNull("sliding_window")) return absl::OkStatus();
  mask->kind = AttentionMask::Kind::kWindow;
  ATTNPRUNE_ASSIGN_OR_RETURN(mask->size, config.CountOr("sliding_window", kDefaultWindow));
  return absl::OkStatus();
}

// Newer configs name each layer's attention; it must be the one that the other keys gave.
absl::Status CheckLayerType(const Section& config, Index layer, const AttentionMask& mask) {
  const json* types = config.Find("layer_types");
  if (types == nullptr) return absl::OkStatus();
  const std::string expected =
      mask.kind == AttentionMask::Kind::kWindow ? "sliding_attention" : "full_attention";
  const size_t index = static_cast<size_t>(layer);
  if (!types->is_array() || types->size() <= index) {
    return config.Refuse("layer_types", "be a list with an entry for every layer", *types);
  }
  if ((*types)[index] == expected) return absl::OkStatus();
  return config.Refuse(absl::StrCat("layer_types[", layer, "]"),
                       absl::StrCat("be '", expected, "', as the other keys say"), (*types)[index]);
}

absl::Status CheckLayer(Index layer, Index layers, absl::string_view file) {
  if (layer >= 0 && layer < layers) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("layer must be in [0, ", layers, "), the layers of ", file, ", got ", layer));
}

}  // namespace

absl::StatusOr<HfAttention> ParseHfConfig(absl::string_view text, absl::string_view file,
                                          Index layer) {
  absl::StatusOr<json> root = ParseStrictJson(text, kMaxDepth);
  if (!root.ok()) return Annotate(root.status(), file);
  const Section config(*root, absl::StrCat(file, ": "));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(config));
  if (config.Find("quantization_config") != nullptr) {
    return config.Refuse("quantization_config", "not be given: weights must be floats",
                         *config.Find("quantization_config"));
  }
  HfAttention out;
  ATTNPRUNE_RETURN_IF_ERROR(ReadHeads(config, *architecture, &out));
  ATTNPRUNE_RETURN_IF_ERROR(CheckLayer(layer, out.layers, file));
  ATTNPRUNE_RETURN_IF_ERROR(ReadRope(config, &out.rope));
  ATTNPRUNE_RETURN_IF_ERROR(ReadBiases(config, architecture->biases, &out.biases));
  ATTNPRUNE_RETURN_IF_ERROR(ReadWindow(config, architecture->window, &out.attention));
  ATTNPRUNE_RETURN_IF_ERROR(CheckLayerType(config, layer, out.attention));
  return out;
}

}  // namespace attnprune
