#include "client/cli/jobs/submission.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/files/save_results.h"
#include "client/cli/views/format.h"
#include "client/cli/views/result_table.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int64_t kWorthALine = int64_t{64} << 20;  // bytes of an upload

// Shown on a terminal, and gone when it is done.
client::UploadObserver UploadLine(const Shell& shell) {
  if (!shell.err_columns.has_value()) return nullptr;
  return [&shell](const client::UploadProgress& progress) {
    if (progress.total_bytes < kWorthALine) return;
    *shell.err << "\r\x1b[2Kuploading " << BytesText(progress.sent_bytes) << " of "
               << BytesText(progress.total_bytes) << std::flush;
    if (progress.sent_bytes >= progress.total_bytes) *shell.err << "\r\x1b[2K" << std::flush;
  };
}

}  // namespace

absl::Status UploadAll(const Shell& shell, client::Client& client, const JobTensors& tensors) {
  return client.Upload(tensors.all(), UploadLine(shell)).status();
}

absl::StatusOr<v1::Job> Create(client::Client& client, const v1::Job& job,
                               const std::string& request_id, SubmitMode mode) {
  v1::CreateJobRequest request;
  *request.mutable_job() = job;
  request.set_request_id(request_id);
  request.set_validate_only(mode == SubmitMode::kValidateOnly);
  return client.CreateJob(request);
}

absl::StatusOr<v1::Job> Submit(const Shell& shell, client::Client& client, const v1::Job& job,
                               const JobTensors& tensors, SubmitMode mode) {
  ATTNPRUNE_RETURN_IF_ERROR(UploadAll(shell, client, tensors));
  return Create(client, job, "", mode);
}

FollowResult FollowToEnd(const Shell& shell, client::Client& client, const v1::Job& job,
                         const CurveFiles& files, WatchOutput output) {
  WatchSession session(shell, job, output);
  if (const absl::Status recorded = session.WriteTensorBoard(files.tensorboard); !recorded.ok()) {
    return {.exit_code = UsageError(shell, recorded), .ended = {}};
  }
  const absl::StatusOr<v1::Job> ended = session.Run(client, 0);
  FollowResult result{.last_sequence = session.last_sequence(), .ended = {}};
  if (!ended.ok()) {
    result.interrupted = absl::IsCancelled(ended.status());
    result.exit_code = result.interrupted ? int{kInterrupted} : ServerError(shell, ended.status());
    return result;
  }
  session.people() << "\n" << ResultTable(*ended) << std::flush;
  result.ended = *ended;
  result.exit_code = ExitCodeOf(shell, *ended);
  const int plotted = session.SaveCurves(files.plot);
  if (result.exit_code == kDone) result.exit_code = plotted;
  return result;
}

FollowResult Follow(const Shell& shell, client::Client& client, const v1::Job& job,
                    const JobFlags& flags, bool json) {
  FollowResult result = FollowToEnd(shell, client, job, {flags.plot, flags.tensorboard},
                                    json ? WatchOutput::kPeopleOnErr : WatchOutput::kPeople);
  if (!result.ended.has_value()) return result;
  if (json) *shell.out << Json(*result.ended, JsonStyle::kIndented);
  if (result.ended->state() != v1::SUCCEEDED) return result;
  std::ostream& people = json ? *shell.err : *shell.out;
  const int saved = SaveResults(shell, people, client, *result.ended,
                                {.method = {},
                                 .output = flags.output,
                                 .masks = flags.save_mask,
                                 .source = flags.model.empty() ? flags.weights : flags.model});
  people << std::flush;
  if (result.exit_code == kDone) result.exit_code = saved;
  return result;
}

}  // namespace attnprune::cli
