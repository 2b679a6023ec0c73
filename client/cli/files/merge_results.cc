#include "client/cli/files/merge_results.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/files/fused_tensors.h"
#include "client/cli/files/pruned_files.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/views/format.h"
#include "client/cli/views/result_table.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune::cli {
namespace {

std::string LayerText(const v1::Job& job) {
  const auto label = job.labels().find(kLayerLabel);
  return label == job.labels().end() ? "-" : label->second;
}

int64_t LayerOrder(const v1::Job& job) {
  int64_t layer = 0;
  return absl::SimpleAtoi(LayerText(job), &layer) ? layer : std::numeric_limits<int64_t>::max();
}

// A tensor's name with its layer's number apart: "model.layers.3.q" is "model.layers.*.q" and 3.
struct NameInLayer {
  std::string kind;
  Index layer = -1;  // -1: no part of the name is a number
};

NameInLayer SplitLayer(const std::string& name) {
  NameInLayer out;
  std::vector<std::string> parts = absl::StrSplit(name, '.');
  for (std::string& part : parts) {
    if (!absl::SimpleAtoi(part, &out.layer)) continue;
    part = "*";
    break;
  }
  out.kind = absl::StrJoin(parts, ".");
  return out;
}

// Whose checkpoint or mask file it is: "gd", or kEachLayersBest of several.
std::string MethodOf(const std::vector<MergePart>& parts) {
  const std::string& first = parts.front().result->method();
  const bool one = std::all_of(parts.begin(), parts.end(), [&first](const MergePart& part) {
    return part.result->method() == first;
  });
  return one ? first : kEachLayersBest;
}

// Methods with a result in every job, in the order of the first; what another job lacks is noted.
std::vector<std::string> CommonMethods(const Shell& shell, const std::vector<v1::Job>& jobs) {
  std::vector<std::string> common;
  for (const v1::MethodResult& result : jobs.front().results()) {
    const auto lacks = std::find_if(jobs.begin(), jobs.end(), [&result](const v1::Job& job) {
      return !ResultOf(job, result.method()).ok();
    });
    if (lacks == jobs.end()) {
      common.push_back(result.method());
    } else {
      Note(shell, absl::StrCat("note: no checkpoint of ", result.method(), ", as ", lacks->name(),
                               " has no result of it"));
    }
  }
  return common;
}

// Hashes every weight that was pruned. CANCELLED: interrupted.
absl::Status CheckSourceOfAll(const Shell& shell, const std::vector<v1::Job>& jobs,
                              const Checkpoint& source, const std::string& path) {
  for (const v1::Job& job : jobs) {
    if (shell.interrupt.stop_requested()) return absl::CancelledError("interrupted");
    ATTNPRUNE_RETURN_IF_ERROR(CheckSource(job, source, path));
  }
  return absl::OkStatus();
}

void NoteLayersLeft(const Shell& shell, const std::vector<MergePart>& parts,
                    const Checkpoint& source) {
  const std::vector<Index> left = LayersLeft(parts, source);
  if (left.empty()) return;
  Note(shell, absl::StrCat("note: no job pruned ", left.size() == 1 ? "layer " : "layers ",
                           absl::StrJoin(left, ", "), "; written as in the model"));
}

absl::StatusOr<std::vector<PrunedTensor>> DownloadAll(client::Client& client,
                                                      const std::vector<MergePart>& parts) {
  std::vector<PrunedTensor> all;
  for (const MergePart& part : parts) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<PrunedTensor> tensors,
                               DownloadPruned(client, *part.result));
    std::move(tensors.begin(), tensors.end(), std::back_inserter(all));
  }
  return all;
}

int MergeOne(const Shell& shell, std::ostream& told, client::Client& client,
             const std::vector<v1::Job>& jobs, const Checkpoint& source, const SaveFlags& flags) {
  ATTNPRUNE_ASSIGN_OR_EXIT(LocalError, const std::vector<MergePart> parts,
                           ChooseParts(jobs, flags.method));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const std::vector<PrunedTensor> tensors,
                           DownloadAll(client, parts));
  told << MergeTable(parts);
  NoteLayersLeft(shell, parts, source);
  return WriteFiles(shell, told, tensors, MethodOf(parts), flags);
}

}  // namespace

absl::StatusOr<std::vector<MergePart>> ChooseParts(const std::vector<v1::Job>& jobs,
                                                   const std::string& method) {
  std::vector<std::string> unfinished;
  for (const v1::Job& job : jobs) {
    if (job.state() == v1::SUCCEEDED) continue;
    unfinished.push_back(
        absl::StrCat(job.name(), " (layer ", LayerText(job), ") is ", StateText(job.state())));
  }
  if (!unfinished.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("every job must have succeeded: ", absl::StrJoin(unfinished, "; ")));
  }
  std::vector<MergePart> parts;
  for (const v1::Job& job : jobs) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::MethodResult* result, ResultOf(job, method));
    parts.push_back({&job, result});
  }
  std::stable_sort(parts.begin(), parts.end(), [](const MergePart& a, const MergePart& b) {
    return LayerOrder(*a.job) < LayerOrder(*b.job);
  });
  return parts;
}

absl::Status CheckNoTensorTwice(const std::vector<MergePart>& parts) {
  std::map<std::string, std::string> writers;
  for (const MergePart& part : parts) {
    for (const v1::MatrixResult& matrix : part.result->matrices()) {
      const auto [writer, first] = writers.insert({NameOf(matrix), part.job->name()});
      if (first) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "two jobs must not prune the same tensor: ", writer->second, " and ", part.job->name(),
          " both prune ", Quoted(writer->first), "; name the jobs to merge"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTensorsAreThere(const std::vector<MergePart>& parts, const Checkpoint& source) {
  for (const MergePart& part : parts) {
    for (const v1::MatrixResult& matrix : part.result->matrices()) {
      if (source.Contains(StoredName(NameOf(matrix)))) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("a merged job must have pruned tensors of the model: ", part.job->name(),
                       " pruned ", Quoted(NameOf(matrix)), ", which it does not have"));
    }
  }
  return absl::OkStatus();
}

std::vector<Index> LayersLeft(const std::vector<MergePart>& parts, const Checkpoint& source) {
  std::set<std::string> written, kinds;
  for (const MergePart& part : parts) {
    for (const v1::MatrixResult& matrix : part.result->matrices()) {
      written.insert(StoredName(NameOf(matrix)));
      kinds.insert(SplitLayer(StoredName(NameOf(matrix))).kind);
    }
  }
  std::set<Index> left;
  for (const std::string& name : source.names()) {
    const NameInLayer split = SplitLayer(name);
    if (split.layer < 0 || written.contains(name) || !kinds.contains(split.kind)) continue;
    left.insert(split.layer);
  }
  return {left.begin(), left.end()};
}

std::string MergeTable(const std::vector<MergePart>& parts) {
  std::vector<std::vector<std::string>> rows = {
      {"layer", "job", "method", "held out", "calibration", "pruned %"}};
  for (const auto& [job, result] : parts) {
    const auto& error = result->relative_error();
    rows.push_back({LayerText(*job), job->name(), result->method(),
                    error.has_held_out() ? absl::StrFormat("%.5f", error.held_out()) : "-",
                    absl::StrFormat("%.5f", error.calibration()),
                    absl::StrFormat("%.2f", 100 * result->sparsity())});
  }
  return TableText(rows);
}

absl::Status CheckMergeOutput(const std::string& source, const std::string& output) {
  std::error_code error;
  const bool folder = std::filesystem::is_directory(source, error);
  if (!folder || !absl::EndsWith(output, ".safetensors")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--output must be a folder, for the whole model, got ", output));
}

int MergeResults(const Shell& shell, std::ostream& told, client::Client& client,
                 const std::vector<v1::Job>& jobs, const SaveFlags& flags) {
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const Checkpoint source, Checkpoint::Open(flags.source));
  if (const absl::Status fits = CheckSourceOfAll(shell, jobs, source, flags.source); !fits.ok()) {
    return absl::IsCancelled(fits) ? Interrupted(shell) : UsageError(shell, fits);
  }
  // Before CommonMethods asks for results that unfinished jobs cannot have. Every method of a job
  // prunes the same tensors.
  ATTNPRUNE_ASSIGN_OR_EXIT(LocalError, const std::vector<MergePart> parts,
                           ChooseParts(jobs, flags.method));
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckNoTensorTwice(parts));
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckTensorsAreThere(parts, source));
  std::vector<std::string> methods;
  if (flags.method.empty() && NamesEachMethod(flags)) {
    methods = CommonMethods(shell, jobs);
    if (methods.empty()) {
      return LocalError(shell, absl::NotFoundError("no method has a result in every job"));
    }
  }
  std::vector<std::string> ours = {MethodOf(parts)};
  if (flags.method.empty()) {
    ours.emplace_back(kEachLayersBest);
    for (const v1::MethodResult& result : jobs.front().results()) ours.push_back(result.method());
  }
  return SaveByMethod(shell, flags, methods, ours, [&](const SaveFlags& one) {
    return MergeOne(shell, told, client, jobs, source, one);
  });
}

}  // namespace attnprune::cli
