#include "client/cli/jobs/hand_layer.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "client/cli/jobs/rope_flags.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

bool NamesNorms(const JobFlags& f) { return !f.q_norm.empty() || !f.k_norm.empty(); }

bool HasNormFlags(const JobFlags& f) {
  return NamesNorms(f) || !f.q_norm_bias.empty() || !f.k_norm_bias.empty() || !f.norm.empty() ||
         !f.norm_group.empty() || f.norm_eps;
}

absl::Status CheckAbove0Flag(const char* flag, const std::optional<double>& value) {
  if (!value || *value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, " must be above 0, got ", *value));
}

absl::Status CheckNormFlags(const JobFlags& f) {
  if (!HasNormFlags(f)) return absl::OkStatus();
  if (f.no_qk_norm) {
    return absl::InvalidArgumentError("--no-qk-norm goes without --q-norm and what goes with it");
  }
  if (f.q_norm.empty() || f.k_norm.empty()) {
    return absl::InvalidArgumentError(
        "--q-norm and --k-norm go together; --norm, --norm-eps, --norm-group and their biases need "
        "both");
  }
  if (f.q_norm == f.k_norm) {
    return absl::InvalidArgumentError(
        absl::StrCat("--q-norm and --k-norm must be two tensors, got ", f.q_norm, " twice"));
  }
  if ((!f.q_norm_bias.empty() || !f.k_norm_bias.empty()) && f.norm != "layer") {
    return absl::InvalidArgumentError("--q-norm-bias and --k-norm-bias need --norm layer");
  }
  return CheckAbove0Flag("--norm-eps", f.norm_eps);
}

// "model.layers.1.self_attn." of "model.layers.1.self_attn.q_proj.weight".
absl::string_view ModuleOf(absl::string_view tensor) {
  absl::ConsumeSuffix(&tensor, ".weight");
  const size_t dot = tensor.rfind('.');
  return dot == absl::string_view::npos ? "" : tensor.substr(0, dot + 1);
}

// Whether `tensor` is a norm of queries or keys in the module that `of` is in.
bool IsNormBeside(absl::string_view tensor, absl::string_view of) {
  if (!absl::ConsumePrefix(&tensor, ModuleOf(of))) return false;
  const absl::string_view child = tensor.substr(0, tensor.find('.'));
  for (const char* name : {"q_norm", "k_norm", "q_layernorm", "k_layernorm"}) {
    if (absl::StrContains(child, name)) return true;
  }
  return false;
}

absl::Status CheckNormsBeside(const JobFlags& f, JobTensors& tensors) {
  if (NamesNorms(f) || f.no_qk_norm) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, tensors.Names(f.weights));
  for (const std::string& name : names) {
    if (!IsNormBeside(name, f.q) && !IsNormBeside(name, f.k)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        f.weights, " has the norm ", name,
        " beside the tensors of --q and --k: name both with --q-norm and --k-norm, or say "
        "--no-qk-norm if the layer does not use it"));
  }
  return absl::OkStatus();
}

// What a norm is taken over, where its shape or a flag says so.
absl::StatusOr<v1::NormGroup> GroupOf(const JobFlags& f, const v1::TensorRef& weight,
                                      int64_t outputs) {
  if (f.norm_group == "whole") return v1::WHOLE;
  const bool open = weight.shape_size() == 1 && weight.shape(0) == outputs && f.heads > 1;
  if (f.norm_group == "head" || !open) return v1::HEAD;
  return absl::InvalidArgumentError(
      absl::StrCat("--norm-group head or whole is needed: ", weight.name(), " has ", outputs,
                   " entries, for each head alone or for all heads together"));
}

absl::Status AddNorm(const JobFlags& f, JobTensors& tensors, v1::ProjectionProblem* layer) {
  if (!NamesNorms(f)) return absl::OkStatus();
  v1::QkNorm& norm = *layer->mutable_qk_norm();
  const std::pair<v1::TensorRef* (v1::QkNorm::*)(), const std::string*> named[] = {
      {&v1::QkNorm::mutable_q_weight, &f.q_norm},
      {&v1::QkNorm::mutable_k_weight, &f.k_norm},
      {&v1::QkNorm::mutable_q_bias, &f.q_norm_bias},
      {&v1::QkNorm::mutable_k_bias, &f.k_norm_bias}};
  for (const auto& [tensor, name] : named) {
    if (name->empty()) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(*(norm.*tensor)(), tensors.AddWeight(f.weights, *name));
  }
  norm.set_kind(f.norm == "layer" ? v1::LAYER : v1::RMS);
  if (f.norm == "rms1") norm.set_weight_offset(1);
  norm.set_eps(f.norm_eps.value_or(0));
  const int64_t outputs = layer->w_q().shape_size() > 0 ? layer->w_q().shape(0) : 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::NormGroup group, GroupOf(f, norm.q_weight(), outputs));
  norm.set_group(group);
  return absl::OkStatus();
}

}  // namespace

bool HasLayerFlags(const JobFlags& f) {
  return f.heads || f.kv_heads || HasRopeFlags(f) || !f.q_bias.empty() || !f.k_bias.empty() ||
         HasNormFlags(f) || f.no_qk_norm || f.softcap || f.clip_qkv || !f.alibi.empty();
}

absl::Status CheckLayerFlags(const JobFlags& f) {
  if (f.q.empty() || f.k.empty() || f.heads == 0)
    return absl::InvalidArgumentError("--q, --k and --heads go together");
  if (f.q == f.k) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--q and --k must be two tensors, got ", f.q,
        " twice; of a fused tensor, --model DIR --layer N knows which rows are whose"));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckAbove0Flag("--softcap", f.softcap));
  ATTNPRUNE_RETURN_IF_ERROR(CheckAbove0Flag("--clip-qkv", f.clip_qkv));
  return CheckNormFlags(f);
}

v1::TensorRef* WeightOf(absl::string_view weight, v1::ProjectionProblem* layer) {
  if (weight == "w_q") return layer->mutable_w_q();
  if (weight == "w_k") return layer->mutable_w_k();
  return weight == "b_q" ? layer->mutable_b_q() : layer->mutable_b_k();
}

absl::Status AddHandLayer(const JobFlags& f, JobTensors& tensors, v1::ProjectionProblem* layer) {
  layer->set_heads(f.heads);
  layer->set_kv_heads(f.kv_heads);
  layer->set_softcap(f.softcap.value_or(0));
  layer->set_clip_qkv(f.clip_qkv.value_or(0));
  if (!f.alibi.empty()) layer->set_alibi(f.alibi == "bloom" ? v1::BLOOM : v1::FALCON);
  ATTNPRUNE_RETURN_IF_ERROR(SetRope(f, layer));
  const std::pair<const char*, const std::string*> named[] = {
      {"w_q", &f.q}, {"w_k", &f.k}, {"b_q", &f.q_bias}, {"b_k", &f.k_bias}};
  for (const auto& [weight, name] : named) {
    if (name->empty()) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(*WeightOf(weight, layer), tensors.AddWeight(f.weights, *name));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckNormsBeside(f, tensors));
  return AddNorm(f, tensors, layer);
}

}  // namespace attnprune::cli
