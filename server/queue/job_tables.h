// Jobs and their events as rows: reads and writes one at a time, inside the caller's transaction.
// Every row that is read is checked against its seal: DATA_LOSS if it is damaged.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_TABLES_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_TABLES_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/job_store.h"
#include "server/queue/sqlite.h"

namespace attnprune {

// A row of table jobs. `record` is without what other tables keep: spec, labels, results.
struct JobRow {
  int64_t number = 0;
  JobRecord record;
  int64_t results = 0;           // how many there are
  int64_t checkpoint_count = 0;  // checkpoints written so far, for their names
  CheckpointRef checkpoint;
};

// Not thread-safe, as its connection.
class JobTables {
 public:
  explicit JobTables(sqlite::Database database) : database_(std::move(database)) {}

  sqlite::Database& database() { return database_; }

  absl::StatusOr<absl::optional<JobRow>> FindById(absl::string_view id);
  absl::StatusOr<absl::optional<JobRow>> FindByRequestId(absl::string_view request_id);
  absl::StatusOr<absl::optional<JobRow>> FindNextToClaim();
  absl::StatusOr<std::vector<JobRow>> ReadOutstanding();  // in order of number
  // Numbers below `below` that match, newest first, at most `limit`.
  absl::StatusOr<std::vector<int64_t>> FindNumbers(const JobFilter& filter, int64_t below,
                                                   int limit);
  absl::StatusOr<JobRow> ReadRow(int64_t number);
  absl::StatusOr<JobRecord> Complete(const JobRow& row);  // with spec, labels, results
  absl::StatusOr<int64_t> CountQueued();
  absl::StatusOr<std::map<JobState, int64_t>> CountByState();

  // Gives *row its number; its record must be whole.
  absl::Status Insert(JobRow* row);
  absl::Status Save(const JobRow& row);  // all of it but spec, labels, results
  absl::Status Remove(int64_t number);   // with all that belongs to it

  absl::Status AddResult(const JobRow& row, int method_index, absl::string_view result);
  absl::Status AddTensors(const JobRow& row, const std::set<std::string>& digests);
  absl::StatusOr<std::set<std::string>> ReadTensors();  // of all jobs

  absl::Status AddEvent(const JobRow& row, const StoredEvent& event);
  absl::StatusOr<std::vector<StoredEvent>> ReadEvents(int64_t number, int64_t after, int limit);
  absl::StatusOr<int64_t> CountProgress(int64_t number);
  // One round of CompactionLimits::progress. Drops at least one if there are two.
  absl::Status DropEverySecondProgress(int64_t number);
  // The newest event but progress of which `keep` newer ones exist; nothing if there are fewer.
  absl::StatusOr<absl::optional<int64_t>> FindCut(int64_t number, int64_t keep);
  absl::Status DropEventsUpTo(int64_t number, int64_t sequence);

 private:
  absl::StatusOr<absl::optional<JobRow>> FindRow(const std::string& condition,
                                                 absl::Span<const sqlite::Value> values);
  absl::StatusOr<JobOrigin> ReadOrigin(int64_t number);
  absl::Status ReadSpecAndLabels(int64_t number, JobRecord* record);
  absl::Status ReadResults(int64_t number, std::vector<std::string>* results);

  sqlite::Database database_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_TABLES_H_
