#include "client/cli/jobs/server_jobs.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/files/event_export.h"
#include "client/cli/files/save_results.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/format.h"
#include "client/cli/views/paint.h"
#include "client/cli/views/progress_view.h"
#include "client/cli/views/result_table.h"
#include "client/cli/views/waiting_view.h"
#include "client/export/tensorboard_folder.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int64_t kShownFrom = int64_t{64} << 20;  // bytes of an upload
constexpr int kLargestPage = 1000;
constexpr absl::Duration kDrawInterval = absl::Milliseconds(80);

// Shown on a terminal, and gone when it is done.
client::UploadObserver UploadLine(const Shell& shell) {
  if (!shell.err_columns.has_value()) return nullptr;
  return [&shell](const client::UploadProgress& progress) {
    if (progress.total_bytes < kShownFrom) return;
    *shell.err << "\r\x1b[2Kuploading " << BytesText(progress.sent_bytes) << " of "
               << BytesText(progress.total_bytes) << std::flush;
    if (progress.sent_bytes >= progress.total_bytes) *shell.err << "\r\x1b[2K" << std::flush;
  };
}

// One watch: bars or lines for people, JSON for programs, TensorBoard's files.
class WatchSession {
 public:
  WatchSession(const Shell& shell, const v1::Job& job, const WatchWishes& wishes,
               WatchOutput output)
      : shell_(shell),
        job_(job),
        output_(output),
        people_(output == WatchOutput::kPeople ? shell.out : shell.err),
        quiet_(wishes.quiet),
        columns_(output == WatchOutput::kPeople ? shell.out_columns : shell.err_columns),
        color_(output == WatchOutput::kPeople ? shell.out_color : shell.err_color),
        model_(ForPeople(job)),
        waiting_(ForPeople(job)) {}

  // Before Run. Errors: of CheckTensorBoard.
  absl::Status WriteTensorBoard(const std::string& folder) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckTensorBoard(folder, job_));
    if (folder.empty()) return absl::OkStatus();
    tensorboard_ = std::make_unique<exporting::LiveTensorBoard>(
        exporting::TensorBoardFolderOf(folder, job_.name()));
    return absl::OkStatus();
  }

  // Client::Watch, with its events shown.
  absl::StatusOr<v1::Job> Run(client::Client& client, int64_t after) {
    last_sequence_ = after;
    return client.Watch(job_.name(), after, [this](const v1::JobEvent& event) {
      Show(event);
      return shell_.out->good();  // false: the reader is gone, as in `watch | head`
    });
  }

  bool tensorboard_failed() const { return tensorboard_failed_; }
  void TellTable(const v1::Job& ended) const {
    *people_ << "\n" << Painted(ResultTable(ForPeople(ended), columns_), color_) << std::flush;
  }
  int64_t last_sequence() const { return last_sequence_; }

 private:
  void Show(const v1::JobEvent& event);
  void ShowPeople(const v1::JobEvent& event);
  void Record(const v1::JobEvent& event);
  void Redraw(const v1::JobEvent& event);
  void Draw(const std::string& line);

  const Shell& shell_;
  const v1::Job job_;
  const WatchOutput output_;
  std::ostream* const people_;
  const bool quiet_;
  const absl::optional<int> columns_;  // of people_, where it is a terminal
  const Color color_;                  // there
  ProgressModel model_;
  WaitingView waiting_;
  PlainView plain_;
  std::unique_ptr<exporting::LiveTensorBoard> tensorboard_;  // nullptr: not wanted, or given up
  bool tensorboard_failed_ = false;
  size_t drawn_ = 0;  // lines of bars now on the terminal
  absl::Time last_drawn_ = absl::InfinitePast();
  int64_t last_sequence_ = 0;
};

void WatchSession::Show(const v1::JobEvent& event) {
  last_sequence_ = std::max(last_sequence_, event.sequence());
  Record(event);
  if (output_ == WatchOutput::kEvents && !event.has_heartbeat()) {
    *shell_.out << Json(event, JsonStyle::kLine) << std::flush;
  }
  ShowPeople(ForPeople(event));
}

void WatchSession::ShowPeople(const v1::JobEvent& event) {
  model_.Apply(event);
  waiting_.Apply(event);
  if (quiet_ && (event.has_progress() || event.has_phase())) return;
  if (columns_.has_value() && !quiet_) {
    Redraw(event);
    return;
  }
  const std::string line = plain_.LineOf(event, model_);
  if (!line.empty()) *people_ << Painted(line, color_) << std::endl;
  const std::string news = quiet_ ? "" : waiting_.News(absl::Now());
  if (!news.empty()) *people_ << news << std::endl;
}

// The job's watch is worth more than its files.
void WatchSession::Record(const v1::JobEvent& event) {
  if (tensorboard_ == nullptr) return;
  const absl::Status written = tensorboard_->Add(event, absl::Now());
  if (written.ok()) return;
  tensorboard_.reset();
  tensorboard_failed_ = true;
  LocalError(shell_, written);
}

// Progress comes faster than anybody can read.
void WatchSession::Redraw(const v1::JobEvent& event) {
  const absl::Time now = absl::Now();
  if ((event.has_progress() || event.has_phase()) && now - last_drawn_ < kDrawInterval) return;
  last_drawn_ = now;
  for (; drawn_ > 0; --drawn_) *people_ << "\x1b[1A\x1b[2K";
  // Bars show the progress; what they cannot show scrolls by above them.
  if (event.has_state_change() || !event.warning().empty()) {
    *people_ << Painted(plain_.LineOf(event, model_), color_) << "\n";
  }
  const std::string waits = waiting_.Line(now);
  if (!waits.empty()) Draw(waits.substr(0, static_cast<size_t>(*columns_ - 1)));
  for (const std::string& line : BarLines(model_, *columns_ - 1)) Draw(line);
  *people_ << std::flush;
}

void WatchSession::Draw(const std::string& line) {
  *people_ << Painted(line, color_) << "\n";
  ++drawn_;
}

}  // namespace

absl::Status UploadAll(const Shell& shell, client::Client& client, const JobTensors& tensors) {
  return client.Upload(tensors.all(), UploadLine(shell)).status();
}

absl::StatusOr<v1::Job> Submit(const Shell& shell, client::Client& client, const v1::Job& job,
                               const JobTensors& tensors, SubmitMode mode) {
  if (mode == SubmitMode::kCreate) ATTNPRUNE_RETURN_IF_ERROR(UploadAll(shell, client, tensors));
  v1::CreateJobRequest request;
  *request.mutable_job() = job;
  request.set_validate_only(mode == SubmitMode::kValidateOnly);
  return client.CreateJob(request);
}

absl::StatusOr<v1::ListJobsResponse> ListJobs(client::Client& client, v1::ListJobsRequest request,
                                              int limit) {
  v1::ListJobsResponse all;
  do {
    request.set_page_size(std::min(limit - all.jobs_size(), kLargestPage));
    request.set_page_token(all.next_page_token());
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::ListJobsResponse page, client.ListJobs(request));
    all.clear_next_page_token();
    all.MergeFrom(page);
  } while (!all.next_page_token().empty() && all.jobs_size() < limit);
  return all;
}

FollowResult FollowToEnd(const Shell& shell, client::Client& client, const v1::Job& job,
                         const WatchWishes& wishes, WatchOutput output, int64_t after) {
  WatchSession session(shell, job, wishes, output);
  if (const absl::Status recorded = session.WriteTensorBoard(wishes.tensorboard); !recorded.ok()) {
    return {.exit_code = UsageError(shell, recorded), .ended = {}};
  }
  const absl::StatusOr<v1::Job> ended = session.Run(client, after);
  FollowResult result{.last_sequence = session.last_sequence(), .ended = {}};
  if (!ended.ok()) {
    result.interrupted = absl::IsCancelled(ended.status());
    result.exit_code = result.interrupted ? int{kInterrupted} : ServerError(shell, ended.status());
    return result;
  }
  session.TellTable(*ended);
  result.ended = *ended;
  result.exit_code = ExitCodeOf(shell, *ended);
  if (result.exit_code == kDone && session.tensorboard_failed()) result.exit_code = kFailed;
  return result;
}

FollowResult Follow(const Shell& shell, client::Client& client, const v1::Job& job,
                    const JobFlags& flags, bool json) {
  FollowResult result = FollowToEnd(shell, client, job, {flags.tensorboard, flags.quiet},
                                    json ? WatchOutput::kPeopleOnErr : WatchOutput::kPeople);
  if (!result.ended.has_value()) return result;
  if (json) *shell.out << Json(*result.ended, JsonStyle::kIndented);
  if (result.ended->state() != v1::SUCCEEDED) return result;
  std::ostream& people = json ? *shell.err : *shell.out;
  const int saved = SaveResults(shell, people, client, *result.ended, SaveFlagsOf(flags));
  people << std::flush;
  result.unsaved = saved == kFailed;
  if (result.exit_code == kDone) result.exit_code = saved;
  return result;
}

int ExitCodeOf(const Shell& shell, const v1::Job& ended) {
  const v1::Job job = ForPeople(ended);
  if (job.state() != v1::SUCCEEDED) {
    Note(shell, absl::StrCat("attnprune: ", job.name(), " ", StateText(job.state()),
                             job.has_failure() ? ": " : "", job.failure().message()));
    return kFailed;
  }
  for (const v1::MethodResult& result : job.results()) {
    if (!result.has_failure()) continue;
    Note(shell,
         absl::StrCat("attnprune: ", result.method(), " failed: ", result.failure().message()));
    return kFailed;
  }
  return kDone;
}

int SayHowToResume(const Shell& shell, const std::string& name, const std::string& server,
                   const std::string& tensorboard, int64_t last_sequence) {
  Note(shell,
       absl::StrCat("\n", name, " goes on without you. Come back with\n  attnprune watch ", name,
                    " --server ", server,
                    tensorboard.empty() ? absl::StrCat(" --after ", last_sequence)
                                        : absl::StrCat(" --tensorboard ", ShellWord(tensorboard)),
                    "\nor end it with\n  attnprune cancel ", name, " --server ", server));
  return kInterrupted;
}

}  // namespace attnprune::cli
