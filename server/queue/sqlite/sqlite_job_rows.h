// A job database's rows in SQLite. Every row that is read is checked against its seal.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_ROWS_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_ROWS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "core/base/clock.h"
#include "server/queue/job_rows.h"
#include "server/queue/sqlite/sqlite.h"

namespace attnprune {

// On one connection, inside the caller's transaction. Not thread-safe, as its connection.
class SqliteJobRows final : public JobRows {
 public:
  // clock must outlive it.
  SqliteJobRows(const Clock* clock, sqlite::Database database)
      : clock_(clock), database_(std::move(database)) {}

  sqlite::Database& database() { return database_; }

  // What the transaction has written that a client will be told of, as nothing else tells.
  struct Told {
    int64_t newest_job = 0;  // number of the last one inserted; 0: none
    bool settles = false;    // a job has ended, is to end, waits again or was deleted
  };
  const Told& told() const { return told_; }
  Told TakeTold() { return std::exchange(told_, {}); }

  absl::Time Now() override { return clock_->Now(); }

  absl::StatusOr<absl::optional<JobRow>> FindById(absl::string_view id) override;
  absl::StatusOr<std::vector<JobRow>> ReadOutstanding() override;
  absl::StatusOr<std::vector<int64_t>> FindNumbers(const JobFilter& filter, int64_t below,
                                                   int limit) override;
  absl::StatusOr<std::vector<std::string>> FindEnded(absl::Time before, int limit) override;
  absl::StatusOr<JobRow> ReadRow(int64_t number) override;
  absl::StatusOr<JobRecord> Complete(const JobRow& row) override;
  absl::StatusOr<absl::optional<PartRow>> FindPart(int64_t number, int part) override;
  absl::StatusOr<std::vector<PartRow>> ReadParts(int64_t number) override;
  absl::StatusOr<PartCheckpoints> ReadPartCheckpoints(int64_t number) override;
  absl::StatusOr<std::map<JobState, int64_t>> CountByState() override;
  absl::StatusOr<std::map<std::string, int64_t>> ReadTurns() override;
  absl::StatusOr<std::set<std::string>> ReadTensors() override;
  absl::StatusOr<bool> HasTensor(absl::string_view tenant, const std::string& digest) override;
  absl::StatusOr<std::set<std::string>> ReadTensorsOf(absl::string_view tenant) override;
  absl::StatusOr<std::vector<OwnTensor>> ListOwnTensors(absl::string_view tenant,
                                                        absl::string_view after,
                                                        int limit) override;
  absl::StatusOr<TensorUsers> FindUsers(const absl::optional<std::string>& tenant,
                                        absl::Span<const std::string> digests) override;
  absl::StatusOr<TensorUsers> ReadStates() override;
  absl::StatusOr<std::vector<StoredEvent>> ReadEvents(int64_t number, int64_t after,
                                                      int limit) override;

  absl::StatusOr<absl::optional<JobRow>> FindByRequestId(absl::string_view tenant,
                                                         absl::string_view request_id) override;
  absl::StatusOr<absl::optional<JobRow>> FindNextToClaim(int64_t max_running_per_tenant) override;
  absl::Status TakeTurn(absl::string_view tenant) override;
  absl::StatusOr<absl::optional<PartRow>> FindNextPart() override;
  absl::StatusOr<absl::optional<PartRow>> FindNextOwnPart(const JobRow& job) override;
  absl::StatusOr<int64_t> CountQueued() override;
  absl::StatusOr<int64_t> CountQueuedOf(absl::string_view tenant) override;
  absl::Status Insert(JobRow* row) override;
  absl::Status Save(const JobRow& row) override;
  absl::Status Remove(int64_t number) override;
  absl::Status AddResult(const JobRow& row, int method_index, absl::string_view result) override;
  absl::Status AddTensors(const JobRow& row, const std::set<std::string>& digests) override;
  absl::Status ReplaceState(const JobRow& row, const std::set<std::string>& digests) override;
  absl::Status NoteTensor(absl::string_view tenant, const std::string& digest,
                          absl::Time time) override;
  absl::Status ForgetTensors(absl::Time until) override;
  absl::Status AddEvents(const JobRow& row, absl::Span<const StoredEvent> events) override;
  absl::Status SavePart(const PartRow& part) override;
  absl::Status RemoveParts(int64_t number) override;
  absl::Status SavePartCheckpoint(int64_t number, int part, const CheckpointRef& ref) override;
  absl::StatusOr<int64_t> CountProgress(int64_t number) override;
  absl::Status DropEverySecondProgress(int64_t number) override;
  absl::StatusOr<absl::optional<int64_t>> FindCut(int64_t number, int64_t keep) override;
  absl::Status DropEventsUpTo(int64_t number, int64_t sequence) override;

 private:
  absl::StatusOr<absl::optional<JobRow>> FindRow(const std::string& from,
                                                 absl::Span<const sqlite::Value> values);
  absl::StatusOr<JobOrigin> ReadOrigin(int64_t number);
  absl::StatusOr<std::string> ReadTenant(int64_t number);
  // Of digests, some by lines, and a job's id.
  absl::StatusOr<TensorUsers> ReadUsers(const std::string& sql,
                                        absl::Span<const sqlite::Value> values);
  absl::StatusOr<std::vector<PartRow>> FindParts(const std::string& from,
                                                 absl::Span<const sqlite::Value> values);
  absl::Status ReadSpecAndLabels(int64_t number, JobRecord* record);
  absl::Status ReadResults(int64_t number, std::vector<std::string>* results);

  const Clock* const clock_;
  sqlite::Database database_;
  Told told_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_ROWS_H_
