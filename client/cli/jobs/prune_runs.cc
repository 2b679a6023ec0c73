#include "client/cli/jobs/prune_runs.h"

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/files/save_results.h"
#include "client/cli/files/staged_files.h"
#include "client/cli/jobs/own_server.h"
#include "client/cli/jobs/same_command.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/format.h"
#include "client/cli/views/run_table.h"
#include "client/export/path_part.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

// What the run would lose if it were written over.
std::vector<std::string> InputsOf(const PruneFlags& flags) {
  const TokenFlags& tokens = flags.job.tokens;
  std::vector<std::string> inputs;
  for (const std::string* text :
       {&tokens.text, &tokens.tokens, &flags.held_out_text, &flags.held_out_tokens}) {
    if (!text->empty()) inputs.push_back(SplitFileAndName(*text).first);
  }
  return inputs;
}

// `place` for each of a comparison's models.
std::vector<RunPlaces> PlacesByLabel(const RunPlaces& place,
                                     const std::vector<RunVariant>& variants) {
  std::vector<RunPlaces> places;
  for (const RunVariant& variant : variants) {
    RunPlaces& one = places.emplace_back(place);
    one.label = variant.label;
    if (!one.output.empty()) one.output = InFolder(place.output, exporting::PathPart(one.label));
    one.masks = WithMethod(place.masks, one.label);
  }
  return places;
}

std::vector<std::string> RunLabelsOf(const std::vector<RunPlaces>& places) {
  std::vector<std::string> labels;
  for (const RunPlaces& place : places) labels.push_back(place.label);
  return labels;
}

absl::StatusOr<v1::Run> CreateOrTakeUp(const Shell& shell, client::Client& client,
                                       const v1::Run& run, SubmitMode mode) {
  if (!run.labels().contains(kCommandLabel)) return CreateRun(client, run, mode);
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto left, RunOfSameCommand(client, run));
  if (!left.has_value()) return CreateRun(client, run, mode);
  NoteGoesOn(shell, left->name());
  const bool stopped = left->state() == v1::FAILED || left->state() == v1::CANCELLED;
  return stopped ? client.ResumeRun(left->name()) : *left;
}

// Writes what succeeded. Returns the first exit code that is not kDone.
int SaveRuns(const Shell& shell, std::ostream& told, client::Client& client,
             const std::vector<v1::Run>& ended, const std::vector<RunPlaces>& places) {
  int code = kDone;
  for (size_t i = 0; i < ended.size(); ++i) {
    if (ended[i].state() != v1::SUCCEEDED) continue;
    const int saved = SaveRun(shell, told, client, ended[i], places[i]);
    if (code == kDone) code = saved;
  }
  return code;
}

}  // namespace

absl::StatusOr<std::vector<RunPlaces>> PlacesOf(const PruneFlags& flags) {
  const JobFlags& job = flags.job;
  const RunPlaces place{.label = flags.variants.front().label,
                        .model = job.model,
                        .output = job.output,
                        .masks = job.save_mask,
                        .format = FormatOf(flags.format),
                        .overwrite = job.overwrite};
  std::vector<RunPlaces> places = {place};
  if (flags.compare) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckOutputFolder(job.output, job.model, job.overwrite));
    places = PlacesByLabel(place, flags.variants);
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckRunPlaces(places, InputsOf(flags)));
  return places;
}

absl::StatusOr<std::vector<v1::Run>> SubmitRuns(const Shell& shell, client::Client& client,
                                                const std::vector<v1::Run>& runs,
                                                const JobTensors& tensors, SubmitMode mode) {
  if (mode == SubmitMode::kCreate) ATTNPRUNE_RETURN_IF_ERROR(UploadAll(shell, client, tensors));
  std::vector<v1::Run> submitted;
  for (const v1::Run& run : runs) {
    ATTNPRUNE_ASSIGN_OR_RETURN(submitted.emplace_back(), CreateOrTakeUp(shell, client, run, mode));
  }
  return submitted;
}

PrunedModels FollowRuns(const Shell& shell, client::Client& client,
                        const std::vector<v1::Run>& runs, const std::vector<RunPlaces>& places,
                        bool quiet, bool json) {
  std::ostream& people = json ? *shell.err : *shell.out;
  const WatchOutput output = json ? WatchOutput::kPeopleOnErr : WatchOutput::kPeople;
  PrunedModels models;
  std::vector<v1::Run> ended;
  for (v1::Run run : runs) {
    if (!ended.empty()) run.clear_waiting();  // as it was before the others ended
    people << (ended.empty() ? "" : "\n") << Printable(run.name()) << "  "
           << MethodsText(ForPeople(run)) << std::endl;
    const FollowedRunResult followed =
        FollowRunToEnd(shell, client, run, quiet ? Progress::kQuiet : Progress::kShown, output);
    if (models.exit_code == kDone) models.exit_code = followed.exit_code;
    models.last_sequence = followed.last_sequence;
    if (followed.interrupted) models.goes_on = run;
    if (!followed.ended.has_value()) return models;
    ended.push_back(*followed.ended);
  }
  if (json) {
    *shell.out << (ended.size() == 1 ? Json(ended.front(), JsonStyle::kIndented)
                                     : Json(ListOf(ended), JsonStyle::kIndented));
  }
  if (ended.size() > 1) {
    people << "\n"
           << LossTable(RunLabelsOf(places), ended, json ? shell.err_columns : shell.out_columns);
  }
  const int saved = SaveRuns(shell, people, client, ended, places);
  models.unsaved = saved == kFailed || absl::c_any_of(ended, [](const v1::Run& run) {
                     return run.state() == v1::FAILED && run.results_done() > 0;
                   });
  if (models.exit_code == kDone) models.exit_code = saved;
  return models;
}

int SayRunGoesOn(const Shell& shell, const PrunedModels& models, const std::string& server) {
  const std::string& name = models.goes_on->name();
  SayHowToResume(shell, name, server, "", models.last_sequence);
  Note(shell, absl::StrCat("and when it has succeeded, write its model with\n  attnprune fetch ",
                           name, " --output DIR --server ", server));
  return kInterrupted;
}

v1::ListRunsResponse ListOf(const std::vector<v1::Run>& runs) {
  v1::ListRunsResponse list;
  list.mutable_runs()->Assign(runs.begin(), runs.end());
  return list;
}

}  // namespace attnprune::cli
