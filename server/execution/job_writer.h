// Writes a running job's events and checkpoints, so that its solver never waits for the disk.
#ifndef ATTNPRUNE_SERVER_EXECUTION_JOB_WRITER_H_
#define ATTNPRUNE_SERVER_EXECUTION_JOB_WRITER_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/execution/stop_signal.h"
#include "server/queue/job_store.h"

namespace attnprune {

struct JobWriterOptions {
  absl::Duration progress_interval;                     // between two writes, in real time
  absl::Duration checkpoint_interval;                   // between two of them, by the clock
  const Clock* clock;                                   // must outlive the writer
  std::function<void(const absl::Status&)> on_trouble;  // a write failed; from the writer's thread
  std::function<void(bool written, size_t bytes)> on_checkpoint;  // may be empty; as above
};

// One thread of its own. The adding functions never wait for the disk; one solving thread calls
// them. Events are written in the order of adding, together, once an interval.
//
// What a write fails to store is dropped: progress and warnings are lost, the next checkpoint makes
// up for a lost one. If the claim has lapsed, `stop` is told.
class JobWriter {
 public:
  // store and stop must outlive the writer.
  JobWriter(JobStore* store, JobClaim claim, JobWriterOptions options, StopSignal* stop);
  ~JobWriter();  // drops what has not been written: Flush first
  JobWriter(const JobWriter&) = delete;
  JobWriter& operator=(const JobWriter&) = delete;

  // payload: of an event of that kind. kind: kProgress or kEvaluated. Of progress that piles up
  // between two writes some kMaxProgress events are kept, the newest always; evaluated ones are the
  // last to be dropped.
  void AddProgress(std::string payload, EventKind kind);
  void AddWarning(std::string payload);

  // Whether it is time for a checkpoint and none is being written.
  bool CheckpointIsDue();
  // An empty string to make a checkpoint in, with the room of the last one written: fresh memory
  // costs a solver more than the copy into it.
  std::string TakeCheckpointRoom();
  // Takes the place of one that has not been written yet.
  void AddCheckpoint(std::string bytes);

  // Waits until everything added has been written or has failed; then frees the room.
  void Flush();

  static constexpr size_t kMaxProgress = 64;
  static constexpr int kCompactEvery = 1000;  // events written, warnings too

 private:
  struct Work {
    std::vector<NewEvent> events;
    absl::optional<std::string> checkpoint;
  };

  void Add(NewEvent event);
  void Loop();
  Work TakeWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ThinOut() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(const Work& work);
  void WriteCheckpoint(const std::string& bytes);
  void Check(const absl::Status& status);

  JobStore* const store_;
  const JobClaim claim_;
  const JobWriterOptions options_;
  StopSignal* const stop_;

  Mutex mutex_;
  CondVar changed_;
  std::vector<NewEvent> events_ ABSL_GUARDED_BY(mutex_);
  absl::optional<std::string> checkpoint_ ABSL_GUARDED_BY(mutex_);
  std::string checkpoint_room_ ABSL_GUARDED_BY(mutex_);  // empty; its capacity is what it is for
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool hurried_ ABSL_GUARDED_BY(mutex_) = false;  // Flush waits
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time last_checkpoint_ ABSL_GUARDED_BY(mutex_);  // by the clock; handed over or skipped

  int written_since_compaction_ = 0;  // on the writer's thread

  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_JOB_WRITER_H_
