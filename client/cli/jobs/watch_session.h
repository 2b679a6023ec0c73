// Watching a job: bars or lines for people, JSON for programs, the curves as files.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_WATCH_SESSION_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_WATCH_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "attnprune/v1/prune_service.pb.h"
#include "client/cli/shell/shell.h"
#include "client/cli/views/loss_plot.h"
#include "client/cli/views/progress_view.h"
#include "client/export/tensorboard_folder.h"
#include "client/library/client.h"

namespace attnprune::cli {

enum class WatchOutput {
  kPeople,       // bars or lines on out
  kPeopleOnErr,  // the same on err: out is for a program
  kEvents,       // JSON, one event a line, on out, and people's on err
};

// One watch. Not thread-safe.
class WatchSession {
 public:
  // job: as it was before the watch.
  WatchSession(const Shell& shell, const v1::Job& job, WatchOutput output);

  // Before Run, which must then begin with the first event: writes the curves to TensorBoard's
  // `folder` too, as they come, unless that is empty. Errors: of CheckTensorBoard.
  absl::Status WriteTensorBoard(const std::string& folder);

  // Client::Watch, with its events shown. Returns the job at its end. A failure to write
  // TensorBoard's files is told once; the watch goes on.
  absl::StatusOr<v1::Job> Run(client::Client& client, int64_t after_sequence);

  // After Run: writes the curves to `plot` unless that is empty. Returns an exit code: kFailed also
  // where TensorBoard's files could not be written.
  int SaveCurves(const std::string& plot) const;

  std::ostream& people() const { return *people_; }
  int64_t last_sequence() const { return last_sequence_; }

 private:
  void Show(const v1::JobEvent& event);
  void Record(const v1::JobEvent& event);
  void Redraw(const v1::JobEvent& event);
  void EraseBars();

  const Shell& shell_;
  const v1::Job job_;
  const WatchOutput output_;
  std::ostream* const people_;
  const absl::optional<int> columns_;  // of people_, where it is a terminal
  ProgressModel model_;
  PlainView plain_;
  CurveRecorder recorder_;
  std::unique_ptr<exporting::LiveTensorBoard> tensorboard_;  // nullptr: not wanted, or given up
  bool tensorboard_failed_ = false;
  size_t drawn_ = 0;  // lines of bars now on the terminal
  absl::Time last_drawn_ = absl::InfinitePast();
  int64_t last_sequence_ = 0;
};

// kDone if the job and all its methods succeeded, else kFailed, with the reason on err.
int ExitCodeOf(const Shell& shell, const v1::Job& job);

// The flag that resumes a watch: after the last event or, since TensorBoard's files begin with the
// first event, from the beginning.
std::string ResumeFlag(const std::string& tensorboard, int64_t last_sequence);

// After an interrupted watch of a job that goes on: says how to resume it. Returns kInterrupted.
int SayHowToResume(const Shell& shell, const std::string& name, const std::string& server,
                   const std::string& where);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_WATCH_SESSION_H_
