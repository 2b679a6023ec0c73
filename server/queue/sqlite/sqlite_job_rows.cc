#include "server/queue/sqlite/sqlite_job_rows.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "server/queue/job_row_codec.h"
#include "server/queue/sqlite/sqlite.h"

namespace attnprune {
namespace {

using sqlite::Bytes;
using sqlite::ForEachSealed;
using sqlite::NextSealed;
using sqlite::Query;
using sqlite::Row;
using sqlite::Value;

absl::Status Missing(absl::string_view what, int64_t number) {
  return absl::DataLossError(
      absl::StrCat("database: ", what, " of job number ", number, " is missing"));
}

std::string Places(size_t count) {
  return absl::StrJoin(std::vector<std::string>(count, "?"), ", ");
}

}  // namespace

absl::StatusOr<absl::optional<JobRow>> SqliteJobRows::FindRow(const std::string& from,
                                                              absl::Span<const Value> values) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query,
                             database_.Start(absl::StrCat("SELECT * FROM ", from), values));
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<Row> row, NextSealed("jobs", query));
  if (!row.has_value()) return absl::optional<JobRow>();
  JobRow job = DecodeJob(*std::move(row));
  ATTNPRUNE_ASSIGN_OR_RETURN(job.record.origin, ReadOrigin(job.number));
  ATTNPRUNE_ASSIGN_OR_RETURN(job.record.tenant, ReadTenant(job.number));
  return absl::optional<JobRow>(std::move(job));
}

// Jobs of before schema 2 have none.
absl::StatusOr<JobOrigin> SqliteJobRows::ReadOrigin(int64_t number) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query,
                             database_.Start("SELECT * FROM job_origins WHERE job = ?", {number}));
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<Row> row, NextSealed("job_origins", query));
  if (!row.has_value()) return JobOrigin();
  return JobOrigin{std::get<std::string>(std::move((*row)[1])),
                   std::get<std::string>(std::move((*row)[2]))};
}

absl::StatusOr<std::string> SqliteJobRows::ReadTenant(int64_t number) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query,
                             database_.Start("SELECT * FROM job_tenants WHERE job = ?", {number}));
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<Row> row, NextSealed("job_tenants", query));
  if (!row.has_value()) return Missing("the tenant", number);
  return std::get<std::string>(std::move((*row)[1]));
}

absl::StatusOr<absl::optional<JobRow>> SqliteJobRows::FindById(absl::string_view id) {
  return FindRow("jobs WHERE id = ?", {std::string(id)});
}

absl::StatusOr<absl::optional<JobRow>> SqliteJobRows::FindByRequestId(
    absl::string_view tenant, absl::string_view request_id) {
  return FindRow("jobs WHERE request_id = ?", {RequestKey(tenant, request_id)});
}

// Where all jobs are one tenant's, and as many as there are may run, the index has the order. Left
// to itself SQLite takes index jobs_by_state and sorts.
absl::StatusOr<absl::optional<JobRow>> SqliteJobRows::FindNextToClaim(
    int64_t max_running_per_tenant) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const int64_t several,
      database_.ReadInteger("SELECT (SELECT min(tenant) FROM job_tenants) IS NOT"
                            " (SELECT max(tenant) FROM job_tenants)"));
  if (several == 0 && max_running_per_tenant == 0) {
    return FindRow(
        "jobs INDEXED BY jobs_to_claim WHERE state = 1 ORDER BY priority DESC, number LIMIT 1", {});
  }
  const int64_t most =
      max_running_per_tenant == 0 ? std::numeric_limits<int64_t>::max() : max_running_per_tenant;
  return FindRow(
      "jobs WHERE number = (SELECT number FROM jobs INDEXED BY jobs_to_claim"
      " JOIN job_tenants ON job = number LEFT JOIN tenant_turns USING (tenant)"
      " WHERE state = 1 AND tenant NOT IN (SELECT tenant FROM jobs JOIN job_tenants ON job = number"
      " WHERE state = 2 GROUP BY tenant HAVING count(*) >= ?)"
      " ORDER BY priority DESC, ifnull(turn, 0), number LIMIT 1)",
      {most});
}

absl::StatusOr<std::vector<JobRow>> SqliteJobRows::ReadOutstanding() {
  std::vector<JobRow> rows;
  ATTNPRUNE_RETURN_IF_ERROR(
      ForEachSealed(database_, "jobs", "SELECT * FROM jobs WHERE state IN (1, 2) ORDER BY number",
                    {}, [&rows](Row row) { rows.push_back(DecodeJob(std::move(row))); }));
  for (JobRow& row : rows) {
    ATTNPRUNE_ASSIGN_OR_RETURN(row.record.tenant, ReadTenant(row.number));
  }
  return rows;
}

absl::StatusOr<std::vector<int64_t>> SqliteJobRows::FindNumbers(const JobFilter& filter,
                                                                int64_t below, int limit) {
  std::string sql = "SELECT number FROM jobs WHERE number < ?";
  Row values = {below};
  if (!filter.states.empty()) {
    absl::StrAppend(&sql, " AND state IN (", Places(filter.states.size()), ")");
    for (const JobState state : filter.states) values.emplace_back(static_cast<int64_t>(state));
  }
  for (const auto& [key, value] : filter.labels) {
    absl::StrAppend(&sql,
                    " AND number IN (SELECT job FROM job_labels WHERE key = ? AND value = ?)");
    values.push_back(key);
    values.push_back(value);
  }
  if (filter.tenant.has_value()) {
    absl::StrAppend(&sql, " AND number IN (SELECT job FROM job_tenants WHERE tenant = ?)");
    values.push_back(*filter.tenant);
  }
  absl::StrAppend(&sql, " AND id ", filter.kind == JobKind::kRun ? "" : "NOT ", "GLOB ?");
  values.emplace_back(absl::StrCat(kRunIdPrefix, "*"));
  absl::StrAppend(&sql, " ORDER BY number DESC LIMIT ?");
  values.emplace_back(int64_t{limit});
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query, database_.Start(sql, values));
  std::vector<int64_t> numbers;
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, query.Next());
    if (!more) return numbers;
    numbers.push_back(query.Integer(0));
  }
}

absl::StatusOr<std::vector<std::string>> SqliteJobRows::FindEnded(absl::Time before, int limit) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      Query query, database_.Start("SELECT id FROM jobs WHERE state IN (3, 4, 5) AND end_time < ?"
                                   " ORDER BY number LIMIT ?",
                                   {absl::ToUnixNanos(before), int64_t{limit}}));
  std::vector<std::string> ids;
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, query.Next());
    if (!more) return ids;
    ids.push_back(query.Text(0));
  }
}

absl::StatusOr<JobRow> SqliteJobRows::ReadRow(int64_t number) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row,
                             FindRow("jobs WHERE number = ?", {number}));
  if (!row.has_value()) return Missing("the row", number);
  return *std::move(row);
}

absl::StatusOr<JobRecord> SqliteJobRows::Complete(const JobRow& row) {
  JobRecord record = row.record;
  ATTNPRUNE_RETURN_IF_ERROR(ReadSpecAndLabels(row.number, &record));
  ATTNPRUNE_RETURN_IF_ERROR(ReadResults(row.number, &record.results));
  if (static_cast<int64_t>(record.results.size()) != row.results) {
    return Missing("a result", row.number);
  }
  return record;
}

absl::Status SqliteJobRows::ReadSpecAndLabels(int64_t number, JobRecord* record) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query specs,
                             database_.Start("SELECT * FROM job_specs WHERE job = ?", {number}));
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<Row> spec, NextSealed("job_specs", specs));
  if (!spec.has_value()) return Missing("the specification", number);
  record->spec = std::get<Bytes>(std::move((*spec)[1])).bytes;
  ATTNPRUNE_RETURN_IF_ERROR(
      ForEachSealed(database_, "job_labels", "SELECT * FROM job_labels WHERE job = ?", {number},
                    [record](Row label) {
                      record->labels.emplace(std::get<std::string>(std::move(label[1])),
                                             std::get<std::string>(std::move(label[2])));
                    }));
  const bool whole = std::get<int64_t>((*spec)[2]) == static_cast<int64_t>(record->labels.size());
  return whole ? absl::OkStatus() : Missing("a label", number);
}

absl::Status SqliteJobRows::ReadResults(int64_t number, std::vector<std::string>* results) {
  return ForEachSealed(
      database_, "job_results", "SELECT * FROM job_results WHERE job = ? ORDER BY method_index",
      {number},
      [results](Row row) { results->push_back(std::get<Bytes>(std::move(row[2])).bytes); });
}

absl::StatusOr<int64_t> SqliteJobRows::CountQueued() {
  return database_.ReadInteger("SELECT count(*) FROM jobs WHERE state = 1");
}

absl::StatusOr<std::map<JobState, int64_t>> SqliteJobRows::CountByState() {
  std::map<JobState, int64_t> counts;
  for (const JobState state : kJobStates) counts[state] = 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query,
                             database_.Start("SELECT state, count(*) FROM jobs GROUP BY state"));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, query.Next());
    if (!more) return counts;
    counts[static_cast<JobState>(query.Integer(0))] = query.Integer(1);
  }
}

absl::Status SqliteJobRows::Insert(JobRow* row) {
  // What AUTOINCREMENT would choose; the number is needed before, for the seal.
  ATTNPRUNE_ASSIGN_OR_RETURN(
      row->number, database_.ReadInteger("SELECT ifnull(max(seq), 0) + 1 FROM sqlite_sequence"));
  const JobRecord& job = row->record;
  told_.newest_job = row->number;
  ATTNPRUNE_RETURN_IF_ERROR(sqlite::InsertSealed(&database_, "jobs", EncodeJob(*row)));
  ATTNPRUNE_RETURN_IF_ERROR(sqlite::InsertSealed(
      &database_, "job_specs",
      {row->number, Bytes{job.spec}, static_cast<int64_t>(job.labels.size())}));
  for (const auto& [key, value] : job.labels) {
    ATTNPRUNE_RETURN_IF_ERROR(
        sqlite::InsertSealed(&database_, "job_labels", {row->number, key, value}));
  }
  ATTNPRUNE_RETURN_IF_ERROR(
      sqlite::InsertSealed(&database_, "job_tenants", {row->number, job.tenant}));
  return sqlite::InsertSealed(&database_, "job_origins",
                              {row->number, job.origin.request_id, job.origin.traceparent});
}

absl::Status SqliteJobRows::Save(const JobRow& row) {
  const JobState state = row.record.state;
  told_.settles |= IsTerminal(state) || state == JobState::kQueued || row.record.cancel_requested;
  return database_.Execute(
      "UPDATE jobs SET number = ?1, id = ?2, request_id = ?3, request_digest = ?4, priority = ?5,"
      " timeout = ?6, create_time = ?7, start_time = ?8, end_time = ?9, state = ?10,"
      " failure_code = ?11, failure_message = ?12, lease_owner = ?13, lease_until = ?14,"
      " fence = ?15, attempt = ?16, losses = ?17, cancel_requested = ?18, results = ?19,"
      " next_sequence = ?20, oldest_sequence = ?21, checkpoint_count = ?22, checkpoint_name = ?23,"
      " checkpoint_size = ?24, checkpoint_checksum = ?25, seal = ?26 WHERE number = ?1",
      sqlite::Seal("jobs", EncodeJob(row)));
}

absl::Status SqliteJobRows::Remove(int64_t number) {
  told_.settles = true;
  return database_.Execute("DELETE FROM jobs WHERE number = ?", {number});
}

absl::Status SqliteJobRows::AddResult(const JobRow& row, int method_index,
                                      absl::string_view result) {
  return sqlite::InsertSealed(&database_, "job_results",
                              {row.number, int64_t{method_index}, Bytes{std::string(result)}});
}

absl::Status SqliteJobRows::AddTensors(const JobRow& row, const std::set<std::string>& digests) {
  for (const std::string& digest : digests) {
    ATTNPRUNE_RETURN_IF_ERROR(
        database_.Execute("INSERT OR IGNORE INTO job_tensors VALUES (?, ?, ?)",
                          sqlite::Seal("job_tensors", {row.number, digest})));
  }
  return absl::OkStatus();
}

absl::Status SqliteJobRows::ReplaceState(const JobRow& row, const std::set<std::string>& digests) {
  ATTNPRUNE_RETURN_IF_ERROR(
      database_.Execute("DELETE FROM job_states WHERE job = ?", {row.number}));
  for (const std::string& digest : digests) {
    ATTNPRUNE_RETURN_IF_ERROR(sqlite::InsertSealed(&database_, "job_states", {row.number, digest}));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::set<std::string>> SqliteJobRows::ReadTensors() {
  std::set<std::string> digests;
  for (const char* const table : {"job_tensors", "job_states"}) {
    ATTNPRUNE_RETURN_IF_ERROR(ForEachSealed(
        database_, table, absl::StrCat("SELECT * FROM ", table), {},
        [&digests](Row row) { digests.insert(std::get<std::string>(std::move(row[1]))); }));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<PartRow> parts, FindParts("job_parts", {}));
  for (const PartRow& part : parts) digests.insert(part.states.begin(), part.states.end());
  return digests;
}

absl::Status SqliteJobRows::AddEvents(const JobRow& row, absl::Span<const StoredEvent> events) {
  for (const StoredEvent& event : events) {
    ATTNPRUNE_RETURN_IF_ERROR(
        sqlite::InsertSealed(&database_, "job_events", EncodeEvent(row.number, event)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoredEvent>> SqliteJobRows::ReadEvents(int64_t number, int64_t after,
                                                                   int limit) {
  std::vector<StoredEvent> events;
  ATTNPRUNE_RETURN_IF_ERROR(ForEachSealed(
      database_, "job_events",
      "SELECT * FROM job_events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?",
      {number, after, int64_t{limit}},
      [&events](Row row) { events.push_back(DecodeEvent(std::move(row))); }));
  std::vector<std::string> results;
  for (StoredEvent& event : events) {
    if (event.kind != EventKind::kMethodResult) continue;
    if (results.empty()) ATTNPRUNE_RETURN_IF_ERROR(ReadResults(number, &results));
    const auto index = static_cast<size_t>(event.method_index);
    if (index >= results.size()) return Missing("a result", number);
    event.payload = results[index];
  }
  return events;
}

absl::StatusOr<int64_t> SqliteJobRows::CountProgress(int64_t number) {
  return database_.ReadInteger("SELECT count(*) FROM job_events WHERE job = ? AND kind IN (2, 6)",
                               {number});
}

absl::Status SqliteJobRows::DropEverySecondProgress(int64_t number) {
  // The newest stays. Of the others the lowest tier is thinned out: steps (2), then evaluated ones
  // (6), then the oldest, where the curve begins (7). rank 1 is a tier's newest.
  return database_.Execute(
      "WITH progress AS"
      " (SELECT sequence, kind FROM job_events WHERE job = ?1 AND kind IN (2, 6)),"
      "others AS"
      " (SELECT sequence, iif(sequence = min(sequence) OVER (), 7, kind) AS tier"
      "  FROM progress WHERE sequence < (SELECT max(sequence) FROM progress)),"
      "ranked AS"
      " (SELECT sequence, tier,"
      "         row_number() OVER (PARTITION BY tier ORDER BY sequence DESC) AS rank"
      "  FROM others)"
      "DELETE FROM job_events WHERE job = ?1 AND sequence IN"
      " (SELECT sequence FROM ranked"
      "  WHERE tier = (SELECT min(tier) FROM others) AND rank % 2 = 1)",
      {number});
}

absl::StatusOr<absl::optional<int64_t>> SqliteJobRows::FindCut(int64_t number, int64_t keep) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      Query query,
      database_.Start("SELECT sequence FROM job_events WHERE job = ?"
                      " AND kind NOT IN (2, 6) ORDER BY sequence DESC LIMIT 1 OFFSET ?",
                      {number, keep}));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool found, query.Next());
  if (!found) return absl::optional<int64_t>();
  return absl::optional<int64_t>(query.Integer(0));
}

absl::Status SqliteJobRows::DropEventsUpTo(int64_t number, int64_t sequence) {
  return database_.Execute("DELETE FROM job_events WHERE job = ? AND sequence <= ?",
                           {number, sequence});
}

}  // namespace attnprune
