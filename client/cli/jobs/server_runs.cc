#include "client/cli/jobs/server_runs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/format.h"
#include "client/cli/views/paint.h"
#include "client/cli/views/run_table.h"
#include "client/cli/views/run_view.h"
#include "client/cli/views/waiting_view.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int kLargestRunPage = 1000;
constexpr absl::Duration kRunDrawInterval = absl::Milliseconds(80);

// One watch: a bar or lines for people, JSON for programs.
class RunWatchSession {
 public:
  RunWatchSession(const Shell& shell, const v1::Run& run, Progress progress, WatchOutput output)
      : shell_(shell),
        name_(run.name()),
        output_(output),
        people_(output == WatchOutput::kPeople ? shell.out : shell.err),
        quiet_(progress == Progress::kQuiet),
        columns_(output == WatchOutput::kPeople ? shell.out_columns : shell.err_columns),
        color_(output == WatchOutput::kPeople ? shell.out_color : shell.err_color),
        model_(run),
        waiting_(ForPeople(run)) {}

  // Client::WatchRun, with its events shown.
  absl::StatusOr<v1::Run> Watch(client::Client& client, int64_t after) {
    last_sequence_ = after;
    return client.WatchRun(name_, after, [this](const v1::JobEvent& event) {
      Show(event);
      return shell_.out->good();  // false: the reader is gone, as in `watch | head`
    });
  }

  void TellTable(const v1::Run& ended) const {
    *people_ << "\n" << Painted(RunTable(ForPeople(ended), columns_), color_) << std::flush;
  }
  int64_t last_sequence() const { return last_sequence_; }

 private:
  void Show(const v1::JobEvent& event) {
    last_sequence_ = std::max(last_sequence_, event.sequence());
    if (output_ == WatchOutput::kEvents && !event.has_heartbeat()) {
      *shell_.out << Json(event, JsonStyle::kLine) << std::flush;
    }
    ShowPeople(ForPeople(event));
  }

  void ShowPeople(const v1::JobEvent& event) {
    model_.Apply(event);
    waiting_.Apply(event);
    if (quiet_ && event.has_run_progress()) return;
    if (columns_.has_value() && !quiet_) {
      Redraw(event);
    } else {
      TellLines(event);
      const std::string news = quiet_ ? "" : waiting_.News(absl::Now());
      if (!news.empty()) *people_ << news << std::endl;
    }
  }

  void TellLines(const v1::JobEvent& event) {
    for (const std::string& line : plain_.LinesOf(event, model_))
      *people_ << Painted(line, color_) << std::endl;
  }

  // The bar shows the progress; what it cannot show scrolls by above it. Progress comes faster than
  // anybody can read.
  void Redraw(const v1::JobEvent& event) {
    const absl::Time now = absl::Now();
    if (event.has_run_progress() && now - last_drawn_ < kRunDrawInterval) return;
    last_drawn_ = now;
    for (; drawn_ > 0; --drawn_) *people_ << "\x1b[1A\x1b[2K";
    if (!event.has_run_progress()) TellLines(event);
    const std::string waits = waiting_.Line(now);
    if (!waits.empty()) Draw(waits.substr(0, static_cast<size_t>(*columns_ - 1)));
    Draw(RunBarLine(model_, *columns_ - 1));
    *people_ << std::flush;
  }

  void Draw(const std::string& line) {
    *people_ << Painted(line, color_) << "\n";
    ++drawn_;
  }

  const Shell& shell_;
  const std::string name_;
  const WatchOutput output_;
  std::ostream* const people_;
  const bool quiet_;
  const absl::optional<int> columns_;  // of people_, where it is a terminal
  const Color color_;                  // there
  RunProgressModel model_;
  WaitingView waiting_;
  PlainRunView plain_;
  int drawn_ = 0;  // lines now on the terminal
  absl::Time last_drawn_ = absl::InfinitePast();
  int64_t last_sequence_ = 0;
};

}  // namespace

absl::StatusOr<v1::Run> CreateRun(client::Client& client, const v1::Run& run, SubmitMode mode) {
  v1::CreateRunRequest request;
  *request.mutable_run() = run;
  request.set_validate_only(mode == SubmitMode::kValidateOnly);
  return client.CreateRun(request);
}

absl::StatusOr<v1::ListRunsResponse> ListRuns(client::Client& client, v1::ListRunsRequest request,
                                              int limit) {
  v1::ListRunsResponse all;
  do {
    request.set_page_size(std::min(limit - all.runs_size(), kLargestRunPage));
    request.set_page_token(all.next_page_token());
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListRunsResponse page, client.ListRuns(request));
    all.clear_next_page_token();
    all.MergeFrom(page);
  } while (!all.next_page_token().empty() && all.runs_size() < limit);
  return all;
}

FollowedRunResult FollowRunToEnd(const Shell& shell, client::Client& client, const v1::Run& run,
                                 Progress progress, WatchOutput output, int64_t after) {
  RunWatchSession session(shell, run, progress, output);
  const absl::StatusOr<v1::Run> ended = session.Watch(client, after);
  FollowedRunResult result{.last_sequence = session.last_sequence(), .ended = {}};
  if (!ended.ok()) {
    result.interrupted = absl::IsCancelled(ended.status());
    result.exit_code = result.interrupted ? int{kInterrupted} : ServerError(shell, ended.status());
    return result;
  }
  session.TellTable(*ended);
  result.ended = *ended;
  result.exit_code = ExitCodeOf(shell, *ended);
  return result;
}

int ExitCodeOf(const Shell& shell, const v1::Run& ended) {
  const v1::Run run = ForPeople(ended);
  if (run.state() == v1::SUCCEEDED) return kDone;
  Note(shell, absl::StrCat("attnprune: ", run.name(), " ", StateText(run.state()),
                           run.has_failure() ? ": " : "", run.failure().message(),
                           "; attnprune resume goes on behind its last result"));
  return kFailed;
}

}  // namespace attnprune::cli
