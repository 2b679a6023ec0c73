// What the rules of a job's life (transactional_job_store.h) ask of a database: jobs, their
// results, tensors and events as rows, read and written one at a time inside a transaction. No rule
// is in here but the order in which jobs are claimed, which only the database can keep among its
// clients.
//
// Errors are those of JobStore; DATA_LOSS: a row that is read is damaged.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_ROWS_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_ROWS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/job_store.h"

namespace attnprune {

// A job's own row. `record` is without what is kept beside it: spec, labels, results.
struct JobRow {
  int64_t number = 0;  // order of creation; never used for a second job
  JobRecord record;
  int64_t results = 0;           // how many there are
  int64_t checkpoint_count = 0;  // checkpoints written so far, for their names
  CheckpointRef checkpoint;
};

// A part of a job.
struct PartRow {
  int64_t job = 0;  // its number
  int part = 0;
  int results = 0;
  bool done = false;
  int64_t fence = 0;      // grows at every claim
  int64_t job_fence = 0;  // the job's at the last claim; another one: that claim has lapsed
  bool own = false;       // the claim is that of the job's own worker, which needs no lease
  absl::Time lease_until = absl::UnixEpoch();
  std::vector<std::string> states;
};

using PartCheckpoints = std::map<int, CheckpointRef>;  // by part, of those that have one

// What one transaction sees. Not thread-safe.
class JobReader {
 public:
  virtual ~JobReader() = default;

  // The database's time: leases, timeouts and events of all its servers go by it.
  virtual absl::Time Now() = 0;

  virtual absl::StatusOr<absl::optional<JobRow>> FindById(absl::string_view id) = 0;
  virtual absl::StatusOr<std::vector<JobRow>> ReadOutstanding() = 0;  // in order of number
  // Of those all that JobStore::ReadTimed names.
  virtual absl::StatusOr<std::vector<JobRow>> ReadTimed() { return ReadOutstanding(); }
  // Numbers below `below` that match, newest first, at most `limit`.
  virtual absl::StatusOr<std::vector<int64_t>> FindNumbers(const JobFilter& filter, int64_t below,
                                                           int limit) = 0;
  // Ids of jobs that ended before, in order of number, at most `limit`.
  virtual absl::StatusOr<std::vector<std::string>> FindEnded(absl::Time before, int limit) = 0;
  virtual absl::StatusOr<JobRow> ReadRow(int64_t number) = 0;
  virtual absl::StatusOr<JobRecord> Complete(const JobRow& row) = 0;  // with spec, labels, results
  virtual absl::StatusOr<absl::optional<PartRow>> FindPart(int64_t number, int part) = 0;
  virtual absl::StatusOr<std::vector<PartRow>> ReadParts(int64_t number) = 0;  // in order
  virtual absl::StatusOr<PartCheckpoints> ReadPartCheckpoints(int64_t number) = 0;
  virtual absl::StatusOr<std::map<JobState, int64_t>> CountByState() = 0;
  virtual absl::StatusOr<std::map<std::string, int64_t>> ReadTurns() = 0;  // Snapshot::turns
  virtual absl::StatusOr<std::set<std::string>> ReadTensors() = 0;  // of all jobs, states too
  // Whether it is noted, or a job of the tenant refers to it.
  virtual absl::StatusOr<bool> HasTensor(absl::string_view tenant, const std::string& digest) = 0;
  virtual absl::StatusOr<std::set<std::string>> ReadTensorsOf(absl::string_view tenant) = 0;
  // As JobStore's of that name.
  virtual absl::StatusOr<std::vector<OwnTensor>> ListOwnTensors(absl::string_view tenant,
                                                                absl::string_view after,
                                                                int limit) = 0;
  // The id of the newest job, of the tenant's or of all, that each is a tensor of (AddTensors).
  virtual absl::StatusOr<TensorUsers> FindUsers(const absl::optional<std::string>& tenant,
                                                absl::Span<const std::string> digests) = 0;
  // Of those from which jobs or their parts go on: the id of such a job.
  virtual absl::StatusOr<TensorUsers> ReadStates() = 0;
  // With a sequence above `after`, oldest first, at most `limit`.
  virtual absl::StatusOr<std::vector<StoredEvent>> ReadEvents(int64_t number, int64_t after,
                                                              int limit) = 0;
};

// One writing transaction. A job that it has found changes by no other transaction until it ends.
class JobRows : public JobReader {
 public:
  virtual absl::StatusOr<absl::optional<JobRow>> FindByRequestId(absl::string_view tenant,
                                                                 absl::string_view request_id) = 0;
  // The queued job to run next, that of NextJob (scheduler.h), of those that no other transaction
  // is claiming.
  virtual absl::StatusOr<absl::optional<JobRow>> FindNextToClaim(
      int64_t max_running_per_tenant) = 0;
  // The newest turn is the tenant's.
  virtual absl::Status TakeTurn(absl::string_view tenant) = 0;
  // What JobStore::ClaimPart and ClaimOwnPart claim next.
  virtual absl::StatusOr<absl::optional<PartRow>> FindNextPart() = 0;
  virtual absl::StatusOr<absl::optional<PartRow>> FindNextOwnPart(const JobRow& job) = 0;
  virtual absl::StatusOr<int64_t> CountQueued() = 0;
  virtual absl::StatusOr<int64_t> CountQueuedOf(absl::string_view tenant) = 0;

  // Gives *row its number; its record must be whole.
  virtual absl::Status Insert(JobRow* row) = 0;
  virtual absl::Status Save(const JobRow& row) = 0;  // all of it but spec, labels, results
  virtual absl::Status Remove(int64_t number) = 0;   // with all that belongs to it

  virtual absl::Status AddResult(const JobRow& row, int method_index, absl::string_view result) = 0;
  virtual absl::Status AddTensors(const JobRow& row, const std::set<std::string>& digests) = 0;
  // In place of those that the job had.
  virtual absl::Status ReplaceState(const JobRow& row, const std::set<std::string>& digests) = 0;
  virtual absl::Status NoteTensor(absl::string_view tenant, const std::string& digest,
                                  absl::Time time) = 0;      // in place of the time noted before
  virtual absl::Status ForgetTensors(absl::Time until) = 0;  // noted then or before
  virtual absl::Status AddEvents(const JobRow& row, absl::Span<const StoredEvent> events) = 0;
  virtual absl::Status SavePart(const PartRow& part) = 0;  // new or not
  virtual absl::Status RemoveParts(int64_t number) = 0;
  // In place of the one that the part had; an empty one drops it.
  virtual absl::Status SavePartCheckpoint(int64_t number, int part, const CheckpointRef& ref) = 0;

  virtual absl::StatusOr<int64_t> CountProgress(int64_t number) = 0;
  // One round of CompactionLimits::progress. Drops at least one if there are two.
  virtual absl::Status DropEverySecondProgress(int64_t number) = 0;
  // The newest event but progress of which `keep` newer ones exist; nothing if there are fewer.
  virtual absl::StatusOr<absl::optional<int64_t>> FindCut(int64_t number, int64_t keep) = 0;
  virtual absl::Status DropEventsUpTo(int64_t number, int64_t sequence) = 0;
};

using ChangeFollower = std::function<void(absl::Span<const JobChange>)>;

// Thread-safe, but for Write: unless it WritesInParallel, one thread calls it at a time.
class JobDatabase {
 public:
  virtual ~JobDatabase() = default;

  // Runs `body` on one state of the database and returns what it returns.
  virtual absl::Status Read(absl::FunctionRef<absl::Status(JobReader&)> body) = 0;
  // Runs `body` as one transaction. OK from both: it is committed and on disk. Otherwise nothing is
  // written. `body` may run again from the start, when another server's transaction was in its way.
  virtual absl::Status Write(absl::FunctionRef<absl::Status(JobRows&)> body) = 0;

  virtual bool WritesInParallel() const { return false; }

  // From now on, on a thread of the database's, `follower` is told of jobs that other servers have
  // changed, perhaps of others too, until the database is destroyed. At most once. A database of
  // one server tells nothing.
  virtual void Follow(const ChangeFollower& /*follower*/) {}

  // As JobStore::CheckInPlace.
  virtual absl::Status CheckInPlace() { return absl::OkStatus(); }
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_ROWS_H_
