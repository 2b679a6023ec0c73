#include "client/cli/jobs/model_run.h"

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/files/merge_results.h"
#include "client/cli/jobs/make_job.h"
#include "client/cli/views/format.h"
#include "client/cli/views/result_table.h"
#include "core/base/status_macros.h"
#include "trace/trace_context.h"

namespace attnprune::cli {
namespace {

constexpr char kLayer[] = "{layer}";
constexpr size_t kIdLength = 12;
constexpr size_t kLongestId = 90;  // so that a request_id has room for the rest

absl::Status CheckNamesLayer(const char* flag, const char* what, const std::string& text) {
  if (text.empty() || absl::StrContains(text, kLayer)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " must have {layer} in it with --layer all, a ", what, " for each, got ", text));
}

// An error of flags beyond those of one job.
absl::Status CheckFlags(const JobFlags& flags) {
  if (flags.model.empty()) return absl::InvalidArgumentError("--layer needs --model DIR");
  ATTNPRUNE_RETURN_IF_ERROR(CheckNamesLayer("--plot", "file", flags.plot));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNamesLayer("--tensorboard", "folder", flags.tensorboard));
  return CheckMergeOutput(flags.model, flags.output);
}

using Inputs = google::protobuf::RepeatedPtrField<v1::TensorRef>;

// Every layer has an input of its own; where two share one, a name was forgotten.
absl::Status CheckInputsDiffer(const std::vector<v1::Job>& jobs, const char* flag,
                               const Inputs& (v1::Job::*inputs_of)() const) {
  std::map<std::string, size_t> layers;
  for (size_t layer = 0; layer < jobs.size(); ++layer) {
    for (const v1::TensorRef& input : (jobs[layer].*inputs_of)()) {
      const size_t other = layers.insert({input.sha256(), layer}).first->second;
      if (other == layer) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          flag, " must give each layer its own input with --layer all: ", "layers ", other, " and ",
          layer, " both get ", input.name(), "; use FILE:NAME with {layer} in it"));
    }
  }
  return absl::OkStatus();
}

// "layer 3 of jobs/x" is told by its place: the jobs are in the order of the layers.
std::string RequestId(const ModelRun& run, size_t layer) {
  return absl::StrCat("model-run/", run.id, "/layer/", layer);
}

void NoteLayersWithout(const Shell& shell, const std::vector<std::string>& layers,
                       const JobFlags& flags) {
  const std::string from = flags.output.empty() || absl::StrContains(flags.output, "{method}")
                               ? ""
                               : absl::StrCat(" --model ", flags.output);
  Note(shell, absl::StrCat("note: layer ", absl::StrJoin(layers, ", "), " of ", flags.model,
                           " has no result, the others are written. Once the cause is mended, go "
                           "on with --layer ",
                           layers.front(), from, " and another --output"));
}

// Merges what there is, and says what is not.
int SaveModelRun(const Shell& shell, std::ostream& told, client::Client& client,
                 const std::vector<v1::Job>& ended, const JobFlags& flags) {
  if (flags.output.empty() && flags.save_mask.empty()) return kDone;
  std::vector<v1::Job> good;
  std::vector<std::string> bad;
  for (size_t layer = 0; layer < ended.size(); ++layer) {
    if (ended[layer].state() == v1::SUCCEEDED && ResultOf(ended[layer], "").ok()) {
      good.push_back(ended[layer]);
    } else {
      bad.push_back(absl::StrCat(layer));
    }
  }
  if (good.empty()) return kDone;  // each layer's end is told already
  if (!bad.empty()) NoteLayersWithout(shell, bad, flags);
  told << "\n";
  return MergeResults(shell, told, client, good,
                      {.method = {},
                       .output = flags.output,
                       .masks = flags.save_mask,
                       .source = flags.model,
                       .overwrite = flags.overwrite});
}

std::string WithLayer(const std::string& text, size_t layer) {
  return absl::StrReplaceAll(text, {{kLayer, absl::StrCat(layer)}});
}

}  // namespace

std::string LabelOf(const ModelRun& run) { return absl::StrCat(kModelRunLabel, "=", run.id); }

absl::StatusOr<ModelRun> MakeModelRun(const JobFlags& flags, JobTensors& tensors) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckFlags(flags));
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelWeights* model, tensors.Model(flags.model));
  const Index layers = model->options().layer_count();
  ModelRun run{.id = NewRequestId().substr(0, kIdLength), .jobs = {}};
  for (Index layer = 0; layer < layers; ++layer) {
    JobFlags one = flags;
    one.layer = layer;
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::Job job, MakeJob(one, tensors));
    run.id = job.mutable_labels()->insert({kModelRunLabel, run.id}).first->second;
    run.jobs.push_back(job);
  }
  if (run.id.empty() || run.id.size() > kLongestId) {
    return absl::InvalidArgumentError(absl::StrCat("--label ", kModelRunLabel, " must have 1 to ",
                                                   kLongestId, " characters, got ", run.id.size()));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckInputsDiffer(run.jobs, "--calibration", &v1::Job::calibration));
  ATTNPRUNE_RETURN_IF_ERROR(CheckInputsDiffer(run.jobs, "--held-out", &v1::Job::held_out));
  ATTNPRUNE_RETURN_IF_ERROR(CheckJobOutputs(flags));
  return run;
}

SubmittedRun SubmitModelRun(const Shell& shell, client::Client& client, const ModelRun& run,
                            const JobTensors& tensors, SubmitMode mode) {
  SubmittedRun submitted;
  submitted.status = UploadAll(shell, client, tensors);
  for (size_t layer = 0; layer < run.jobs.size() && submitted.status.ok(); ++layer) {
    const auto created = Create(client, run.jobs[layer], RequestId(run, layer), mode);
    submitted.status = created.status();
    if (created.ok()) submitted.jobs.push_back(*created);
  }
  return submitted;
}

FollowedRun FollowModelRun(const Shell& shell, client::Client& client,
                           const std::vector<v1::Job>& jobs, const JobFlags& flags, bool json) {
  std::ostream& people = json ? *shell.err : *shell.out;
  const WatchOutput output = json ? WatchOutput::kPeopleOnErr : WatchOutput::kPeople;
  FollowedRun followed;
  std::vector<v1::Job> ended;
  for (size_t layer = 0; layer < jobs.size(); ++layer) {
    people << (layer == 0 ? "" : "\n") << "layer " << layer << " of " << jobs.size() << ": "
           << jobs[layer].name() << std::endl;
    const FollowResult result = FollowToEnd(
        shell, client, jobs[layer],
        {WithLayer(flags.plot, layer), WithLayer(flags.tensorboard, layer), flags.quiet}, output);
    if (followed.exit_code == kDone) followed.exit_code = result.exit_code;
    followed.interrupted = result.interrupted;
    if (!result.ended.has_value()) return followed;
    ended.push_back(*result.ended);
  }
  if (json) *shell.out << Json(ListOf(ended), JsonStyle::kIndented);
  people << "\n" << LayerTable(ended);
  const int saved = SaveModelRun(shell, people, client, ended, flags);
  people << std::flush;
  followed.unsaved = saved == kFailed;
  if (followed.exit_code == kDone) followed.exit_code = saved;
  return followed;
}

}  // namespace attnprune::cli
