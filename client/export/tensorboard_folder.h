// A job in TensorBoard's folder: one run, a subfolder, for each method, with one event file.
//
//   DIR/gd/events.out.tfevents.1764000000.myhost.attnprune-e977ypsmh7yv
//
// The job's id ends the name, so that a repetition finds what it replaces: a new file is made under
// a later second, then the older ones of this job are removed. Every file begins by voiding what is
// known of its run, so that a TensorBoard that has shown the older file shows no point twice. A run
// folder holds one job: event files of anything else in it are an error, and nothing is written.
#ifndef ATTNPRUNE_CLIENT_EXPORT_TENSORBOARD_FOLDER_H_
#define ATTNPRUNE_CLIENT_EXPORT_TENSORBOARD_FOLDER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "attnprune/v1/prune_service.pb.h"

namespace attnprune::exporting {

struct TensorBoardFolder {
  std::string path;
  std::string job;   // "jobs/x"; empty: none that there is yet, to which no file belongs
  std::string host;  // in the files' names
};

// Of this machine. host: its name as one part of a path.
TensorBoardFolder TensorBoardFolderOf(const std::string& path, const std::string& job);

// "DIR/gd", wherever the label would lead.
std::string RunPath(const TensorBoardFolder& folder, const std::string& label);

// FAILED_PRECONDITION names an event file, of another job or program, in a run of these labels.
absl::Status CheckRuns(const TensorBoardFolder& folder, const std::vector<std::string>& labels);

// Writes what `events`, all of a job that are known, come to; each file whole or not at all.
// now: for the files' names. Returns the files. Errors: of CheckRuns, before anything is written;
// of the file system, naming the path.
absl::StatusOr<std::vector<std::string>> WriteTensorBoard(const TensorBoardFolder& folder,
                                                          const std::vector<v1::JobEvent>& events,
                                                          absl::Time now);

// The same while the events come. Not thread-safe.
class LiveTensorBoard {
 public:
  explicit LiveTensorBoard(TensorBoardFolder folder);
  ~LiveTensorBoard();

  // The next event of the job, from its first. When it returns, readers of the files see its
  // points. Makes a method's file with its first event.
  absl::Status Add(const v1::JobEvent& event, absl::Time now);

 private:
  class EventFile;
  struct Run;
  absl::StatusOr<Run*> Open(const v1::JobEvent& first, absl::Time now);

  const TensorBoardFolder folder_;
  std::map<std::string, std::unique_ptr<Run>> runs_;  // by path
};

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_TENSORBOARD_FOLDER_H_
