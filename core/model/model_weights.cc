#include "core/model/model_weights.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

// Which rows of a fused tensor are q's (part 0), k's (1) or v's (2).
std::vector<RowRun> RowsOfPart(const ModelOptions& options, int part) {
  const Index dim = options.head_dim, heads = options.heads, kv = options.kv_heads;
  if (options.qkv == QkvLayout::kConcat) {
    const Index first[] = {0, heads * dim, (heads + kv) * dim};
    return {{first[part], (part == 0 ? heads : kv) * dim}};
  }
  const Index group = heads / kv;
  std::vector<RowRun> rows;
  for (Index g = 0; g < kv; ++g) {
    const Index first = g * (group + 2) * dim;
    const Index before = part == 0 ? 0 : group + part - 1;
    rows.push_back({first + before * dim, (part == 0 ? group : 1) * dim});
  }
  return rows;
}

const std::string& SplitName(const LayerNames& names, LinearMap map) {
  switch (map) {
    case LinearMap::kQuery:
      return names.q;
    case LinearMap::kKey:
      return names.k;
    case LinearMap::kValue:
      return names.v;
    case LinearMap::kOutput:
      return names.o;
    case LinearMap::kGate:
      return names.gate;
    case LinearMap::kUp:
      return names.up;
    case LinearMap::kDown:
      return names.down;
  }
  return names.o;
}

struct MapShape {
  Index out, in;
};

MapShape ShapeOfMap(const ModelOptions& options, LinearMap map) {
  const Index d = options.hidden_size, q = options.heads * options.head_dim;
  switch (map) {
    case LinearMap::kQuery:
      return {q, d};
    case LinearMap::kKey:
    case LinearMap::kValue:
      return {options.kv_heads * options.head_dim, d};
    case LinearMap::kOutput:
      return {d, q};
    case LinearMap::kGate:
    case LinearMap::kUp:
      return {options.ffn, d};
    case LinearMap::kDown:
      return {d, options.ffn};
  }
  return {0, 0};
}

bool NeedsBias(const BiasRules& rules, LinearMap map) {
  if (map == LinearMap::kOutput) return rules.o;
  return map < LinearMap::kOutput ? rules.qkv : rules.mlp;
}

bool IsInFusedQkv(const ModelOptions& options, LinearMap map) {
  return map < LinearMap::kOutput && options.qkv != QkvLayout::kSplit;
}

bool IsInFusedGate(const ModelOptions& options, LinearMap map) {
  const bool gated = map == LinearMap::kGate || map == LinearMap::kUp;
  return gated && options.mlp == MlpKind::kFusedGated;
}

// A tensor that several maps share.
struct Share {
  std::string name;  // below the layer's prefix
  Index out = 0;     // rows of the tensor
};

Share ShareOf(const ModelOptions& options, LinearMap map) {
  const LayerNames& names = options.layer_names;
  if (IsInFusedQkv(options, map)) {
    return {names.qkv, (options.heads + 2 * options.kv_heads) * options.head_dim};
  }
  if (IsInFusedGate(options, map)) return {names.gate_up, 2 * options.ffn};
  return {SplitName(names, map), ShapeOfMap(options, map).out};
}

// The map's rows of the tensor, whose shape has been checked: there may be as many runs as heads.
std::vector<RowRun> RowsOf(const ModelOptions& options, LinearMap map) {
  if (IsInFusedQkv(options, map)) return RowsOfPart(options, static_cast<int>(map));
  const Index first = IsInFusedGate(options, map) && map == LinearMap::kUp ? options.ffn : 0;
  return {{first, ShapeOfMap(options, map).out}};
}

}  // namespace

absl::StatusOr<ModelWeights> ModelWeights::Open(const std::string& folder, ModelOptions options) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(folder));
  return Of(std::move(checkpoint), std::move(options));
}

ModelWeights ModelWeights::Of(Checkpoint checkpoint, ModelOptions options) {
  ModelWeights model(std::move(options), std::move(checkpoint));
  const TensorInfo* embedding =
      model.FindOrNull(absl::StrCat(model.options_.names.embedding, ".weight"));
  const bool table = embedding != nullptr && embedding->shape.size() == 2;
  if (model.options_.vocab == 0 && table) model.options_.vocab = embedding->shape[0];
  return model;
}

// With the prefix, without it, and with the names of old LayerNorms.
std::string ModelWeights::NameInFile(const std::string& name) const {
  absl::string_view bare = name;
  absl::ConsumePrefix(&bare, options_.names.prefix);
  for (const absl::string_view candidate : {absl::string_view(name), bare}) {
    if (checkpoint_.Contains(candidate)) return std::string(candidate);
    for (const auto& [now, once] : {std::pair{".weight", ".gamma"}, std::pair{".bias", ".beta"}}) {
      absl::string_view stem = candidate;
      if (!absl::ConsumeSuffix(&stem, now)) continue;
      std::string old = absl::StrCat(stem, once);
      if (checkpoint_.Contains(old)) return old;
    }
  }
  return name;
}

bool ModelWeights::Has(const std::string& name) const {
  return checkpoint_.Contains(NameInFile(name));
}

// Null also where the tensor's shard is absent.
const TensorInfo* ModelWeights::FindOrNull(const std::string& name) const {
  return checkpoint_.Find(NameInFile(name)).value_or(nullptr);
}

absl::StatusOr<const TensorInfo*> ModelWeights::Find(const std::string& name,
                                                     const std::vector<Index>& shape) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, checkpoint_.Find(NameInFile(name)));
  if (tensor->shape != shape) {
    return Refuse(tensor->file, ": tensor ", Quoted(tensor->name),
                  " must have the shape that config.json gives, ", ShapeString(shape), ", got ",
                  ShapeString(tensor->shape));
  }
  if (!IsConvertible(tensor->dtype)) {
    return Refuse(tensor->file, ": tensor ", Quoted(tensor->name),
                  " must be of dtype F64, F32, F16 or BF16, got ", ToString(tensor->dtype));
  }
  return tensor;
}

absl::StatusOr<const TensorInfo*> ModelWeights::FindBias(const std::string& name, Index size,
                                                         bool required) const {
  const std::string bias = absl::StrCat(name, ".bias");
  if (!required && !Has(bias)) return nullptr;
  return Find(bias, {size});
}

absl::StatusOr<absl::optional<StoredMap>> ModelWeights::Map(Index layer, LinearMap map) const {
  const Share share = ShareOf(options_, map);
  if (share.name.empty()) return absl::nullopt;
  const MapShape shape = ShapeOfMap(options_, map);
  StoredMap out;
  out.out = shape.out;
  out.in = shape.in;
  out.transposed = options_.conv1d;
  const std::string name = absl::StrCat(options_.LayerPrefix(layer), share.name);
  const std::vector<Index> stored = out.transposed ? std::vector<Index>{shape.in, share.out}
                                                   : std::vector<Index>{share.out, shape.in};
  ATTNPRUNE_ASSIGN_OR_RETURN(out.weight, Find(absl::StrCat(name, ".weight"), stored));
  ATTNPRUNE_ASSIGN_OR_RETURN(out.bias, FindBias(name, share.out, NeedsBias(options_.biases, map)));
  out.rows = RowsOf(options_, map);
  return out;
}

absl::StatusOr<absl::optional<StoredMap>> ModelWeights::Plain(const std::string& name, Index out,
                                                              Index in) const {
  if (name.empty()) return absl::nullopt;
  StoredMap map;
  map.out = out;
  map.in = in;
  map.rows = {{0, out}};
  ATTNPRUNE_ASSIGN_OR_RETURN(map.weight, Find(absl::StrCat(name, ".weight"), {out, in}));
  ATTNPRUNE_ASSIGN_OR_RETURN(map.bias, FindBias(name, out, /*required=*/false));
  return map;
}

absl::StatusOr<StoredMap> ModelWeights::Embedding() const {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const absl::optional<StoredMap> map,
      Plain(options_.names.embedding, options_.vocab, options_.embedding_width));
  return *map;
}

absl::StatusOr<StoredMap> ModelWeights::Head() const {
  StoredMap head;
  if (options_.tied) {
    ATTNPRUNE_ASSIGN_OR_RETURN(head, Embedding());
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const absl::optional<StoredMap> map,
        Plain(options_.names.head, options_.vocab, options_.embedding_width));
    head = *map;
  }
  const std::string& bias = options_.names.head_bias;
  if (!bias.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(head.bias, Find(bias, {options_.vocab}));
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(head.bias,
                               FindBias(options_.names.head, options_.vocab, options_.biases.head));
  }
  return head;
}

// A table's rows are what its tensor says.
absl::StatusOr<absl::optional<StoredMap>> ModelWeights::Table(const std::string& name) const {
  if (name.empty()) return absl::nullopt;
  const TensorInfo* tensor = FindOrNull(absl::StrCat(name, ".weight"));
  const Index rows = tensor == nullptr || tensor->shape.empty() ? 0 : tensor->shape[0];
  return Plain(name, rows, options_.hidden_size);
}

absl::StatusOr<absl::optional<StoredMap>> ModelWeights::Positions() const {
  return Table(options_.names.position);
}

absl::StatusOr<std::vector<float>> ModelWeights::TokenType() const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> table,
                             Table(options_.names.token_type));
  if (!table.has_value() || table->out == 0) return std::vector<float>();
  std::vector<float> row(static_cast<size_t>(table->in));
  ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*table, 0, MutableMatrixView(row.data(), 1, table->in)));
  return row;
}

absl::StatusOr<std::vector<float>> ModelWeights::Vector(const std::string& name, Index size) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(name, {size}));
  return ToVector(*tensor);
}

MatrixView LayerWeights::RowsOf(absl::Span<const LinearMap> together) const {
  const MatrixView first = of(together[0]).weight;
  Index rows = 0;
  for (const LinearMap map : together) rows += of(map).weight.rows();
  return {first.data(), rows, first.cols()};
}

absl::Status ModelWeights::LoadLayer(Index layer, ThreadPool& pool, LayerWeights& out) const {
  std::array<absl::optional<StoredMap>, kLinearMaps> stored;
  Index floats = 0;
  for (size_t i = 0; i < kLinearMaps; ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(stored[i], Map(layer, static_cast<LinearMap>(i)));
    if (stored[i].has_value()) floats += stored[i]->out * stored[i]->in;
  }
  if (out.storage.size() < floats) out.storage = Matrix(1, floats);
  float* room = out.storage.data();
  for (size_t i = 0; i < kLinearMaps; ++i) {
    LayerWeights::Map& map = out.maps[i];
    map = {};
    if (!stored[i].has_value()) continue;
    const StoredMap& from = *stored[i];
    const MutableMatrixView to(room, from.out, from.in);
    room += to.size();
    constexpr Index kRows = 64;  // a shard converts
    const Index shards = (from.out + kRows - 1) / kRows;
    std::vector<absl::Status> read(static_cast<size_t>(shards));
    pool.ParallelFor(shards, [&](Index shard) {
      const Index first = shard * kRows;
      read[static_cast<size_t>(shard)] =
          ReadRows(from, first, to.Rows(first, std::min(kRows, from.out - first)));
    });
    for (const absl::Status& status : read) ATTNPRUNE_RETURN_IF_ERROR(status);
    ReleasePages(from.weight->bytes);
    map.weight = to;
    ATTNPRUNE_ASSIGN_OR_RETURN(map.bias, ReadBias(from));
  }
  const LayerNames& names = options_.layer_names;
  const std::string prefix = options_.LayerPrefix(layer);
  for (const auto& [norm, name] :
       {std::pair{&out.attn_in, &names.attn_in}, std::pair{&out.attn_out, &names.attn_out},
        std::pair{&out.attn_after, &names.attn_after}, std::pair{&out.mlp_in, &names.mlp_in},
        std::pair{&out.mlp_out, &names.mlp_out}, std::pair{&out.mlp_after, &names.mlp_after}}) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*norm, Norm(name->empty() ? "" : absl::StrCat(prefix, *name)));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(out.q_norm, QueryNorm(layer));
  ATTNPRUNE_ASSIGN_OR_RETURN(out.k_norm, KeyNorm(layer));
  return absl::OkStatus();
}

}  // namespace attnprune
