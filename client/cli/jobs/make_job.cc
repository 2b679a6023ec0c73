#include "client/cli/jobs/make_job.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/files/event_export.h"
#include "client/cli/files/output_check.h"
#include "client/cli/files/pruned_files.h"
#include "client/cli/jobs/hand_layer.h"
#include "client/cli/jobs/model_layer.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"
#include "core/problem/attention_mask.h"

namespace attnprune::cli {
namespace {

// --- which weights ---

absl::Status CheckWeightFlags(const JobFlags& f) {
  const bool parts = !f.q.empty() || !f.k.empty();
  const bool layout = HasLayerFlags(f);
  if (!f.model.empty()) {
    if (f.layer == kNoLayer) return absl::InvalidArgumentError("--model needs --layer N");
    if (!f.weights.empty() || !f.fused.empty() || !f.fused_product.empty() || parts || layout) {
      return absl::InvalidArgumentError(
          "--model says by itself what the weights are: leave out --weights, --fused, "
          "--fused-product, --q, --k and what goes with them");
    }
    return absl::OkStatus();
  }
  if (f.layer != kNoLayer) return absl::InvalidArgumentError("--layer needs --model DIR");
  if (f.weights.empty())
    return absl::InvalidArgumentError("--model DIR --layer N or --weights FILE is required");
  if (int{!f.fused.empty()} + int{!f.fused_product.empty()} + int{parts} != 1) {
    return absl::InvalidArgumentError(
        "--weights needs one of --fused, --fused-product, and --q with --k");
  }
  if (parts) return CheckLayerFlags(f);
  if (!layout) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--heads, --kv-heads, --rope-..., --softcap, --clip-qkv, --alibi, norms and biases go with "
      "--q and --k only");
}

absl::Status AddFused(const JobFlags& f, JobTensors& tensors, v1::Problem* problem) {
  v1::FusedProblem& out = *problem->mutable_fused();
  if (!f.fused.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*out.mutable_weight(), tensors.AddWeight(f.weights, f.fused));
    return absl::OkStatus();
  }
  const std::vector<std::string> names = absl::StrSplit(f.fused_product, ',');
  if (names.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("--fused-product must be QNAME,KNAME, got ", f.fused_product));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(*out.mutable_q_factor(), tensors.AddWeight(f.weights, names[0]));
  ATTNPRUNE_ASSIGN_OR_RETURN(*out.mutable_k_factor(), tensors.AddWeight(f.weights, names[1]));
  return absl::OkStatus();
}

absl::Status AddWeights(const JobFlags& f, JobTensors& tensors, v1::Problem* problem) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckWeightFlags(f));
  if (!f.model.empty()) {
    ATTNPRUNE_RETURN_IF_ERROR(AddModelLayer(f.model, f.layer, tensors, problem));
  } else if (f.q.empty()) {
    ATTNPRUNE_RETURN_IF_ERROR(AddFused(f, tensors, problem));
  } else {
    ATTNPRUNE_RETURN_IF_ERROR(AddHandLayer(f, tensors, problem->mutable_projections()));
  }
  if (f.scale.has_value()) problem->set_scale(*f.scale);
  if (f.attention.empty() && problem->has_attention()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const AttentionMask mask,
                             ParseAttentionMask(f.attention.empty() ? "causal" : f.attention));
  *problem->mutable_attention() = ToProto(mask);
  return absl::OkStatus();
}

// --- the rest of the job ---

void NoteSameData(const v1::Job& job, JobTensors& tensors) {
  for (const v1::TensorRef& scored : job.held_out()) {
    for (const v1::TensorRef& learned : job.calibration()) {
      if (scored.sha256() != learned.sha256()) continue;
      tensors.AddNote(absl::StrCat(
          "--held-out: ", scored.name(), " has the very bytes of ", learned.name(),
          " of --calibration: its errors say nothing about data that no method has seen"));
    }
  }
}

absl::Status AddData(const JobFlags& f, JobTensors& tensors, v1::Job* job) {
  if (f.calibration.empty())
    return absl::InvalidArgumentError("--calibration FILE[:NAME] is required");
  if (!(f.held_out_fraction >= 0 && f.held_out_fraction < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--held-out-fraction must be in [0, 1), got ", f.held_out_fraction));
  }
  if (f.held_out_fraction > 0 && !f.held_out.empty()) {
    return absl::InvalidArgumentError("--held-out-fraction is for jobs without --held-out");
  }
  job->set_held_out_fraction(f.held_out_fraction);
  for (const std::string& text : f.calibration) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<v1::TensorRef> batches,
                               tensors.AddBatches(text, f.layer));
    for (const v1::TensorRef& ref : batches) *job->add_calibration() = ref;
  }
  for (const std::string& text : f.held_out) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<v1::TensorRef> batches,
                               tensors.AddBatches(text, f.layer));
    for (const v1::TensorRef& ref : batches) *job->add_held_out() = ref;
  }
  NoteSameData(*job, tensors);
  return absl::OkStatus();
}

absl::Status AddLabels(const JobFlags& f, v1::Job* job) {
  ATTNPRUNE_RETURN_IF_ERROR(ParseLabels(f.labels, job->mutable_labels()));
  AddWeightsLabel(f.model.empty() ? f.weights : f.model, job->mutable_labels());
  if (f.layer < 0) return absl::OkStatus();
  const std::string layer = absl::StrCat(f.layer);
  const auto [label, added] = job->mutable_labels()->insert({kLayerLabel, layer});
  if (added || label->second == layer) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--label ", kLayerLabel, " must be the job's layer, ", layer, ", got ", label->second));
}

absl::Status AddMethods(const JobFlags& f, v1::Job* job) {
  if (f.methods.empty())
    return absl::InvalidArgumentError("--method NAME is required; attnprune info lists them");
  for (const std::string& text : f.methods) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*job->add_methods(), ParseMethodFlag(text));
  }
  return absl::OkStatus();
}

// --- its results ---

// Of --method NAME[:PARAMETER=NUMBER,...].
std::vector<std::string> LabelsOfFlags(const std::vector<std::string>& methods) {
  std::vector<std::string> names;
  for (const std::string& method : methods) names.push_back(method.substr(0, method.find(':')));
  return LabelsOf(names);
}

}  // namespace

void AddWeightsLabel(const std::string& source, Labels* labels) {
  constexpr size_t kLongestLabel = 255;
  std::error_code error;
  const std::string path = std::filesystem::canonical(source, error).string();
  const bool plain = std::all_of(path.begin(), path.end(), [](char c) {
    return absl::ascii_isprint(static_cast<unsigned char>(c));
  });
  if (error || !plain || path.size() > kLongestLabel) return;
  labels->insert({kWeightsLabel, path});
}

absl::Status CheckMethods(const JobFlags& flags) {
  for (const std::string& text : flags.methods) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Method method, ParseMethodFlag(text));
    const absl::Status known =
        ChooseMethod({method.name(), {method.parameters().begin(), method.parameters().end()}})
            .status();
    if (known.ok()) continue;
    return absl::InvalidArgumentError(absl::StrCat("--method ", text, ": ", known.message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> MakeJob(const JobFlags& f, JobTensors& tensors) {
  v1::Job job;
  ATTNPRUNE_RETURN_IF_ERROR(AddMethods(f, &job));
  ATTNPRUNE_ASSIGN_OR_RETURN(*job.mutable_sparsity(), ParseSparsityFlag(f.sparsity));
  ATTNPRUNE_RETURN_IF_ERROR(AddLabels(f, &job));
  ATTNPRUNE_RETURN_IF_ERROR(AddWeights(f, tensors, job.mutable_problem()));
  ATTNPRUNE_RETURN_IF_ERROR(AddData(f, tensors, &job));
  job.set_seed(f.seed);
  job.set_priority(f.priority);
  job.set_evaluate_every(f.evaluate_every);
  if (f.timeout > absl::ZeroDuration()) *job.mutable_timeout() = TimeoutOf(f);
  return job;
}

absl::Status CheckJobOutputs(const JobFlags& flags) {
  const std::string& source = flags.model.empty() ? flags.weights : flags.model;
  ATTNPRUNE_RETURN_IF_ERROR(CheckShardsAreThere(flags.output, source));
  std::vector<std::string> inputs = FilesOf(source);
  for (const auto* data : {&flags.calibration, &flags.held_out}) {
    for (const std::string& text : *data) inputs.push_back(SplitFileAndName(text).first);
  }
  const std::vector<std::string> methods = LabelsOfFlags(flags.methods);
  const Outputs outputs = OutputsOf(flags.output, flags.save_mask, source);
  if (!flags.overwrite) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckKeepsOtherMethods(outputs, methods));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckOutputs(outputs, inputs));
  return CheckTensorBoard(flags.tensorboard, methods);
}

}  // namespace attnprune::cli
