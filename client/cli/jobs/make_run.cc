#include "client/cli/jobs/make_run.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/files/token_input.h"
#include "client/cli/flags/loss_flags.h"
#include "client/cli/jobs/make_job.h"
#include "core/base/status_macros.h"
#include "core/base/thread_pool.h"
#include "core/methods/registry.h"
#include "core/model/forward.h"

namespace attnprune::cli {
namespace {

struct RunTokens {
  TokenInput calibration, held_out;  // no rows of the second: none is given
  std::string held_out_file;
  absl::Status predicts;  // of the model, Forward::CheckPredicts
};

TokenFlags HeldOutFlags(const PruneFlags& flags) {
  TokenFlags held_out = flags.job.tokens;
  held_out.text = flags.held_out_text;
  held_out.tokens = flags.held_out_tokens;
  return held_out;
}

const std::string& FileOf(const TokenFlags& flags) {
  return flags.text.empty() ? flags.tokens : flags.text;
}

absl::Status OfFile(const std::string& file, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(file, ": ", status.message()));
}

// What the server would find out later.
absl::Status CheckTokens(const Forward& forward, const PruneFlags& flags, const RunTokens& tokens) {
  ATTNPRUNE_RETURN_IF_ERROR(
      OfFile(FileOf(flags.job.tokens), forward.Check(tokens.calibration.rows.tokens)));
  if (tokens.held_out.rows.rows() > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(
        OfFile(tokens.held_out_file, forward.Check(tokens.held_out.rows.tokens)));
  } else if (flags.job.held_out_fraction == 0) {
    return absl::OkStatus();
  }
  return forward.CheckPredicts();
}

absl::StatusOr<RunTokens> ReadRunTokens(const PruneFlags& flags) {
  ThreadPool pool(1);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<Forward> forward,
                             Forward::Open(flags.job.model, pool));
  TokenFlags calibration = flags.job.tokens;
  calibration.seed = flags.job.seed;
  RunTokens tokens;
  ATTNPRUNE_ASSIGN_OR_RETURN(tokens.calibration,
                             ReadSamples(calibration, flags.job.model, forward->options()));
  const TokenFlags held_out = HeldOutFlags(flags);
  if (held_out.given()) {
    tokens.held_out_file = FileOf(held_out);
    ATTNPRUNE_ASSIGN_OR_RETURN(tokens.held_out,
                               ReadWindows(held_out, flags.job.model, forward->options()));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckTokens(*forward, flags, tokens));
  tokens.predicts = forward->CheckPredicts();
  return tokens;
}

absl::Status AddTokens(const PruneFlags& flags, JobTensors& tensors, v1::Run& run,
                       absl::Status& predicts) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const RunTokens tokens, ReadRunTokens(flags));
  predicts = tokens.predicts;
  for (const TokenInput* input : {&tokens.calibration, &tokens.held_out}) {
    for (const std::string& note : input->notes) tensors.AddNote(note);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      *run.mutable_calibration(),
      tensors.AddTokens(tokens.calibration.rows.tokens, FileOf(flags.job.tokens)));
  if (tokens.held_out.rows.rows() == 0) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(*run.mutable_held_out(),
                             tensors.AddTokens(tokens.held_out.rows.tokens, tokens.held_out_file));
  if (run.held_out().ids().sha256() == run.calibration().ids().sha256()) {
    tensors.AddNote(
        "the held-out tokens are those of the calibration: losses on them say nothing about a "
        "text that pruning has not seen");
  }
  return absl::OkStatus();
}

absl::Status AddRules(const PruneFlags& flags, v1::Run& run) {
  for (const std::string& pattern : flags.skips) {
    v1::Rule& rule = *run.add_rules();
    rule.set_pattern(pattern);
    rule.set_skip(true);
  }
  for (const std::string& text : flags.rules) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*run.add_rules(), ParseRuleFlag(text));
  }
  return absl::OkStatus();
}

// What only a recipe asks for is left out where `predicts` says that the model has no loss.
absl::Status AddVariant(const RunVariant& variant, const absl::Status& predicts,
                        JobTensors& tensors, v1::Run& run) {
  run.set_dense_target(variant.dense_target);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::optional<v1::Allocation> allocation,
                             ParseAllocationFlag(variant.allocation));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::optional<v1::Curvature> curvature,
                             ParseCurvatureFlag(variant.curvature));
  const bool left_out = curvature.has_value() && variant.curvature_by_recipe && !predicts.ok();
  if (left_out) {
    tensors.AddNote(absl::StrCat(
        "no curvature is taken, and maps are pruned as by --recipe linear: ", predicts.message()));
  } else if (curvature.has_value()) {
    *run.mutable_curvature() = *curvature;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::optional<v1::Training> reconstruction,
                             ParseTrainingFlag("--reconstruct", variant.reconstruct));
  const bool reconstructs =
      reconstruction.has_value() && (predicts.ok() || !variant.reconstruct_by_recipe);
  if (reconstructs) *run.mutable_reconstruction() = *reconstruction;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::optional<v1::Training> distillation,
                             ParseTrainingFlag("--distill", variant.distill));
  const bool trains = distillation.has_value() && (predicts.ok() || !variant.distill_by_recipe);
  if (trains) *run.mutable_distillation() = *distillation;
  ATTNPRUNE_ASSIGN_OR_RETURN(const SampledFlag sampled, ParseSampledFlag(variant.sampled_rows));
  const int missing = kEnoughRows - run.calibration().lengths_size();
  const int rows = sampled.rows.value_or(std::max(missing, 0));
  if (rows > 0 && (predicts.ok() || !variant.sampled_by_recipe)) {
    *run.mutable_sampled() = sampled.how;
    run.mutable_sampled()->set_rows(rows);
  }
  const bool needs_it = allocation.has_value() && allocation->has_by_loss();
  if (allocation.has_value() && !(left_out && needs_it)) *run.mutable_allocation() = *allocation;
  return absl::OkStatus();
}

// What prunes any linear map, as a text.
std::string LinearMethods() {
  std::vector<std::string> names;
  for (const MethodInfo& info : Methods()) {
    if (info.linear) names.emplace_back(info.name);
  }
  return absl::StrJoin(names, ", ");
}

absl::StatusOr<ChosenMethod> Choose(const std::string& flag, const v1::Method& method) {
  auto chosen =
      ChooseMethod({method.name(), {method.parameters().begin(), method.parameters().end()}});
  if (chosen.ok()) return chosen;
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", chosen.status().message()));
}

absl::Status CheckLinearMethod(const std::string& flag, const v1::Method& method) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ChosenMethod chosen, Choose(flag, method));
  if (chosen.info->linear) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, ": method must prune any linear map (",
                                                 LinearMethods(), "), got ", method.name()));
}

}  // namespace

absl::StatusOr<std::vector<v1::Run>> MakeRuns(const PruneFlags& flags, JobTensors& tensors) {
  const JobFlags& job = flags.job;
  v1::Run run;
  ATTNPRUNE_ASSIGN_OR_RETURN(*run.mutable_sparsity(), ParseSparsityFlag(job.sparsity));
  ATTNPRUNE_RETURN_IF_ERROR(AddRules(flags, run));
  ATTNPRUNE_RETURN_IF_ERROR(ParseLabels(job.labels, run.mutable_labels()));
  AddWeightsLabel(job.model, run.mutable_labels());
  run.set_priority(job.priority);
  run.set_seed(job.seed);
  run.set_order(flags.order == "independent" ? v1::INDEPENDENT : v1::SEQUENTIAL);
  run.set_held_out_fraction(job.held_out_fraction);
  if (job.timeout > absl::ZeroDuration()) *run.mutable_timeout() = TimeoutOf(job);
  if (!flags.attention_method.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*run.mutable_attention_method(),
                               ParseMethodFlag(flags.attention_method, "--attention-method"));
  }
  std::vector<v1::Method> methods;
  for (const RunVariant& variant : flags.variants) {
    ATTNPRUNE_ASSIGN_OR_RETURN(methods.emplace_back(), ParseMethodFlag(variant.method));
  }
  absl::Status predicts;
  ATTNPRUNE_RETURN_IF_ERROR(AddTokens(flags, tensors, run, predicts));
  ATTNPRUNE_ASSIGN_OR_RETURN(*run.mutable_model(), tensors.AddModel(job.model));
  std::vector<v1::Run> runs(methods.size(), run);
  for (size_t i = 0; i < runs.size(); ++i) {
    *runs[i].mutable_method() = methods[i];
    ATTNPRUNE_RETURN_IF_ERROR(AddVariant(flags.variants[i], predicts, tensors, runs[i]));
  }
  return runs;
}

absl::Status CheckRunMethods(const PruneFlags& flags) {
  for (const RunVariant& variant : flags.variants) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Method method, ParseMethodFlag(variant.method));
    ATTNPRUNE_RETURN_IF_ERROR(CheckLinearMethod(absl::StrCat("--method ", variant.method), method));
  }
  if (!flags.attention_method.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Method method,
                               ParseMethodFlag(flags.attention_method, "--attention-method"));
    ATTNPRUNE_RETURN_IF_ERROR(
        Choose(absl::StrCat("--attention-method ", flags.attention_method), method).status());
  }
  for (const std::string& text : flags.rules) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Rule rule, ParseRuleFlag(text));
    if (!rule.has_method()) continue;
    ATTNPRUNE_RETURN_IF_ERROR(CheckLinearMethod(absl::StrCat("--rule ", text), rule.method()));
  }
  return absl::OkStatus();
}

}  // namespace attnprune::cli
