#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/model/model_weights.h"

namespace attnprune {
namespace {

// Buffers that transformers wrote into some checkpoints: no part of the model.
bool IsBuffer(absl::string_view suffix) {
  constexpr absl::string_view kBuffers[] = {"rotary_emb.inv_freq", "attention.bias",
                                            "attention.masked_bias", "attn.bias",
                                            "attn.masked_bias"};
  for (const absl::string_view buffer : kBuffers) {
    if (suffix == buffer || absl::EndsWith(suffix, absl::StrCat(".", buffer))) return true;
  }
  return false;
}

// Names below a layer's prefix, without ".weight" and ".bias", that the forward pass reads.
std::set<std::string> NamesInLayer(const ModelOptions& options) {
  const LayerNames& n = options.layer_names;
  std::set<std::string> names = {n.q,        n.k,          n.v,       n.qkv,     n.o,
                                 n.gate,     n.up,         n.gate_up, n.down,    n.attn_in,
                                 n.attn_out, n.attn_after, n.mlp_in,  n.mlp_out, n.mlp_after};
  if (options.qk_norm == QkNormTensors::kEach) {
    for (Index h = 0; h < options.heads; ++h) names.insert(absl::StrCat(n.q_norm, ".", h));
    for (Index h = 0; h < options.kv_heads; ++h) names.insert(absl::StrCat(n.k_norm, ".", h));
  } else if (options.qk_norm != QkNormTensors::kNone) {
    names.insert({n.q_norm, n.k_norm});
  }
  names.erase("");
  return names;
}

std::string StemOf(absl::string_view name) {
  for (const absl::string_view end : {".weight", ".bias", ".gamma", ".beta"}) {
    if (absl::ConsumeSuffix(&name, end)) break;
  }
  return std::string(name);
}

}  // namespace

absl::Status ModelWeights::CheckNothingElse(Index layer) const {
  const std::set<std::string> known = NamesInLayer(options_);
  const std::string prefix = options_.LayerPrefix(layer);
  absl::string_view bare = prefix;
  absl::ConsumePrefix(&bare, options_.names.prefix);
  for (const std::string& name : checkpoint_.names()) {
    absl::string_view suffix = name;
    if (!absl::ConsumePrefix(&suffix, prefix) && !absl::ConsumePrefix(&suffix, bare)) continue;
    if (IsBuffer(suffix) || known.contains(StemOf(suffix))) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, checkpoint_.Find(name));
    return Refuse(tensor->file, ": tensor ", Quoted(name), " must not be there: no part of a ",
                  options_.family, " layer by its config.json, got ", ShapeString(tensor->shape));
  }
  return absl::OkStatus();
}

absl::Status ModelWeights::CheckLayer(Index layer) const {
  for (int i = 0; i < kLinearMaps; ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(Map(layer, static_cast<LinearMap>(i)).status());
  }
  const LayerNames& names = options_.layer_names;
  for (const std::string* name : {&names.attn_in, &names.attn_out, &names.attn_after, &names.mlp_in,
                                  &names.mlp_out, &names.mlp_after}) {
    if (name->empty()) continue;
    ATTNPRUNE_RETURN_IF_ERROR(Norm(absl::StrCat(options_.LayerPrefix(layer), *name)).status());
  }
  return CheckAttention(layer);
}

absl::Status ModelWeights::CheckAttention(Index layer) const {
  if (layer < 0 || layer >= options_.layer_count()) {
    return Refuse("layer must be in [0, ", options_.layer_count(),
                  "), the layers of the model, got ", layer);
  }
  ATTNPRUNE_RETURN_IF_ERROR(Map(layer, LinearMap::kQuery).status());
  ATTNPRUNE_RETURN_IF_ERROR(Map(layer, LinearMap::kKey).status());
  ATTNPRUNE_RETURN_IF_ERROR(QueryNorm(layer).status());
  ATTNPRUNE_RETURN_IF_ERROR(KeyNorm(layer).status());
  return CheckNothingElse(layer);
}

absl::Status ModelWeights::CheckOutside() const {
  const ModelNames& names = options_.names;
  const Index d = options_.hidden_size, width = options_.embedding_width;
  ATTNPRUNE_RETURN_IF_ERROR(Embedding().status());
  ATTNPRUNE_RETURN_IF_ERROR(Norm(names.final_norm).status());
  ATTNPRUNE_RETURN_IF_ERROR(Norm(names.embedding_norm).status());
  ATTNPRUNE_RETURN_IF_ERROR(Plain(names.project_in, d, width).status());
  ATTNPRUNE_RETURN_IF_ERROR(Plain(names.project_out, width, d).status());
  ATTNPRUNE_RETURN_IF_ERROR(Table(options_.names.token_type).status());
  return Positions().status();
}

absl::Status ModelWeights::CheckHead() const {
  const ModelNames& names = options_.names;
  const Index d = options_.hidden_size;
  ATTNPRUNE_RETURN_IF_ERROR(Norm(names.head_norm).status());
  ATTNPRUNE_RETURN_IF_ERROR(Plain(names.head_dense, d, d).status());
  return Head().status();
}

absl::Status ModelWeights::Check() const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckOutside());
  for (Index layer = 0; layer < options_.layer_count(); ++layer) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckLayer(layer));
  }
  return absl::OkStatus();
}

}  // namespace attnprune
