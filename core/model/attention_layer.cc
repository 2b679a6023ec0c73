#include "core/model/attention_layer.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

// Copies between a map of its own, (out, in), and the tensor that holds it. Calls
// copy(place in the map, place in the tensor, bytes) for every run of bytes that lie side by side
// in both.
template <typename Copy>
void ForEachRun(const StoredMap& map, size_t size, Copy copy) {
  const auto in = static_cast<size_t>(map.in);
  size_t row = 0;
  for (const RowRun& run : map.rows) {
    for (Index i = 0; i < run.count; ++i, ++row) {
      const auto stored = static_cast<size_t>(run.first + i);
      if (!map.transposed) {
        copy(row * in * size, stored * in * size, in * size);
        continue;
      }
      const auto columns = static_cast<size_t>(map.weight->shape[1]);
      for (size_t j = 0; j < in; ++j) {
        copy((row * in + j) * size, (j * columns + stored) * size, size);
      }
    }
  }
}

AttentionTensor Own(std::string role, TensorInfo tensor, std::vector<char> bytes) {
  AttentionTensor out{std::move(role), std::move(tensor), nullptr};
  out.bytes = std::make_shared<const std::vector<char>>(std::move(bytes));
  out.tensor.bytes = *out.bytes;
  return out;
}

AttentionTensor WeightOf(const StoredMap& map, absl::string_view part, const char* role) {
  if (map.whole()) return {role, *map.weight, nullptr};
  TensorInfo tensor = *map.weight;
  tensor.name = absl::StrCat(tensor.name, "[", part, "]");
  tensor.shape = {map.out, map.in};
  std::vector<char> bytes(static_cast<size_t>(map.out * map.in) * SizeOf(tensor.dtype));
  ForEachRun(map, SizeOf(tensor.dtype), [&](size_t own, size_t stored, size_t count) {
    std::memcpy(bytes.data() + own, map.weight->bytes.data() + stored, count);
  });
  return Own(role, std::move(tensor), std::move(bytes));
}

AttentionTensor BiasOf(const StoredMap& map, absl::string_view part, const char* role) {
  if (map.rows.size() == 1 && map.rows[0].count == map.bias->shape[0]) {
    return {role, *map.bias, nullptr};
  }
  TensorInfo tensor = *map.bias;
  tensor.name = absl::StrCat(tensor.name, "[", part, "]");
  tensor.shape = {map.out};
  std::vector<char> bytes;
  const auto size = static_cast<Index>(SizeOf(tensor.dtype));
  for (const RowRun& run : map.rows) {
    const char* const first = map.bias->bytes.data() + run.first * size;
    bytes.insert(bytes.end(), first, first + run.count * size);
  }
  return Own(role, std::move(tensor), std::move(bytes));
}

absl::Status AddMap(const ModelWeights& model, Index layer, LinearMap which, AttentionLayer* out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> map, model.Map(layer, which));
  const bool query = which == LinearMap::kQuery;
  out->tensors.push_back(WeightOf(*map, ToString(which), query ? "w_q" : "w_k"));
  if (map->bias != nullptr) {
    out->tensors.push_back(BiasOf(*map, ToString(which), query ? "b_q" : "b_k"));
  }
  return absl::OkStatus();
}

// The stored weight, and bias, of a norm; several one below the other.
absl::Status AddNorm(const ModelWeights& model, Index layer, bool query, AttentionLayer* out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<const TensorInfo*> stored,
                             model.QkNormTensorsOf(layer, query));
  const std::string role = query ? "q_norm" : "k_norm";
  if (stored.size() == 1) {
    out->tensors.push_back({role, *stored[0], nullptr});
  } else if (!stored.empty()) {
    TensorInfo tensor = *stored[0];
    absl::string_view name = tensor.name;
    absl::ConsumeSuffix(&name, ".0.weight");
    tensor.name = absl::StrCat(name, "[all]");
    tensor.shape.insert(tensor.shape.begin(), static_cast<Index>(stored.size()));
    std::vector<char> bytes;
    for (const TensorInfo* one : stored) {
      if (one->dtype != tensor.dtype) {
        return Refuse(one->file, ": tensor ", Quoted(one->name), " must be of the first's dtype, ",
                      ToString(tensor.dtype), ", got ", ToString(one->dtype));
      }
      bytes.insert(bytes.end(), one->bytes.begin(), one->bytes.end());
    }
    out->tensors.push_back(Own(role, std::move(tensor), std::move(bytes)));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* bias, model.QkNormBiasOf(layer, query));
  if (bias != nullptr) out->tensors.push_back({role + "_bias", *bias, nullptr});
  return absl::OkStatus();
}

QkNorm ToQkNorm(const NormWeights& q, const NormWeights& k) {
  return {.kind = q.kind,
          .group = q.group == 0 ? QkNormGroup::kWhole : QkNormGroup::kHead,
          .eps = q.eps,
          .q_weight = q.weight,
          .k_weight = k.weight,
          .q_bias = q.bias,
          .k_bias = k.bias};
}

absl::Status FillIn(const ModelWeights& model, Index layer, ProjectionWeights* out) {
  const std::pair<LinearMap, Matrix*> weights[] = {{LinearMap::kQuery, &out->w_q},
                                                   {LinearMap::kKey, &out->w_k}};
  for (const auto& [which, matrix] : weights) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> map, model.Map(layer, which));
    *matrix = Matrix(map->out, map->in);
    ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*map, 0, *matrix));
    std::vector<float>& bias = which == LinearMap::kQuery ? out->b_q : out->b_k;
    ATTNPRUNE_ASSIGN_OR_RETURN(bias, ReadBias(*map));
  }
  return absl::OkStatus();
}

// Sizes, options and norms of the layer.
absl::StatusOr<AttentionLayer> FormOf(const ModelWeights& model, Index layer) {
  ATTNPRUNE_RETURN_IF_ERROR(model.CheckAttention(layer));
  const ModelOptions& options = model.options();
  AttentionLayer out;
  out.attention = options.Mask(layer);
  const double usual = 1 / std::sqrt(static_cast<double>(options.head_dim));
  if (options.attention_scale != usual) out.scale = options.attention_scale;
  out.norm_offset = options.norm == NormFamily::kRmsPlusOne ? 1 : 0;
  out.weights.heads = options.heads;
  out.weights.kv_heads = options.kv_heads;
  out.weights.rope = options.layers[static_cast<size_t>(layer)].rope;
  out.weights.softcap = options.softcap;
  out.weights.clip_qkv = options.clip_qkv;
  out.weights.alibi = options.alibi;
  ATTNPRUNE_ASSIGN_OR_RETURN(const OptionalNorm q_norm, model.QueryNorm(layer));
  ATTNPRUNE_ASSIGN_OR_RETURN(const OptionalNorm k_norm, model.KeyNorm(layer));
  if (q_norm.has_value() && k_norm.has_value()) out.weights.qk_norm = ToQkNorm(*q_norm, *k_norm);
  return out;
}

}  // namespace

absl::StatusOr<AttentionLayer> StoredAttentionLayer(const ModelWeights& model, Index layer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer out, FormOf(model, layer));
  ATTNPRUNE_RETURN_IF_ERROR(AddMap(model, layer, LinearMap::kQuery, &out));
  ATTNPRUNE_RETURN_IF_ERROR(AddMap(model, layer, LinearMap::kKey, &out));
  ATTNPRUNE_RETURN_IF_ERROR(AddNorm(model, layer, /*query=*/true, &out));
  ATTNPRUNE_RETURN_IF_ERROR(AddNorm(model, layer, /*query=*/false, &out));
  return out;
}

absl::StatusOr<AttentionLayer> LoadAttentionLayer(const ModelWeights& model, Index layer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer out, FormOf(model, layer));
  ATTNPRUNE_RETURN_IF_ERROR(FillIn(model, layer, &out.weights));
  return out;
}

absl::StatusOr<AttentionLayer> LoadAttentionLayer(const std::string& folder, Index layer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ModelOptions options, LoadModelOptions(folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelWeights model,
                             ModelWeights::Open(folder, std::move(options)));
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer out, StoredAttentionLayer(model, layer));
  ATTNPRUNE_RETURN_IF_ERROR(FillIn(model, layer, &out.weights));
  for (AttentionTensor& tensor : out.tensors) {  // they outlive the model
    if (tensor.bytes != nullptr) continue;
    tensor =
        Own(tensor.role, tensor.tensor, {tensor.tensor.bytes.begin(), tensor.tensor.bytes.end()});
  }
  return out;
}

absl::StatusOr<ProblemShape> AttentionShapeOf(const ModelWeights& model, Index layer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const AttentionLayer form, FormOf(model, layer));
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> q,
                             model.Map(layer, LinearMap::kQuery));
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> k, model.Map(layer, LinearMap::kKey));
  const auto size_of = [](const void* tensor, Index size) { return tensor == nullptr ? 0 : size; };
  ProjectionShape weights{.w_q = {q->out, q->in},
                          .w_k = {k->out, k->in},
                          .b_q = size_of(q->bias, q->out),
                          .b_k = size_of(k->bias, k->out),
                          .heads = form.weights.heads,
                          .kv_heads = form.weights.kv_heads,
                          .rope = form.weights.rope,
                          .softcap = form.weights.softcap,
                          .clip_qkv = form.weights.clip_qkv,
                          .alibi = form.weights.alibi};
  if (const absl::optional<QkNorm>& norm = form.weights.qk_norm; norm.has_value()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* const q_bias, model.QkNormBiasOf(layer, true));
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* const k_bias, model.QkNormBiasOf(layer, false));
    weights.qk_norm = QkNormShape{.kind = norm->kind,
                                  .group = norm->group,
                                  .eps = norm->eps,
                                  .q_weight = q->out,
                                  .k_weight = k->out,
                                  .q_bias = size_of(q_bias, q->out),
                                  .k_bias = size_of(k_bias, k->out)};
  }
  ProblemShape shape;
  shape.weights = weights;
  shape.attention = form.attention;
  shape.scale = form.scale;
  return shape;
}

absl::optional<FusedPart> ParseFusedPart(const ModelWeights& model, const std::string& name) {
  for (const LinearMap which : {LinearMap::kQuery, LinearMap::kKey}) {
    absl::string_view tensor = name;
    if (!absl::ConsumeSuffix(&tensor, absl::StrCat("[", ToString(which), "]"))) continue;
    for (Index layer = 0; layer < model.options().layer_count(); ++layer) {
      const absl::StatusOr<absl::optional<StoredMap>> map = model.Map(layer, which);
      if (!map.ok() || !map->has_value() || (*map)->weight->name != tensor) continue;
      return FusedPart{std::string(tensor), layer, which};
    }
  }
  return absl::nullopt;
}

absl::Status PutBack(const ModelWeights& model, const FusedPart& part, size_t size,
                     absl::Span<const char> part_bytes, absl::Span<char> whole) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> map, model.Map(part.layer, part.map));
  const size_t wanted = static_cast<size_t>(map->out * map->in) * size;
  const size_t all = map->weight->bytes.size() / SizeOf(map->weight->dtype) * size;
  if (part_bytes.size() != wanted || whole.size() != all) {
    return Refuse("tensor ", Quoted(part.tensor), ": a part of it must have ", wanted,
                  " bytes, got ", part_bytes.size());
  }
  ForEachRun(*map, size, [&](size_t own, size_t stored, size_t count) {
    std::memcpy(whole.data() + stored, part_bytes.data() + own, count);
  });
  return absl::OkStatus();
}

}  // namespace attnprune
