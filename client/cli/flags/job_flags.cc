#include "client/cli/flags/job_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_list.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"
#include "core/problem/attention_mask.h"
#include "core/problem/hf_layer.h"
#include "core/problem/sparsity.h"

namespace attnprune::cli {
namespace {

constexpr size_t kLongestLabel = 255;

absl::Status Usage(const std::string& text) { return absl::InvalidArgumentError(text); }

bool ParseLayer(const CLI::results_t& texts, int64_t& layer) {
  if (texts.size() != 1) return false;
  if (texts[0] != "all") return absl::SimpleAtoi(texts[0], &layer) && layer >= 0;
  layer = kAllLayers;
  return true;
}

void AddWeightFlags(CLI::App& app, JobFlags& f) {
  app.add_option("--model", f.model, "Hugging Face folder: names, heads and rope from config.json")
      ->type_name("DIR");
  const auto parse_layer = [&f](const CLI::results_t& texts) { return ParseLayer(texts, f.layer); };
  app.add_option("--layer", parse_layer,
                 "Layer of the model, from 0, or all of them: a job each, under one label")
      ->type_name("N|all");
  app.add_option("--weights", f.weights, "File of the weights")->type_name("FILE.safetensors");
  app.add_option("--fused", f.fused, "Tensor W of the fused problem, (d, d)")->type_name("NAME");
  app.add_option("--fused-product", f.fused_product, "Tensors whose product W = Q K' is pruned")
      ->type_name("QNAME,KNAME");
  app.add_option("--q", f.q, "Tensor of the query projection, (out, in)")->type_name("NAME");
  app.add_option("--k", f.k, "Tensor of the key projection, (out, in)")->type_name("NAME");
  app.add_option("--q-bias", f.q_bias, "Tensor of the queries' bias")->type_name("NAME");
  app.add_option("--k-bias", f.k_bias, "Tensor of the keys' bias")->type_name("NAME");
  app.add_option("--heads", f.heads, "Query heads")->check(AtLeast(1));
  app.add_option("--kv-heads", f.kv_heads, "Key heads; default: as many as query heads")
      ->check(AtLeast(1));
  app.add_option("--rope-theta", f.rope_theta, "Base of the rotary embedding; default: none");
  app.add_option("--rope-layout", f.rope_layout, "Pairs of the rotary embedding")
      ->check(CLI::IsMember({"rotate-half", "interleaved"}));
  app.add_option("--scale", f.scale,
                 "Factor of the logits; default: 1 (fused) or 1 / sqrt(head_dim)");
}

void AddDataFlags(CLI::App& app, JobFlags& f) {
  app.add_option("--calibration", f.calibration,
                 "Tokens to decide on, (n, d) or (k, n, d); .safetensors or .npy; {layer} stands "
                 "for the layer. Repeatable")
      ->type_name("FILE[:NAME]")
      ->allow_extra_args(false);
  app.add_option("--held-out", f.held_out, "Tokens that are only scored. Repeatable")
      ->type_name("FILE[:NAME]")
      ->allow_extra_args(false);
  app.add_option("--held-out-fraction", f.held_out_fraction,
                 "Without --held-out: fraction of the calibration batches that the server holds "
                 "out, evenly spaced; below 1")
      ->capture_default_str();
  app.add_option("--attention", f.attention, "Default: the model's, or causal")
      ->type_name("causal|full|block:B|window:B");
  app.add_option("--sparsity", f.sparsity, "Fraction of weights to remove, or N:M such as 2:4")
      ->capture_default_str();
  app.add_option("--method", f.methods,
                 "Method with its parameters, as `attnprune info` lists them. Repeatable")
      ->type_name("NAME[:PARAMETER=NUMBER,...]")
      ->allow_extra_args(false);
  app.add_option("--seed", f.seed,
                 "Of the random numbers of methods that draw any; `attnprune info` says which do")
      ->check(AtLeast(0))
      ->capture_default_str();
  app.add_option("--evaluate-every", f.evaluate_every,
                 "Steps between two evaluations of the binary mask; 0: 10, or a hundredth of a "
                 "method's steps if that is more; -1: never")
      ->check(CLI::Range(-1, 1'000'000'000))
      ->capture_default_str();
}

}  // namespace

void AddJobFlags(CLI::App& app, JobFlags& f) {
  AddWeightFlags(app, f);
  AddDataFlags(app, f);
  app.add_option("--label", f.labels, "Label of the job. Repeatable")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--priority", f.priority, "-1000 to 1000; higher runs first")
      ->check(CLI::Range(-1000, 1000))
      ->capture_default_str();
  AddDuration(app, "--timeout", f.timeout, "Of the whole job; 0: none");
  app.add_option("--output", f.output,
                 "File (.safetensors), or with --model also a folder for the whole model, for the "
                 "pruned weights of the best method, or of each one if the name has {method} in "
                 "it; everything that was not pruned is copied. With --layer all: a folder")
      ->type_name("FILE");
  app.add_option("--save-mask", f.save_mask, "File for the masks, in the same way")
      ->type_name("FILE");
  app.add_option("--plot", f.plot, "File for the curves of loss and error")->type_name("FILE.svg");
  app.add_option("--tensorboard", f.tensorboard,
                 "Folder for TensorBoard, written while the job runs: a run for each method")
      ->type_name("DIR");
}

absl::StatusOr<v1::Method> ParseMethodFlag(const std::string& text) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MethodSpec spec, ParseMethodSpec(text, "--method"));
  v1::Method method;
  method.set_name(spec.name);
  method.mutable_parameters()->insert(spec.parameters.begin(), spec.parameters.end());
  return method;
}

namespace {

// --- which weights ---

absl::Status CheckWeightFlags(const JobFlags& f) {
  const bool parts = !f.q.empty() || !f.k.empty();
  const bool layout = f.heads || f.kv_heads || f.rope_theta || !f.rope_layout.empty() ||
                      !f.q_bias.empty() || !f.k_bias.empty();
  if (!f.model.empty()) {
    if (f.layer == kNoLayer) return Usage("--model needs --layer N or --layer all");
    if (!f.weights.empty() || !f.fused.empty() || !f.fused_product.empty() || parts || layout) {
      return Usage(
          "--model says by itself what the weights are: leave out --weights, --fused, "
          "--fused-product, --q, --k and what goes with them");
    }
    return absl::OkStatus();
  }
  if (f.layer != kNoLayer) return Usage("--layer needs --model DIR");
  if (f.weights.empty()) return Usage("--model DIR --layer N or --weights FILE is required");
  if (int{!f.fused.empty()} + int{!f.fused_product.empty()} + int{parts} != 1) {
    return Usage("--weights needs one of --fused, --fused-product, and --q with --k");
  }
  if (!parts) {
    return layout ? Usage("--heads, --kv-heads, --rope-... and biases go with --q and --k only")
                  : absl::OkStatus();
  }
  if (f.q.empty() || f.k.empty() || f.heads == 0) return Usage("--q, --k and --heads go together");
  if (f.rope_theta && !(*f.rope_theta > 0)) {
    return Usage(absl::StrCat("--rope-theta must be above 0, got ", *f.rope_theta));
  }
  if (!f.rope_layout.empty() && !f.rope_theta) return Usage("--rope-layout needs --rope-theta");
  return absl::OkStatus();
}

void SetAttention(const AttentionMask& mask, v1::Problem* problem) {
  v1::AttentionMask& out = *problem->mutable_attention();
  switch (mask.kind) {
    case AttentionMask::Kind::kCausal:
      out.set_kind(v1::CAUSAL);
      break;
    case AttentionMask::Kind::kFull:
      out.set_kind(v1::FULL);
      break;
    case AttentionMask::Kind::kBlock:
      out.set_kind(v1::BLOCK);
      break;
    case AttentionMask::Kind::kWindow:
      out.set_kind(v1::WINDOW);
      break;
  }
  out.set_size(mask.size);
}

void SetRope(const Rope& rope, v1::ProjectionProblem* out) {
  out->mutable_rope()->set_theta(rope.theta);
  out->mutable_rope()->set_layout(rope.layout == RopeLayout::kInterleaved ? v1::INTERLEAVED
                                                                          : v1::ROTATE_HALF);
}

v1::TensorRef* WeightOf(absl::string_view weight, v1::ProjectionProblem* problem) {
  if (weight == "w_q") return problem->mutable_w_q();
  if (weight == "w_k") return problem->mutable_w_k();
  return weight == "b_q" ? problem->mutable_b_q() : problem->mutable_b_k();
}

absl::Status AddModel(const JobFlags& f, JobTensors& tensors, v1::Problem* problem) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const HfLayer layer, LoadHfLayer(f.model, f.layer));
  v1::ProjectionProblem& out = *problem->mutable_projections();
  out.set_heads(layer.weights.heads);
  out.set_kv_heads(layer.weights.kv_heads);
  if (layer.weights.rope.has_value()) SetRope(*layer.weights.rope, &out);
  SetAttention(layer.attention, problem);
  for (const SourceTensor& source : layer.sources) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*WeightOf(source.weight, &out),
                               tensors.AddWeight(f.model, source.name));
  }
  return absl::OkStatus();
}

absl::Status AddFused(const JobFlags& f, JobTensors& tensors, v1::Problem* problem) {
  v1::FusedProblem& out = *problem->mutable_fused();
  if (!f.fused.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*out.mutable_weight(), tensors.AddWeight(f.weights, f.fused));
    return absl::OkStatus();
  }
  const std::vector<std::string> names = absl::StrSplit(f.fused_product, ',');
  if (names.size() != 2) {
    return Usage(absl::StrCat("--fused-product must be QNAME,KNAME, got ", f.fused_product));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(*out.mutable_q_factor(), tensors.AddWeight(f.weights, names[0]));
  ATTNPRUNE_ASSIGN_OR_RETURN(*out.mutable_k_factor(), tensors.AddWeight(f.weights, names[1]));
  return absl::OkStatus();
}

absl::Status AddProjections(const JobFlags& f, JobTensors& tensors, v1::Problem* problem) {
  v1::ProjectionProblem& out = *problem->mutable_projections();
  out.set_heads(f.heads);
  out.set_kv_heads(f.kv_heads);
  if (f.rope_theta.has_value()) {
    SetRope({.theta = *f.rope_theta,
             .layout = f.rope_layout == "interleaved" ? RopeLayout::kInterleaved
                                                      : RopeLayout::kRotateHalf},
            &out);
  }
  const std::pair<const char*, const std::string*> named[] = {
      {"w_q", &f.q}, {"w_k", &f.k}, {"b_q", &f.q_bias}, {"b_k", &f.k_bias}};
  for (const auto& [weight, name] : named) {
    if (name->empty()) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(*WeightOf(weight, &out), tensors.AddWeight(f.weights, *name));
  }
  return absl::OkStatus();
}

absl::Status AddWeights(const JobFlags& f, JobTensors& tensors, v1::Problem* problem) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckWeightFlags(f));
  if (!f.model.empty()) {
    ATTNPRUNE_RETURN_IF_ERROR(AddModel(f, tensors, problem));
  } else if (f.q.empty()) {
    ATTNPRUNE_RETURN_IF_ERROR(AddFused(f, tensors, problem));
  } else {
    ATTNPRUNE_RETURN_IF_ERROR(AddProjections(f, tensors, problem));
  }
  if (f.scale.has_value()) problem->set_scale(*f.scale);
  if (f.attention.empty() && problem->has_attention()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const AttentionMask mask,
                             ParseAttentionMask(f.attention.empty() ? "causal" : f.attention));
  SetAttention(mask, problem);
  return absl::OkStatus();
}

// --- the rest of the job ---

absl::Status AddData(const JobFlags& f, JobTensors& tensors, v1::Job* job) {
  if (f.calibration.empty()) return Usage("--calibration FILE[:NAME] is required");
  if (!(f.held_out_fraction >= 0 && f.held_out_fraction < 1)) {
    return Usage(absl::StrCat("--held-out-fraction must be in [0, 1), got ", f.held_out_fraction));
  }
  if (f.held_out_fraction > 0 && !f.held_out.empty()) {
    return Usage("--held-out-fraction is for jobs without --held-out");
  }
  job->set_held_out_fraction(f.held_out_fraction);
  const std::string layer = f.layer >= 0 ? absl::StrCat(f.layer) : "";
  const std::string usual =
      layer.empty() ? "" : absl::StrCat("model.layers.", layer, ".self_attn.input");
  for (const std::string& text : f.calibration) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*job->add_calibration(), tensors.AddBatches(text, usual, layer));
  }
  for (const std::string& text : f.held_out) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*job->add_held_out(), tensors.AddBatches(text, usual, layer));
  }
  return absl::OkStatus();
}

absl::Status AddSparsity(const JobFlags& f, v1::Job* job) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Sparsity sparsity, ParseSparsity(f.sparsity));
  if (sparsity.structured()) {
    job->mutable_sparsity()->mutable_n_of_m()->set_n(sparsity.pruned);
    job->mutable_sparsity()->mutable_n_of_m()->set_m(sparsity.group);
  } else {
    job->mutable_sparsity()->set_fraction(sparsity.fraction);
  }
  return absl::OkStatus();
}

// Only where it is plain text that fits a label.
void AddWeightsLabel(const JobFlags& f, v1::Job* job) {
  std::error_code error;
  const std::string path =
      std::filesystem::canonical(f.model.empty() ? f.weights : f.model, error).string();
  const bool plain = std::all_of(path.begin(), path.end(), [](char c) {
    return absl::ascii_isprint(static_cast<unsigned char>(c));
  });
  if (error || !plain || path.size() > kLongestLabel) return;
  job->mutable_labels()->insert({kWeightsLabel, path});
}

absl::Status AddLabels(const JobFlags& f, v1::Job* job) {
  ATTNPRUNE_RETURN_IF_ERROR(ParseLabels(f.labels, job->mutable_labels()));
  AddWeightsLabel(f, job);
  if (f.layer < 0) return absl::OkStatus();
  const std::string layer = absl::StrCat(f.layer);
  const auto [label, added] = job->mutable_labels()->insert({kLayerLabel, layer});
  if (added || label->second == layer) return absl::OkStatus();
  return Usage(absl::StrCat("--label ", kLayerLabel, " must be the job's layer, ", layer, ", got ",
                            label->second));
}

absl::Status AddMethods(const JobFlags& f, v1::Job* job) {
  if (f.methods.empty()) return Usage("--method NAME is required; attnprune info lists them");
  for (const std::string& text : f.methods) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*job->add_methods(), ParseMethodFlag(text));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Job> MakeJob(const JobFlags& f, JobTensors& tensors) {
  v1::Job job;
  ATTNPRUNE_RETURN_IF_ERROR(AddMethods(f, &job));
  ATTNPRUNE_RETURN_IF_ERROR(AddSparsity(f, &job));
  ATTNPRUNE_RETURN_IF_ERROR(AddLabels(f, &job));
  ATTNPRUNE_RETURN_IF_ERROR(AddWeights(f, tensors, job.mutable_problem()));
  ATTNPRUNE_RETURN_IF_ERROR(AddData(f, tensors, &job));
  job.set_seed(f.seed);
  job.set_priority(f.priority);
  job.set_evaluate_every(f.evaluate_every);
  if (f.timeout > absl::ZeroDuration()) {
    job.mutable_timeout()->set_seconds(absl::ToInt64Seconds(f.timeout));
    job.mutable_timeout()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(f.timeout % absl::Seconds(1))));
  }
  return job;
}

}  // namespace attnprune::cli
