// What a job store keeps of a job: plain values, no protobuf; and the life of a job as one table
// (job_record.cc).
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_RECORD_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_RECORD_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace attnprune {

// The numbers are stored and are those of attnprune.v1.JobState.
enum class JobState {
  kQueued = 1,
  kRunning = 2,
  kSucceeded = 3,  // terminal
  kFailed = 4,     // terminal
  kCancelled = 5,  // terminal
};
inline constexpr std::array<JobState, 5> kJobStates = {JobState::kQueued, JobState::kRunning,
                                                       JobState::kSucceeded, JobState::kFailed,
                                                       JobState::kCancelled};

bool IsTerminal(JobState state);
// Whether a job may go from one state to the other in one step. Never from a state to itself.
bool CanMove(JobState from, JobState to);
// "QUEUED", as in the API.
absl::string_view ToString(JobState state);
// Nothing if no state has this number.
absl::optional<JobState> JobStateFromNumber(int64_t number);

// What a job's specification and results are messages of. Told by its id, which the store makes: a
// run's begins with "r-", which no other id does.
enum class JobKind {
  kMethods,  // methods on one problem: attnprune.v1.Job and MethodResult
  kRun,      // a whole model: attnprune.v1.Run and RunResult
};
inline constexpr char kRunIdPrefix[] = "r-";
JobKind KindOf(absl::string_view id);
// "jobs/x" or "runs/x".
std::string NameOf(absl::string_view id);

using Labels = std::map<std::string, std::string>;

// The request that made a job, for log lines: its id and the trace that it was part of
// (trace/trace_context.h), as text. Both empty: not known.
struct JobOrigin {
  std::string request_id;
  std::string traceparent;
};

// What a client asked for. The store keeps `spec` and `request_digest` as the bytes they are.
struct NewJob {
  std::string tenant;          // whose it is
  std::string request_id;      // of the tenant; empty: none
  std::string request_digest;  // equal for equal requests; compared when the request_id is known
  int priority = 0;            // higher runs first
  absl::Duration timeout = absl::ZeroDuration();  // from the first start; zero: none
  Labels labels;
  std::string spec;                         // the serialized job
  std::vector<std::string> tensor_digests;  // tensors the job reads; kept from collection with it
  JobOrigin origin;  // of the call that makes it; no part of the request that is compared
  JobKind kind = JobKind::kMethods;
};

// Why a job failed; code kOk means it did not.
struct Failure {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string message;
};

struct JobRecord {
  std::string id;  // 1 to 63 characters [a-z0-9-], chosen by the store; KindOf
  std::string tenant;
  JobState state = JobState::kQueued;
  int priority = 0;
  absl::Duration timeout = absl::ZeroDuration();
  absl::Time create_time;
  absl::optional<absl::Time> start_time;  // of the first claim
  absl::optional<absl::Time> end_time;
  std::string request_id;
  std::string request_digest;
  Labels labels;
  std::string spec;
  std::vector<std::string> results;  // one a finished method, in order; as FinishMethod got them
  Failure failure;
  std::string lease_owner;  // while running; empty otherwise
  absl::Time lease_until;   // while running
  int64_t fence = 0;        // grows at every claim and every requeue
  int attempt = 0;          // claims so far
  int losses = 0;           // workers lost since the job last got further (checkpoint or result)
  bool cancel_requested = false;
  bool has_checkpoint = false;  // of its own, not of a part
  int64_t next_sequence = 1;    // of the next event
  int64_t oldest_sequence = 1;  // no event but progress is missing from here on
  JobOrigin origin;
};

// The right to write to a running job, or to a part of one. Of use until the job is requeued,
// claimed anew or ended; that on a part, besides, until the part is claimed anew or done.
struct JobClaim {
  std::string id;
  int64_t fence = 0;
  int part = -1;  // JobStore::OpenPart; -1: the whole job
  int64_t part_fence = 0;
  bool whole() const { return part < 0; }
  bool operator==(const JobClaim&) const = default;
};

enum class EventKind {
  kStateChange = 1,   // to QUEUED or RUNNING; written by the store
  kProgress = 2,      // of a step; the first that CompactEvents thins out
  kMethodResult = 3,  // written by FinishMethod
  kWarning = 4,
  kTerminal = 5,  // the job has ended and no longer changes; the last event; written by the store
  // Progress of a step that was evaluated as well: it carries the relative errors, which come every
  // so many steps only. Schema 3 on; before that it was stored as kProgress, and stays so.
  kEvaluated = 6,
};

constexpr bool IsProgress(EventKind kind) {
  return kind == EventKind::kProgress || kind == EventKind::kEvaluated;
}

struct StoredEvent {
  int64_t sequence = 0;  // from 1, by job; grows, never used twice
  absl::Time time;
  EventKind kind = EventKind::kProgress;
  JobState state = JobState::kQueued;  // kStateChange and kTerminal: the new one
  int attempt = 0;                     // kStateChange and kTerminal
  int method_index = 0;                // kMethodResult: index into JobRecord::results
  // Progress and kWarning: as given to AppendEvents. kMethodResult: the result's bytes.
  // kStateChange and kTerminal: why, to be read by people; may be empty.
  std::string payload;
  JobOrigin origin;  // the job's, for listeners; ReadEvents leaves it empty
};

// kind: kProgress, kEvaluated or kWarning; the store writes the others itself.
struct NewEvent {
  EventKind kind = EventKind::kProgress;
  std::string payload;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_RECORD_H_
