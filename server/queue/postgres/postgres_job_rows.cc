// Jobs: found, read, written, claimed.
#include "server/queue/postgres/postgres_job_rows.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "server/queue/job_row_codec.h"

namespace attnprune::postgres {
namespace {

// The columns of job_row_codec.h.
constexpr char kJobColumns[] =
    "number, id, request_id, request_digest, priority, timeout, create_time, start_time, end_time,"
    " state, failure_code, failure_message, lease_owner, lease_until, fence, attempt, losses,"
    " cancel_requested, results, next_sequence, oldest_sequence, checkpoint_count, checkpoint_name,"
    " checkpoint_size, checkpoint_checksum";
constexpr char kBehindThem[] = ", tenant, origin_request_id, traceparent";
constexpr size_t kCodecColumns = 25;

Row EncodeColumns(const JobRow& job) {
  Row values = EncodeJob(job);
  std::string& message = std::get<std::string>(values.at(kFailureMessageColumn));
  values.at(kFailureMessageColumn) = Bytes{std::move(message)};
  return values;
}

JobRow DecodeColumns(Row values) {
  std::string tenant = std::get<std::string>(std::move(values.at(kCodecColumns)));
  JobOrigin origin = {std::get<std::string>(std::move(values.at(kCodecColumns + 1))),
                      std::get<std::string>(std::move(values.at(kCodecColumns + 2)))};
  JobRow job = DecodeJob(std::move(values));
  job.record.tenant = std::move(tenant);
  job.record.origin = std::move(origin);
  return job;
}

absl::Status MissingRow(absl::string_view what, int64_t number) {
  return absl::DataLossError(
      absl::StrCat("database: ", what, " of job number ", number, " is missing"));
}

std::string PlaceOf(size_t value) { return absl::StrCat("$", value); }

}  // namespace

std::string PlacesOf(size_t rows, size_t columns) {
  std::string places;
  size_t next = 1;
  for (size_t row = 0; row < rows; ++row) {
    absl::StrAppend(&places, row == 0 ? "(" : ", (");
    for (size_t column = 0; column < columns; ++column) {
      absl::StrAppend(&places, column == 0 ? "$" : ", $", next++);
    }
    places += ')';
  }
  return places;
}

absl::Status PostgresJobRows::Execute(const std::string& sql, absl::Span<const Value> values) {
  wrote_ = true;
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result result, connection_.Query(sql, values));
  if (result.rows() > 0) transaction_id_ = result.Text(0, 0);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> PostgresJobRows::ReadInteger(const std::string& sql,
                                                     absl::Span<const Value> values) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result result, connection_.Query(sql, values));
  return result.Integer(0, 0);
}

// --- Finding ---

absl::StatusOr<absl::optional<JobRow>> PostgresJobRows::FindJob(absl::string_view where,
                                                                absl::Span<const Value> values) {
  const char* const lock = access_ == Access::kWrite ? " FOR NO KEY UPDATE" : "";
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found,
                             connection_.Query(absl::StrCat("SELECT ", kJobColumns, kBehindThem,
                                                            " FROM jobs WHERE ", where, lock),
                                               values));
  if (found.rows() == 0) return absl::optional<JobRow>();
  return absl::optional<JobRow>(DecodeColumns(found.ReadRow(0)));
}

absl::StatusOr<absl::optional<JobRow>> PostgresJobRows::FindById(absl::string_view id) {
  return FindJob("id = $1", {std::string(id)});
}

absl::StatusOr<absl::optional<JobRow>> PostgresJobRows::FindByRequestId(
    absl::string_view tenant, absl::string_view request_id) {
  return FindJob("request_id = $1", {RequestKey(tenant, request_id)});
}

absl::StatusOr<JobRow> PostgresJobRows::ReadRow(int64_t number) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row, FindJob("number = $1", {number}));
  if (!row.has_value()) return MissingRow("the row", number);
  return *std::move(row);
}

absl::StatusOr<std::vector<JobRow>> PostgresJobRows::ReadOutstanding() {
  return ReadWhere("state IN (1, 2)");
}

absl::StatusOr<std::vector<JobRow>> PostgresJobRows::ReadTimed() {
  return ReadWhere("state = 2 OR (state = 1 AND timeout > 0 AND start_time IS NOT NULL)");
}

absl::StatusOr<std::vector<JobRow>> PostgresJobRows::ReadWhere(absl::string_view condition) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query(absl::StrCat("SELECT ", kJobColumns, kBehindThem, " FROM jobs WHERE ",
                                     condition, " ORDER BY number")));
  std::vector<JobRow> rows;
  rows.reserve(static_cast<size_t>(found.rows()));
  for (int i = 0; i < found.rows(); ++i) rows.push_back(DecodeColumns(found.ReadRow(i)));
  return rows;
}

absl::StatusOr<std::vector<int64_t>> PostgresJobRows::FindNumbers(const JobFilter& filter,
                                                                  int64_t below, int limit) {
  Row values;
  const auto place = [&values](Value value) {
    values.push_back(std::move(value));
    return PlaceOf(values.size());
  };
  std::string sql = absl::StrCat("SELECT number FROM jobs WHERE number < ", place(below));
  if (!filter.states.empty()) {
    absl::StrAppend(&sql, " AND state IN (",
                    absl::StrJoin(filter.states, ", ",
                                  [](std::string* out, JobState state) {
                                    absl::StrAppend(out, static_cast<int>(state));
                                  }),
                    ")");
  }
  for (const auto& [key, value] : filter.labels) {
    absl::StrAppend(&sql, " AND number IN (SELECT job FROM job_labels WHERE key = ", place(key));
    absl::StrAppend(&sql, " AND value = ", place(value), ")");
  }
  if (filter.tenant.has_value()) absl::StrAppend(&sql, " AND tenant = ", place(*filter.tenant));
  absl::StrAppend(&sql, " AND ", filter.kind == JobKind::kRun ? "" : "NOT ", "starts_with(id, ",
                  place(std::string(kRunIdPrefix)), ")");
  absl::StrAppend(&sql, " ORDER BY number DESC LIMIT ", place(int64_t{limit}));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found, connection_.Query(sql, values));
  std::vector<int64_t> numbers;
  numbers.reserve(static_cast<size_t>(found.rows()));
  for (int i = 0; i < found.rows(); ++i) numbers.push_back(found.Integer(i, 0));
  return numbers;
}

absl::StatusOr<std::vector<std::string>> PostgresJobRows::FindEnded(absl::Time before, int limit) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query("SELECT id FROM jobs WHERE state IN (3, 4, 5) AND end_time < $1"
                        " ORDER BY number LIMIT $2",
                        {absl::ToUnixNanos(before), int64_t{limit}}));
  std::vector<std::string> ids;
  ids.reserve(static_cast<size_t>(found.rows()));
  for (int i = 0; i < found.rows(); ++i) ids.push_back(found.Text(i, 0));
  return ids;
}

absl::StatusOr<JobRecord> PostgresJobRows::Complete(const JobRow& row) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query(
          "SELECT 0::bigint, 0::bigint, ''::text, ''::text, spec FROM job_specs WHERE job = $1"
          " UNION ALL SELECT 1, 0, key, value, '' FROM job_labels WHERE job = $1"
          " UNION ALL SELECT 2, method_index, '', '', result FROM job_results WHERE job = $1"
          " ORDER BY 1, 2",
          {row.number}));
  JobRecord record = row.record;
  const bool has_spec = found.rows() > 0 && found.Integer(0, 0) == 0;
  if (!has_spec) return MissingRow("the specification", row.number);
  record.spec = found.Text(0, 4);
  for (int i = 1; i < found.rows(); ++i) {
    if (found.Integer(i, 0) == 1) {
      record.labels.emplace(found.Text(i, 2), found.Text(i, 3));
    } else {
      record.results.push_back(found.Text(i, 4));
    }
  }
  if (static_cast<int64_t>(record.results.size()) != row.results) {
    return MissingRow("a result", row.number);
  }
  return record;
}

// --- Counting ---

absl::StatusOr<int64_t> PostgresJobRows::CountQueued() {
  return ReadInteger("SELECT count(*) FROM jobs WHERE state = 1");
}

absl::StatusOr<std::map<JobState, int64_t>> PostgresJobRows::CountByState() {
  std::map<JobState, int64_t> counts;
  for (const JobState state : kJobStates) counts[state] = 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found,
                             connection_.Query("SELECT state, count(*) FROM jobs GROUP BY state"));
  for (int i = 0; i < found.rows(); ++i) {
    counts[static_cast<JobState>(found.Integer(i, 0))] = found.Integer(i, 1);
  }
  return counts;
}

// --- Writing ---

absl::Status PostgresJobRows::Insert(JobRow* row) {
  ATTNPRUNE_ASSIGN_OR_RETURN(row->number, ReadInteger("SELECT nextval('job_numbers')"));
  const JobRecord& job = row->record;
  Row values = EncodeColumns(*row);
  values.insert(values.end(), {job.tenant, job.origin.request_id, job.origin.traceparent});
  values.push_back(Bytes{job.spec});
  // The claim looks for jobs by the tenants that have a turn.
  ATTNPRUNE_RETURN_IF_ERROR(
      Execute(absl::StrCat("WITH made AS (INSERT INTO jobs (", kJobColumns, kBehindThem,
                           ", changed) SELECT ",
                           "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
                           " $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28,"
                           " pg_current_xact_id() RETURNING number, changed::text),"
                           " turn AS (INSERT INTO tenant_turns SELECT $26, 0"
                           " WHERE NOT EXISTS (SELECT 1 FROM tenant_turns WHERE tenant = $26)"
                           " ON CONFLICT DO NOTHING),"
                           " spec AS (INSERT INTO job_specs SELECT number, $29 FROM made)"
                           " SELECT changed FROM made"),
              values));
  for (const auto& [key, value] : job.labels) {
    ATTNPRUNE_RETURN_IF_ERROR(
        Execute("INSERT INTO job_labels VALUES ($1, $2, $3)", {row->number, key, value}));
  }
  return absl::OkStatus();
}

absl::Status PostgresJobRows::Save(const JobRow& row) {
  return Execute(
      "UPDATE jobs SET id = $2, request_id = $3, request_digest = $4, priority = $5, timeout = $6,"
      " create_time = $7, start_time = $8, end_time = $9, state = $10, failure_code = $11,"
      " failure_message = $12, lease_owner = $13, lease_until = $14, fence = $15, attempt = $16,"
      " losses = $17, cancel_requested = $18, results = $19, next_sequence = $20,"
      " oldest_sequence = $21, checkpoint_count = $22, checkpoint_name = $23, checkpoint_size = "
      "$24,"
      " checkpoint_checksum = $25, changed = pg_current_xact_id() WHERE number = $1"
      " RETURNING changed::text",
      EncodeColumns(row));
}

absl::Status PostgresJobRows::Remove(int64_t number) {
  return Execute("DELETE FROM jobs WHERE number = $1 RETURNING pg_current_xact_id()::text",
                 {number});
}

absl::Status PostgresJobRows::AddResult(const JobRow& row, int method_index,
                                        absl::string_view result) {
  return Execute("INSERT INTO job_results VALUES ($1, $2, $3)",
                 {row.number, int64_t{method_index}, Bytes{std::string(result)}});
}

// --- Claiming ---

// Tenants in the order of their best job, none of it locked; of the first of them that has a job no
// other transaction is claiming, that job, locked. The index has a tenant's jobs in order, so this
// takes time by the number of tenants, not of jobs.
absl::StatusOr<absl::optional<JobRow>> PostgresJobRows::FindNextOf(absl::string_view which,
                                                                   int64_t max_running_per_tenant) {
  Row values;
  std::string may_run;
  if (max_running_per_tenant > 0) {
    values.emplace_back(max_running_per_tenant);
    may_run = " WHERE (SELECT count(*) FROM jobs WHERE state = 2 AND tenant = t.tenant) < $1";
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query(
          absl::StrCat("SELECT next.* FROM (SELECT t.tenant, best.priority FROM tenant_turns t"
                       " CROSS JOIN LATERAL (SELECT priority, number FROM jobs"
                       "  WHERE state = 1 AND tenant = t.tenant"
                       "  ORDER BY priority DESC, number LIMIT 1) best",
                       may_run,
                       " ORDER BY best.priority DESC, t.turn, best.number) first"
                       " CROSS JOIN LATERAL (SELECT ",
                       kJobColumns, kBehindThem,
                       "  FROM jobs WHERE state = 1 AND jobs.tenant = first.tenant", which,
                       "  ORDER BY jobs.priority DESC, number LIMIT 1"
                       "  FOR NO KEY UPDATE SKIP LOCKED) next LIMIT 1"),
          values));
  if (found.rows() == 0) return absl::optional<JobRow>();
  return absl::optional<JobRow>(DecodeColumns(found.ReadRow(0)));
}

// A limit needs claims one after the other: each must see how many the others have made run.
absl::StatusOr<absl::optional<JobRow>> PostgresJobRows::FindNextToClaim(
    int64_t max_running_per_tenant) {
  if (max_running_per_tenant > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(
        connection_.Query("SELECT pg_advisory_xact_lock(1635021938, 2)").status());
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      absl::optional<JobRow> best,
      FindNextOf(" AND jobs.priority = first.priority", max_running_per_tenant));
  if (best.has_value()) return best;
  // Where others are claiming every best job, one of a lower priority is next.
  return FindNextOf("", max_running_per_tenant);
}

}  // namespace attnprune::postgres
