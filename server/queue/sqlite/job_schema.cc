#include "server/queue/sqlite/job_schema.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "server/queue/sqlite/sqlite.h"

namespace attnprune {
namespace {

constexpr int64_t kApplicationId = 0x61706a31;  // "apj1"
constexpr int64_t kSchemaVersion = 7;
constexpr int64_t kWithHistory = 7;  // the first version that has one

// Version 1. Times and durations are nanoseconds, times since 1970; states and kinds as in
// job_record.h. Each table's last column seals the row (sqlite.h). A number is never used for
// a second job.
constexpr char kSchema[] = R"sql(
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  request_id TEXT UNIQUE,
  request_digest BLOB NOT NULL,
  priority INTEGER NOT NULL,
  timeout INTEGER NOT NULL,
  create_time INTEGER NOT NULL,
  start_time INTEGER,
  end_time INTEGER,
  state INTEGER NOT NULL,
  failure_code INTEGER NOT NULL,
  failure_message TEXT NOT NULL,
  lease_owner TEXT NOT NULL,
  lease_until INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  losses INTEGER NOT NULL,
  cancel_requested INTEGER NOT NULL,
  results INTEGER NOT NULL,
  next_sequence INTEGER NOT NULL,
  oldest_sequence INTEGER NOT NULL,
  checkpoint_count INTEGER NOT NULL,
  checkpoint_name TEXT NOT NULL,
  checkpoint_size INTEGER NOT NULL,
  checkpoint_checksum INTEGER NOT NULL,
  seal INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_to_claim ON jobs (priority DESC, number) WHERE state = 1;
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE TABLE job_specs (
  job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
  spec BLOB NOT NULL,
  labels INTEGER NOT NULL,
  seal INTEGER NOT NULL
) STRICT;
CREATE TABLE job_labels (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  seal INTEGER NOT NULL,
  PRIMARY KEY (job, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_label ON job_labels (key, value, job);
CREATE TABLE job_tensors (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  digest TEXT NOT NULL,
  seal INTEGER NOT NULL,
  PRIMARY KEY (job, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE job_results (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  method_index INTEGER NOT NULL,
  result BLOB NOT NULL,
  seal INTEGER NOT NULL,
  PRIMARY KEY (job, method_index)
) STRICT, WITHOUT ROWID;
CREATE TABLE job_events (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  time INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  method_index INTEGER NOT NULL,
  payload BLOB NOT NULL,
  seal INTEGER NOT NULL,
  PRIMARY KEY (job, sequence)
) STRICT, WITHOUT ROWID;
)sql";

// Version 2 is version 1 and, behind it, the requests that made the jobs; jobs of before have none.
// Version 3 has the same tables; its events may be of kind kEvaluated, which version 2 cannot read.
constexpr char kOrigins[] = R"sql(
CREATE TABLE job_origins (
  job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
  request_id TEXT NOT NULL,
  traceparent TEXT NOT NULL,
  seal INTEGER NOT NULL
) STRICT;
)sql";

// Version 4 has, behind those, the tensors from which runs go on.
constexpr char kStates[] = R"sql(
CREATE TABLE job_states (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  digest TEXT NOT NULL,
  seal INTEGER NOT NULL,
  PRIMARY KEY (job, digest)
) STRICT, WITHOUT ROWID;
)sql";

// Version 5 has, behind those, the parts of running jobs. states: digests, one a line.
constexpr char kParts[] = R"sql(
CREATE TABLE job_parts (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  part INTEGER NOT NULL,
  results INTEGER NOT NULL,
  done INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  job_fence INTEGER NOT NULL,
  own INTEGER NOT NULL,
  lease_until INTEGER NOT NULL,
  states TEXT NOT NULL,
  seal INTEGER NOT NULL,
  PRIMARY KEY (job, part)
) STRICT, WITHOUT ROWID;
)sql";

// Version 6 has, behind those, the checkpoints of parts.
constexpr char kPartCheckpoints[] = R"sql(
CREATE TABLE job_part_checkpoints (
  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
  part INTEGER NOT NULL,
  name TEXT NOT NULL,
  size INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  seal INTEGER NOT NULL,
  PRIMARY KEY (job, part)
) STRICT, WITHOUT ROWID;
)sql";

// Version 7 has, behind those, one row: the database's own Watermark but for the jobs accepted,
// which sqlite_sequence tells.
constexpr char kHistory[] = R"sql(
CREATE TABLE job_history (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  history INTEGER NOT NULL,
  changes INTEGER NOT NULL,
  seal INTEGER NOT NULL
) STRICT;
)sql";
constexpr char kHistoryTable[] = "job_history";

// What version `to` has that version `from` has not; 0: no tables at all.
std::string TablesBetween(int64_t from, int64_t to) {
  std::string tables;
  if (from < 1) tables += kSchema;
  if (from < 2 && to >= 2) tables += kOrigins;
  if (from < 4 && to >= 4) tables += kStates;
  if (from < 5 && to >= 5) tables += kParts;
  if (from < 6 && to >= 6) tables += kPartCheckpoints;
  if (from < kWithHistory && to >= kWithHistory) tables += kHistory;
  return tables;
}

std::vector<std::string> SealedTables(int64_t version) {
  std::vector<std::string> tables = {"jobs",        "job_specs",   "job_labels",
                                     "job_tensors", "job_results", "job_events"};
  if (version >= 2) tables.emplace_back("job_origins");
  if (version >= 4) tables.emplace_back("job_states");
  if (version >= 5) tables.emplace_back("job_parts");
  if (version >= 6) tables.emplace_back("job_part_checkpoints");
  if (version >= kWithHistory) tables.emplace_back(kHistoryTable);
  return tables;
}

absl::StatusOr<sqlite::Database> EmptyDatabase(int64_t version) {
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database database, sqlite::Database::Open(":memory:"));
  ATTNPRUNE_RETURN_IF_ERROR(database.ExecuteScript(
      absl::StrCat("PRAGMA application_id = ", kApplicationId, ";",
                   "PRAGMA user_version = ", version, ";", TablesBetween(0, version))));
  return database;
}

// What sqlite_schema says, in its order, which is that of creation.
absl::StatusOr<std::string> ReadSchema(sqlite::Database* database) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      sqlite::Query query,
      database->Start("SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_schema"));
  std::string schema;
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, query.Next());
    if (!more) return schema;
    for (int column = 0; column < 4; ++column) absl::StrAppend(&schema, query.Text(column), ";");
  }
}

// The version, one that can be read.
absl::StatusOr<int64_t> CheckVersion(sqlite::Database* database) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t application,
                             database->ReadInteger("PRAGMA application_id"));
  if (application != kApplicationId) {
    return absl::FailedPreconditionError(
        absl::StrCat("database: not one of attnprune's (application id ", application, ")"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t version, database->ReadInteger("PRAGMA user_version"));
  if (version < 1 || version > kSchemaVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("database: made by another version of attnprune (schema ", version,
                     ", this one reads 1 to ", kSchemaVersion, ")"));
  }
  return version;
}

absl::Status CheckSchema(sqlite::Database* database, int64_t version) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string schema, ReadSchema(database));
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database empty, EmptyDatabase(version));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string expected, ReadSchema(&empty));
  if (schema == expected) return absl::OkStatus();
  return absl::DataLossError("database: its tables are not those of this schema version");
}

absl::Status CheckStructure(sqlite::Database* database) {
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Query check, database->Start("PRAGMA integrity_check(1)"));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool found, check.Next());
  const std::string verdict = found ? check.Text(0) : "no verdict";
  if (verdict == "ok") return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("database: damaged: ", verdict));
}

// Rows that others count or point to must be there.
absl::Status CheckReferences(sqlite::Database* database) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const int64_t strays,
      database->ReadInteger(
          "SELECT (SELECT count(*) FROM pragma_foreign_key_check) +"
          " (SELECT count(*) FROM jobs LEFT JOIN job_specs ON job = number"
          "  WHERE job IS NULL"
          "  OR labels != (SELECT count(*) FROM job_labels WHERE job = number)"
          "  OR results != (SELECT count(*) FROM job_results WHERE job = number))"));
  if (strays == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("database: damaged: rows missing of ", strays, " jobs"));
}

absl::Status Configure(sqlite::Database* database) {
  // busy_timeout: a person may be reading with the sqlite3 program.
  ATTNPRUNE_RETURN_IF_ERROR(database->ExecuteScript(
      "PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
      "PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
      "PRAGMA journal_size_limit = 16777216;"));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t durable, database->ReadInteger("PRAGMA synchronous"));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const int64_t logged,
      database->ReadInteger("SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'"));
  if (durable == 2 && logged == 1) return absl::OkStatus();
  return absl::InternalError("database: SQLite cannot keep a write-ahead log here");
}

// The SQL here is right, so if SQLite cannot make sense of it, it is the database that is wrong.
absl::Status UnknownIsDamage(const absl::Status& status) {
  return absl::IsUnknown(status) ? absl::DataLossError(status.message()) : status;
}

absl::Status CheckContents(sqlite::Database* database) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t version, CheckVersion(database));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSchema(database, version));
  ATTNPRUNE_RETURN_IF_ERROR(CheckStructure(database));
  for (const std::string& table : SealedTables(version)) {
    ATTNPRUNE_RETURN_IF_ERROR(sqlite::CheckSeals(database, table));
  }
  return CheckReferences(database);
}

absl::StatusOr<int64_t> CountAccepted(sqlite::Database* database) {
  return database->ReadInteger("SELECT ifnull(max(seq), 0) FROM sqlite_sequence");
}

int64_t DrawHistory() {
  std::random_device random;
  return static_cast<int64_t>((uint64_t{random()} << 32 | random()) >> 1);
}

}  // namespace

absl::Status MakeJobDatabase(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database database, EmptyDatabase(kSchemaVersion));
  ATTNPRUNE_RETURN_IF_ERROR(BeginHistory(&database, 0));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string image, database.Serialize());
  return WriteFileAtomically(path, {absl::Span<const char>(image.data(), image.size())},
                             Readers::kOwner);
}

absl::StatusOr<sqlite::Database> OpenJobDatabase(const std::string& path) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) != 0) return ErrnoError(errno, path, "open");
  // SQLite would take it for a new database.
  if (facts.st_size == 0) return absl::DataLossError(absl::StrCat(path, ": damaged: empty file"));
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database database, sqlite::Database::Open(path));
  if (database.IsReadOnly()) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": cannot be written"));
  }
  ATTNPRUNE_RETURN_IF_ERROR(UnknownIsDamage(Configure(&database)));
  // By now SQLite has read the header.
  if (database.IsReadOnly()) {
    return absl::DataLossError(absl::StrCat(path, ": damaged: its header says read-only"));
  }
  return database;
}

absl::Status CheckJobDatabase(sqlite::Database* database) {
  return UnknownIsDamage(CheckContents(database));
}

// One transaction: a crash leaves the old version or the new one. Only what was checked gets here.
absl::Status BringUpToDate(sqlite::Database* database) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t version, CheckVersion(database));
  if (version == kSchemaVersion) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Transaction transaction,
                             sqlite::Transaction::Begin(database, sqlite::TransactionKind::kWrite));
  ATTNPRUNE_RETURN_IF_ERROR(database->ExecuteScript(absl::StrCat(
      TablesBetween(version, kSchemaVersion), "PRAGMA user_version = ", kSchemaVersion, ";")));
  if (version < kWithHistory) ATTNPRUNE_RETURN_IF_ERROR(BeginHistory(database, 0));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSchema(database, kSchemaVersion));
  return transaction.Commit();
}

absl::StatusOr<Watermark> ReadWatermark(sqlite::Database* database) {
  Watermark mark;
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t version, CheckVersion(database));
  ATTNPRUNE_ASSIGN_OR_RETURN(mark.accepted, CountAccepted(database));
  if (version < kWithHistory) return mark;
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Query query,
                             database->Start("SELECT history, changes FROM job_history"));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool found, query.Next());
  if (!found) return absl::DataLossError("database: damaged: its history is missing");
  mark.history = query.Integer(0);
  mark.changes = query.Integer(1);
  return mark;
}

absl::Status WriteWatermark(sqlite::Database* database, const Watermark& mark) {
  return database->Execute(
      "UPDATE job_history SET changes = ?3, seal = ?4 WHERE one = ?1 AND history = ?2",
      sqlite::Seal(kHistoryTable, {int64_t{1}, mark.history, mark.changes}));
}

absl::Status BeginHistory(sqlite::Database* database, int64_t changes) {
  return database->Execute("INSERT OR REPLACE INTO job_history VALUES (?, ?, ?, ?)",
                           sqlite::Seal(kHistoryTable, {int64_t{1}, DrawHistory(), changes}));
}

}  // namespace attnprune
