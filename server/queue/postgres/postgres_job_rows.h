// A job database's rows in PostgreSQL.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_ROWS_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_ROWS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "server/queue/job_rows.h"
#include "server/queue/postgres/connection.h"

namespace attnprune::postgres {

enum class Access {
  kRead,   // of a snapshot
  kWrite,  // every job that is found is locked until the transaction ends
};

// One transaction on one connection: the caller's, under way. The job's row is locked first, so
// that no two writers wait for each other. Not thread-safe.
class PostgresJobRows final : public JobRows {
 public:
  // now: the transaction's time.
  PostgresJobRows(Connection* connection, Access access, absl::Time now)
      : connection_(*connection), access_(access), now_(now) {}

  // Of the writes so far. Empty: there are none, or none that has told it.
  const std::string& transaction_id() const { return transaction_id_; }
  bool wrote() const { return wrote_; }

  absl::Time Now() override { return now_; }

  absl::StatusOr<absl::optional<JobRow>> FindById(absl::string_view id) override;
  absl::StatusOr<std::vector<JobRow>> ReadOutstanding() override;
  absl::StatusOr<std::vector<JobRow>> ReadTimed() override;
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
  absl::StatusOr<std::vector<JobRow>> ReadWhere(absl::string_view condition);
  absl::StatusOr<absl::optional<JobRow>> FindJob(absl::string_view where,
                                                 absl::Span<const Value> values);
  absl::StatusOr<absl::optional<JobRow>> FindNextOf(absl::string_view which,
                                                    int64_t max_running_per_tenant);
  absl::StatusOr<std::vector<PartRow>> FindParts(absl::string_view which,
                                                 absl::Span<const Value> values);
  absl::Status AddSomeEvents(int64_t number, absl::Span<const StoredEvent> events);
  absl::Status InsertDigests(const char* table, int64_t number,
                             const std::set<std::string>& digests);
  absl::StatusOr<int64_t> ReadInteger(const std::string& sql, absl::Span<const Value> values = {});
  absl::StatusOr<std::set<std::string>> ReadTexts(const std::string& sql,
                                                  absl::Span<const Value> values);
  // Of a digest and a job's id.
  absl::StatusOr<TensorUsers> ReadUsers(const std::string& sql, absl::Span<const Value> values);
  // A statement that writes; one that returns a row returns the transaction's id.
  absl::Status Execute(const std::string& sql, absl::Span<const Value> values);

  Connection& connection_;
  const Access access_;
  const absl::Time now_;
  std::string transaction_id_;
  bool wrote_ = false;
};

// "($1, $2), ($3, $4)": of a statement that inserts rows.
std::string PlacesOf(size_t rows, size_t columns);

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_ROWS_H_
