#include "client/cli/jobs/same_command.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "client/cli/jobs/server_jobs.h"
#include "client/cli/jobs/server_runs.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"

namespace attnprune::cli {
namespace {

constexpr size_t kDigestLength = 16;

// The same bytes for equal messages, whatever the order of a map.
void AppendDeterministic(const google::protobuf::Message& message, std::string& out) {
  google::protobuf::io::StringOutputStream stream(&out);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
}

std::string DigestOfCommand(const std::string& asked_for) {
  return Sha256Of(asked_for).substr(0, kDigestLength);
}

}  // namespace

void LabelCommand(v1::Job& job) {
  std::string asked_for;
  AppendDeterministic(job, asked_for);
  (*job.mutable_labels())[kCommandLabel] = DigestOfCommand(asked_for);
}

void LabelCommand(v1::Run& run) {
  std::string asked_for;
  AppendDeterministic(run, asked_for);
  (*run.mutable_labels())[kCommandLabel] = DigestOfCommand(asked_for);
}

absl::StatusOr<absl::optional<v1::Job>> UnfinishedOf(client::Client& client, const v1::Job& job) {
  v1::ListJobsRequest request;
  (*request.mutable_labels())[kCommandLabel] = job.labels().at(kCommandLabel);
  request.add_states(v1::QUEUED);
  request.add_states(v1::RUNNING);
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListJobsResponse left, ListJobs(client, request, 1));
  if (left.jobs().empty()) return absl::nullopt;
  return left.jobs(0);
}

absl::StatusOr<absl::optional<v1::Run>> RunOfSameCommand(client::Client& client,
                                                         const v1::Run& run) {
  v1::ListRunsRequest request;
  (*request.mutable_labels())[kCommandLabel] = run.labels().at(kCommandLabel);
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListRunsResponse left, ListRuns(client, request, 1));
  if (left.runs().empty()) return absl::nullopt;
  return left.runs(0);
}

}  // namespace attnprune::cli
