#include "client/cli/jobs/model_layer.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/model/attention_layer.h"

namespace attnprune::cli {
namespace {

v1::RopeScalingType ToProto(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kDefault:
      return v1::ROPE_SCALING_TYPE_UNSPECIFIED;
    case RopeScaling::kLinear:
      return v1::LINEAR;
    case RopeScaling::kDynamic:
      return v1::DYNAMIC;
    case RopeScaling::kLlama3:
      return v1::LLAMA3;
    case RopeScaling::kYarn:
      return v1::YARN;
    case RopeScaling::kLongrope:
      return v1::LONGROPE;
  }
  return v1::ROPE_SCALING_TYPE_UNSPECIFIED;
}

v1::AttentionKind ToProto(AttentionMask::Kind kind) {
  switch (kind) {
    case AttentionMask::Kind::kCausal:
      return v1::CAUSAL;
    case AttentionMask::Kind::kFull:
      return v1::FULL;
    case AttentionMask::Kind::kBlock:
      return v1::BLOCK;
    case AttentionMask::Kind::kWindow:
      return v1::WINDOW;
  }
  return v1::CAUSAL;
}

// The numbers that the type reads; the API refuses others.
v1::RopeScaling ScalingToProto(const Rope& rope) {
  v1::RopeScaling out;
  out.set_type(ToProto(rope.scaling));
  const RopeScaling type = rope.scaling;
  if (type != RopeScaling::kLongrope) out.set_factor(rope.factor);
  if (type == RopeScaling::kDynamic) out.set_max_positions(rope.max_positions);
  if (type == RopeScaling::kLlama3 || type == RopeScaling::kYarn ||
      type == RopeScaling::kLongrope) {
    out.set_original_max_positions(rope.original_max_positions);
  }
  if (type == RopeScaling::kLlama3) {
    out.set_low_freq_factor(rope.low_freq_factor);
    out.set_high_freq_factor(rope.high_freq_factor);
  }
  if (type == RopeScaling::kYarn) {
    out.set_beta_fast(rope.beta_fast);
    out.set_beta_slow(rope.beta_slow);
    out.set_truncate(rope.truncate);
  }
  if (type == RopeScaling::kLongrope) {
    out.mutable_short_factor()->Assign(rope.short_factor.begin(), rope.short_factor.end());
    out.mutable_long_factor()->Assign(rope.long_factor.begin(), rope.long_factor.end());
  }
  return out;
}

v1::Alibi ToProto(Alibi alibi) {
  switch (alibi) {
    case Alibi::kNone:
      return v1::ALIBI_UNSPECIFIED;
    case Alibi::kBloom:
      return v1::BLOOM;
    case Alibi::kFalcon:
      return v1::FALCON;
  }
  return v1::ALIBI_UNSPECIFIED;
}

v1::TensorRef* TensorOf(const std::string& role, v1::ProjectionProblem* layer) {
  using Field = v1::TensorRef* (*)(v1::ProjectionProblem*);
  const std::pair<const char*, Field> fields[] = {
      {"w_q", [](auto* l) { return l->mutable_w_q(); }},
      {"w_k", [](auto* l) { return l->mutable_w_k(); }},
      {"b_q", [](auto* l) { return l->mutable_b_q(); }},
      {"b_k", [](auto* l) { return l->mutable_b_k(); }},
      {"q_norm", [](auto* l) { return l->mutable_qk_norm()->mutable_q_weight(); }},
      {"k_norm", [](auto* l) { return l->mutable_qk_norm()->mutable_k_weight(); }},
      {"q_norm_bias", [](auto* l) { return l->mutable_qk_norm()->mutable_q_bias(); }},
      {"k_norm_bias", [](auto* l) { return l->mutable_qk_norm()->mutable_k_bias(); }},
  };
  for (const auto& [name, field] : fields) {
    if (role == name) return field(layer);
  }
  return nullptr;
}

void SetNorm(const AttentionLayer& layer, v1::ProjectionProblem* out) {
  if (!layer.weights.qk_norm.has_value()) return;
  const QkNorm& norm = *layer.weights.qk_norm;
  v1::QkNorm& to = *out->mutable_qk_norm();
  to.set_kind(norm.kind == NormKind::kLayer ? v1::LAYER : v1::RMS);
  to.set_group(norm.group == QkNormGroup::kWhole ? v1::WHOLE : v1::HEAD);
  to.set_eps(norm.eps);
  to.set_weight_offset(layer.norm_offset);
}

}  // namespace

v1::Rope ToProto(const Rope& rope) {
  v1::Rope out;
  out.set_theta(rope.theta);
  out.set_layout(rope.layout == RopeLayout::kInterleaved ? v1::INTERLEAVED : v1::ROTATE_HALF);
  out.set_dim(rope.dim);
  out.set_attention_factor(rope.attention_factor);
  if (rope.scaling != RopeScaling::kDefault) *out.mutable_scaling() = ScalingToProto(rope);
  return out;
}

v1::AttentionMask ToProto(const AttentionMask& mask) {
  v1::AttentionMask out;
  out.set_kind(ToProto(mask.kind));
  out.set_size(mask.size);
  return out;
}

absl::Status AddModelLayer(const std::string& folder, Index layer, JobTensors& tensors,
                           v1::Problem* problem) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelWeights* model, tensors.Model(folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(const AttentionLayer stored, StoredAttentionLayer(*model, layer));
  v1::ProjectionProblem& out = *problem->mutable_projections();
  out.set_heads(stored.weights.heads);
  out.set_kv_heads(stored.weights.kv_heads);
  out.set_softcap(stored.weights.softcap);
  out.set_clip_qkv(stored.weights.clip_qkv);
  out.set_alibi(ToProto(stored.weights.alibi));
  if (stored.weights.rope.has_value()) *out.mutable_rope() = ToProto(*stored.weights.rope);
  SetNorm(stored, &out);
  for (const AttentionTensor& tensor : stored.tensors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*TensorOf(tensor.role, &out), tensors.AddStored(tensor));
  }
  *problem->mutable_attention() = ToProto(stored.attention);
  if (stored.scale.has_value()) problem->set_scale(*stored.scale);
  return absl::OkStatus();
}

}  // namespace attnprune::cli
