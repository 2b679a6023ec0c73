// From several ended jobs, of one model's layers, to one checkpoint.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_MERGE_RESULTS_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_MERGE_RESULTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/save_results.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"
#include "core/io/checkpoint.h"

namespace attnprune::cli {

// What a merge takes from one job. Pointers into the jobs.
struct MergePart {
  const v1::Job* job;
  const v1::MethodResult* result;
};

// The result of `method` (empty: the best) of each job, by their layer labels; jobs without one
// come last. FAILED_PRECONDITION names the jobs that have not succeeded, NOT_FOUND a job that has
// no such result. Pure.
absl::StatusOr<std::vector<MergePart>> ChooseParts(const std::vector<v1::Job>& jobs,
                                                   const std::string& method);

// INVALID_ARGUMENT names a tensor that two parts would write, and their jobs. Pure.
absl::Status CheckNoTensorTwice(const std::vector<MergePart>& parts);

// INVALID_ARGUMENT names a tensor that the model has not, such as the product of two factors, and
// the job that pruned it. Pure.
absl::Status CheckTensorsAreThere(const std::vector<MergePart>& parts, const Checkpoint& source);

// The layers whose tensors, of the kinds that the parts write, no part writes: the first number of
// a tensor's name is its layer. Pure.
std::vector<Index> LayersLeft(const std::vector<MergePart>& parts, const Checkpoint& source);

// What comes from where: a table with a heading.
std::string MergeTable(const std::vector<MergePart>& parts);

// INVALID_ARGUMENT if `output` is a file's name where the source is a folder.
absl::Status CheckMergeOutput(const std::string& source, const std::string& output);

// Writes what `flags` ask for: flags.source, which must be given and no place of the output
// (output_check.h), with the weights of all jobs in their places. With {method} in a name: a
// checkpoint for each method that every job has. Checks everything before the first byte is
// written, and holds all pruned weights in memory. Tells the
// tables and the files on `told`. Returns an exit code, errors told; an interrupt ends it between
// two tensors or files, with the checkpoint that was being written as it was before.
int MergeResults(const Shell& shell, std::ostream& told, client::Client& client,
                 const std::vector<v1::Job>& jobs, const SaveFlags& flags);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_MERGE_RESULTS_H_
