#include "client/cli/output/watch_session.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/output/event_export.h"
#include "client/cli/output/format.h"
#include "client/cli/output/pruned_files.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"

namespace attnprune::cli {
namespace {

constexpr absl::Duration kDrawInterval = absl::Milliseconds(80);

}  // namespace

WatchSession::WatchSession(const Shell& shell, const v1::Job& job, WatchOutput output)
    : shell_(shell),
      job_(job),
      output_(output),
      people_(output == WatchOutput::kPeople ? shell.out : shell.err),
      columns_(output == WatchOutput::kPeople ? shell.out_columns : shell.err_columns),
      model_(job) {}

absl::Status WatchSession::WriteTensorBoard(const std::string& folder) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckTensorBoard(folder, job_));
  if (folder.empty()) return absl::OkStatus();
  tensorboard_ = std::make_unique<exporting::LiveTensorBoard>(
      exporting::TensorBoardFolderOf(folder, job_.name()));
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> WatchSession::Run(client::Client& client, int64_t after_sequence) {
  last_sequence_ = after_sequence;
  return client.Watch(job_.name(), after_sequence, [this](const v1::JobEvent& event) {
    Show(event);
    return shell_.out->good();  // nobody reads any more: `watch | head`
  });
}

void WatchSession::Show(const v1::JobEvent& event) {
  last_sequence_ = std::max(last_sequence_, event.sequence());
  model_.Apply(event);
  recorder_.Apply(event);
  Record(event);
  if (output_ == WatchOutput::kEvents) *shell_.out << Json(event, JsonStyle::kLine) << std::flush;
  if (columns_.has_value()) {
    Redraw(event);
    return;
  }
  const std::string line = plain_.LineOf(event, model_);
  if (!line.empty()) *people_ << line << std::endl;
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

void WatchSession::EraseBars() {
  for (; drawn_ > 0; --drawn_) *people_ << "\x1b[1A\x1b[2K";
}

// Progress comes faster than anybody can read.
void WatchSession::Redraw(const v1::JobEvent& event) {
  const absl::Time now = absl::Now();
  if ((event.has_progress() || event.has_phase()) && now - last_drawn_ < kDrawInterval) return;
  last_drawn_ = now;
  EraseBars();
  // Bars show the progress; what they cannot show scrolls by above them.
  if (event.has_state_change() || !event.warning().empty()) {
    *people_ << plain_.LineOf(event, model_) << "\n";
  }
  for (const std::string& line : BarLines(model_, *columns_ - 1)) {
    *people_ << line << "\n";
    ++drawn_;
  }
  *people_ << std::flush;
}

int WatchSession::SaveCurves(const std::string& plot) const {
  const int code = tensorboard_failed_ ? kFailed : kDone;
  if (plot.empty()) return code;
  const std::string svg = LossPlot(job_.name(), recorder_.curves());
  const absl::Span<const char> bytes = svg;
  absl::Status written = MakeFolderOf(plot);
  if (written.ok()) written = WriteFileAtomically(plot, {bytes});
  if (!written.ok()) return LocalError(shell_, written);
  *people_ << "plot: " << plot << "\n";
  return code;
}

int ExitCodeOf(const Shell& shell, const v1::Job& job) {
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

std::string WhereToGoOn(const std::string& tensorboard, int64_t last_sequence) {
  return tensorboard.empty() ? absl::StrCat("--after ", last_sequence)
                             : absl::StrCat("--tensorboard ", ShellWord(tensorboard));
}

int SayHowToComeBack(const Shell& shell, const std::string& name, const std::string& server,
                     const std::string& where) {
  Note(shell, absl::StrCat("\n", name, " goes on without you. Come back with\n  attnprune watch ",
                           name, " --server ", server, " ", where,
                           "\nor end it with\n  attnprune cancel ", name, " --server ", server));
  return kInterrupted;
}

}  // namespace attnprune::cli
