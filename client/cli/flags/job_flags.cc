#include "client/cli/flags/job_flags.h"

#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/flags/connect.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"
#include "core/problem/sparsity.h"

namespace attnprune::cli {
namespace {

absl::Status ParseLayer(const std::string& text, int64_t& layer) {
  if (absl::SimpleAtoi(text, &layer) && layer >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("must be a layer's number, from 0, got ", text,
                   text == "all" ? absl::StrCat("; ", kWholeModelWay) : ""));
}

void AddNormFlags(Command& command, JobFlags& f) {
  command.Add("--q-norm", f.q_norm, "Tensor of the queries' norm", {.type = "NAME"});
  command.Add("--k-norm", f.k_norm, "Tensor of the keys' norm", {.type = "NAME"});
  command.Add("--q-norm-bias", f.q_norm_bias, "Tensor of the bias of the queries' norm",
              {.type = "NAME"});
  command.Add("--k-norm-bias", f.k_norm_bias, "Tensor of the bias of the keys' norm",
              {.type = "NAME"});
  command.Add("--norm", f.norm, "Kind of these norms; rms1 stores w for 1 + w (Gemma)",
              {.default_text = "rms", .one_of = {"rms", "rms1", "layer"}});
  command.Add("--norm-eps", f.norm_eps, "What they add to the mean square; default: 1e-6");
  command.Add("--norm-group", f.norm_group,
              "Each head of a token alone, or all heads together (OLMo 2); default: head, where "
              "the tensor's shape does not leave it open",
              {.one_of = {"head", "whole"}});
  command.Add("--no-qk-norm", f.no_qk_norm,
              "The layer has no norm, whatever tensors lie beside --q and --k");
}

void AddWeightFlags(Command& command, JobFlags& f) {
  command.Add("--model", f.model, "Hugging Face folder: names, heads and rope from config.json",
              {.type = "DIR"});
  const auto parse_layer = [&f](const std::string& text) { return ParseLayer(text, f.layer); };
  command.AddParsed("--layer", parse_layer, "Layer of the model, from 0", {.type = "N"});
  command.Add("--weights", f.weights, "File of the weights", {.type = "FILE.safetensors"});
  command.Add("--fused", f.fused, "Tensor W of the fused problem, (d, d)", {.type = "NAME"});
  command.Add("--fused-product", f.fused_product, "Tensors whose product W = Q K' is pruned",
              {.type = "QNAME,KNAME"});
  command.Add("--q", f.q, "Tensor of the query projection, (out, in)", {.type = "NAME"});
  command.Add("--k", f.k, "Tensor of the key projection, (out, in)", {.type = "NAME"});
  command.Add("--q-bias", f.q_bias, "Tensor of the queries' bias", {.type = "NAME"});
  command.Add("--k-bias", f.k_bias, "Tensor of the keys' bias", {.type = "NAME"});
  command.Add("--heads", f.heads, "Query heads", {.at_least = 1});
  command.Add("--kv-heads", f.kv_heads, "Key heads; default: as many as query heads",
              {.at_least = 1});
  command.Add("--rope-theta", f.rope_theta, "Base of the rotary embedding; default: none");
  command.Add("--rope-layout", f.rope_layout, "Pairs of the rotary embedding",
              {.one_of = {"rotate-half", "interleaved"}});
  command.Add("--rope-dim", f.rope_dim, "Features of a head that turn, its first; default: all",
              {.at_least = 2});
  command.Add("--rope-scaling", f.rope_scaling,
              "linear, dynamic, llama3, yarn or longrope with its numbers, as RopeScaling in "
              "job.proto names them; lists are written 1/1.5/2",
              {.type = "TYPE[:NAME=NUMBER,...]"});
  command.Add("--rope-attention-factor", f.rope_attention_factor,
              "Factor on cos and sin; default: 1, but yarn and longrope need it");
  AddNormFlags(command, f);
  command.Add("--softcap", f.softcap, "c of c tanh(logit / c) (Gemma 2); default: none");
  command.Add("--clip-qkv", f.clip_qkv, "Bound that projections are cut to (OLMo); default: none");
  command.Add("--alibi", f.alibi, "What logits get by a key's position; default: nothing",
              {.one_of = {"bloom", "falcon"}});
  command.Add("--scale", f.scale, "Factor of the logits; default: 1 (fused) or 1 / sqrt(head_dim)");
}

void AddDataFlags(Command& command, JobFlags& f) {
  command.Add("--calibration", f.calibration,
              "Tokens to decide on, (n, d) or (k, n, d); .safetensors or .npy; {layer} stands "
              "for the layer. Repeatable",
              {.type = "FILE[:NAME]", .repeatable = true});
  AddTokenFlags(command, f.tokens);
  AddSampleFlags(command, f.tokens);
  command.Add("--held-out", f.held_out, "Tokens that are only scored. Repeatable",
              {.type = "FILE[:NAME]", .repeatable = true});
  command.Add("--held-out-fraction", f.held_out_fraction,
              "Without --held-out: fraction of the calibration batches that the server holds "
              "out, evenly spaced; below 1",
              {.show_default = true});
  command.Add("--attention", f.attention, "Default: the model's, or causal",
              {.type = "causal|full|block:B|window:B"});
  AddSparsityFlag(command, f.sparsity);
  command.Add("--method", f.methods,
              "Method with its parameters, as `attnprune info` lists them. Repeatable",
              {.type = "NAME[:PARAMETER=NUMBER,...]", .repeatable = true});
  command.Add("--seed", f.seed,
              "Of the random numbers of methods that draw any; `attnprune info` says which do",
              {.show_default = true, .at_least = 0});
  command.Add("--evaluate-every", f.evaluate_every,
              "Steps between two evaluations of the binary mask; 0: 10, or a hundredth of a "
              "method's steps if that is more; -1: never",
              {.show_default = true, .between = {{-1, 1'000'000'000}}});
}

}  // namespace

void AddOverwriteFlag(Command& command, bool& overwrite) {
  command.Add("--overwrite", overwrite,
              "Replace files that are there with the result of another method");
}

void AddSparsityFlag(Command& command, std::string& sparsity) {
  command.Add(
      "--sparsity", sparsity,
      "Fraction of weights to remove, or N:M: N of every M go, so 1:4 removes one of every four",
      {.show_default = true});
}

void AddPlaceFlags(Command& command, JobFlags& f) {
  command.Add("--label", f.labels, "Label, to find it by. Repeatable",
              {.type = "KEY=VALUE", .repeatable = true});
  command.Add("--priority", f.priority, "-1000 to 1000; higher runs first",
              {.show_default = true, .between = {{-1000, 1000}}});
  AddDuration(command, "--timeout", f.timeout, "Of the whole of it; 0: none");
}

void AddJobFlags(Command& command, JobFlags& f) {
  AddWeightFlags(command, f);
  AddDataFlags(command, f);
  AddPlaceFlags(command, f);
  command.Add("--output", f.output,
              "File (.safetensors), or with --model also a folder for the whole model, for the "
              "pruned weights of the best method, or of each one if the name has {method} in "
              "it; everything that was not pruned is copied",
              {.type = "FILE"});
  command.Add("--save-mask", f.save_mask, "File for the masks, in the same way", {.type = "FILE"});
  AddOverwriteFlag(command, f.overwrite);
  command.Add("--quiet", f.quiet, "Watch without progress: only states, warnings and results");
  command.Add("--tensorboard", f.tensorboard,
              "Folder for TensorBoard, written while the job runs: a run for each method",
              {.type = "DIR"});
}

absl::StatusOr<v1::Sparsity> ParseSparsityFlag(const std::string& text, absl::string_view flag) {
  const absl::StatusOr<Sparsity> sparsity = ParseSparsity(text);
  if (!sparsity.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": ", sparsity.status().message()));
  }
  v1::Sparsity out;
  if (sparsity->structured()) {
    out.mutable_n_of_m()->set_n(sparsity->pruned);
    out.mutable_n_of_m()->set_m(sparsity->group);
  } else {
    out.set_fraction(sparsity->fraction);
  }
  return out;
}

google::protobuf::Duration TimeoutOf(const JobFlags& flags) {
  google::protobuf::Duration timeout;
  timeout.set_seconds(absl::ToInt64Seconds(flags.timeout));
  timeout.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(flags.timeout % absl::Seconds(1))));
  return timeout;
}

absl::StatusOr<v1::Method> ParseMethodFlag(const std::string& text, absl::string_view flag) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MethodSpec spec, ParseMethodSpec(text, flag));
  v1::Method method;
  method.set_name(spec.name);
  method.mutable_parameters()->insert(spec.parameters.begin(), spec.parameters.end());
  return method;
}

absl::Status ParseLabels(const std::vector<std::string>& texts, Labels* labels) {
  for (const std::string& text : texts) {
    const std::vector<std::string> sides = absl::StrSplit(text, absl::MaxSplits('=', 1));
    if (sides.size() != 2 || sides[0].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--label must be KEY=VALUE, got ", text));
    }
    if (!labels->insert({sides[0], sides[1]}).second) {
      return absl::InvalidArgumentError(absl::StrCat("--label must name a key once, got ", text));
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> LabelsOf(const std::vector<std::string>& names) {
  std::map<std::string, int> counts;
  std::vector<std::string> labels;
  for (const std::string& name : names) {
    const int count = ++counts[name];
    labels.push_back(count == 1 ? name : absl::StrCat(name, "#", count));
  }
  return labels;
}

}  // namespace attnprune::cli
