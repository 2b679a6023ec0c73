#include "server/queue/postgres/postgres_schema.h"

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"

namespace attnprune::postgres {
namespace {

// Version 1. Times and durations are nanoseconds, times since 1970; states and kinds as in
// job_record.h; what is true or false is 1 or 0. The columns are those of job_row_codec.h, in its
// order, and behind them what only this database keeps. A number is never used for a second job.
//
// store, one row: the schema's version; the oldest version of attnprune's that can work with it;
// where the jobs' tensors are.
//
// jobs.changed: the transaction that has changed the job last, by which other servers find what is
// new (change_feed.h). tenant_turns has a row of every tenant that ever had a job.
constexpr char kTables[] = R"sql(
CREATE SCHEMA IF NOT EXISTS attnprune;
SET LOCAL search_path = attnprune;
CREATE TABLE store (
  one bigint PRIMARY KEY CHECK (one = 1),
  version bigint NOT NULL,
  usable_by bigint NOT NULL,
  tensors text NOT NULL
);
CREATE SEQUENCE job_numbers;
CREATE SEQUENCE turn_numbers;
CREATE TABLE jobs (
  number bigint PRIMARY KEY,
  id text NOT NULL UNIQUE,
  request_id text UNIQUE,
  request_digest bytea NOT NULL,
  priority bigint NOT NULL,
  timeout bigint NOT NULL,
  create_time bigint NOT NULL,
  start_time bigint,
  end_time bigint,
  state bigint NOT NULL,
  failure_code bigint NOT NULL,
  failure_message bytea NOT NULL,
  lease_owner text NOT NULL,
  lease_until bigint NOT NULL,
  fence bigint NOT NULL,
  attempt bigint NOT NULL,
  losses bigint NOT NULL,
  cancel_requested bigint NOT NULL,
  results bigint NOT NULL,
  next_sequence bigint NOT NULL,
  oldest_sequence bigint NOT NULL,
  checkpoint_count bigint NOT NULL,
  checkpoint_name text NOT NULL,
  checkpoint_size bigint NOT NULL,
  checkpoint_checksum bigint NOT NULL,
  tenant text NOT NULL,
  origin_request_id text NOT NULL,
  traceparent text NOT NULL,
  changed xid8 NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX jobs_to_claim ON jobs (tenant, priority DESC, number) WHERE state = 1;
CREATE INDEX jobs_running ON jobs (tenant, number) WHERE state = 2;
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_tenant ON jobs (tenant, number);
CREATE INDEX jobs_by_change ON jobs (changed);
CREATE TABLE job_specs (
  job bigint PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
  spec bytea NOT NULL
);
CREATE TABLE job_labels (
  job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
  key text NOT NULL,
  value text NOT NULL,
  PRIMARY KEY (job, key)
);
CREATE INDEX jobs_by_label ON job_labels (key, value, job);
CREATE TABLE job_tensors (
  job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
  digest text NOT NULL,
  PRIMARY KEY (job, digest)
);
CREATE INDEX jobs_by_tensor ON job_tensors (digest, job);
CREATE TABLE job_states (
  job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
  digest text NOT NULL,
  PRIMARY KEY (job, digest)
);
CREATE TABLE job_results (
  job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
  method_index bigint NOT NULL,
  result bytea NOT NULL,
  PRIMARY KEY (job, method_index)
);
CREATE TABLE job_events (
  job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
  sequence bigint NOT NULL,
  time bigint NOT NULL,
  kind bigint NOT NULL,
  state bigint NOT NULL,
  attempt bigint NOT NULL,
  method_index bigint NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (job, sequence)
);
CREATE TABLE job_parts (
  job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
  part bigint NOT NULL,
  results bigint NOT NULL,
  done bigint NOT NULL,
  fence bigint NOT NULL,
  job_fence bigint NOT NULL,
  own bigint NOT NULL,
  lease_until bigint NOT NULL,
  states text NOT NULL,
  PRIMARY KEY (job, part)
);
CREATE TABLE job_part_checkpoints (
  job bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
  part bigint NOT NULL,
  name text NOT NULL,
  size bigint NOT NULL,
  checksum bigint NOT NULL,
  PRIMARY KEY (job, part)
);
CREATE TABLE tenant_tensors (
  tenant text NOT NULL,
  digest text NOT NULL,
  time bigint NOT NULL,
  PRIMARY KEY (tenant, digest)
);
CREATE INDEX tenant_tensors_by_time ON tenant_tensors (time);
CREATE TABLE tenant_turns (
  tenant text PRIMARY KEY,
  turn bigint NOT NULL
);
INSERT INTO store VALUES (1, 1, 1, '');
)sql";

// Version 2 has a shared blob store's ledger (blob_ledger.h), which version 1 does without, and
// duties that one server does at a time.
//
// blob_objects.state: 0 reserved, 1 a tensor, 2 to be removed, 3 damaged and kept.
// blob_uploads.parts: a line a part.
constexpr char kLedgerTables[] = R"sql(
SET LOCAL search_path = attnprune;
CREATE TABLE blob_place (
  one bigint PRIMARY KEY CHECK (one = 1),
  id text NOT NULL
);
CREATE TABLE blobs (
  digest text PRIMARY KEY,
  object text NOT NULL UNIQUE,
  size bigint NOT NULL,
  touched bigint NOT NULL
);
CREATE INDEX blobs_by_touch ON blobs (touched);
CREATE TABLE blob_objects (
  object text PRIMARY KEY,
  state bigint NOT NULL,
  since bigint NOT NULL,
  writing text NOT NULL
);
CREATE INDEX blob_objects_to_do ON blob_objects (state, since) WHERE state <> 1;
CREATE TABLE blob_uploads (
  key text PRIMARY KEY,
  tenant text NOT NULL,
  digest text NOT NULL,
  size bigint NOT NULL,
  holder text NOT NULL,
  hold_until bigint NOT NULL,
  touched bigint NOT NULL,
  object text NOT NULL DEFAULT '',
  writing text NOT NULL DEFAULT '',
  parts text NOT NULL DEFAULT '',
  part_bytes bigint NOT NULL DEFAULT 0,
  tail text NOT NULL DEFAULT '',
  tail_bytes bigint NOT NULL DEFAULT 0
);
CREATE INDEX blob_uploads_by_object ON blob_uploads (object);
CREATE INDEX blob_uploads_by_tail ON blob_uploads (tail);
CREATE TABLE duties (
  duty text PRIMARY KEY,
  holder text NOT NULL,
  until bigint NOT NULL
);
UPDATE store SET version = 2;
)sql";

// One server at a time makes or changes the tables.
constexpr char kBegin[] =
    "BEGIN; SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(1635021938, 1)";

absl::Status CheckUsable(int64_t version, int64_t usable_by) {
  if (version <= kSchemaVersion || usable_by <= kSchemaVersion) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("store: must be of schema ", kSchemaVersion,
                                                    ", or of one that it can work with, "
                                                    "got schema ",
                                                    version,
                                                    ": made by a newer version of attnprune"));
}

absl::Status NoteTensors(Connection& connection, const std::string& noted,
                         const std::string& tensors) {
  if (noted == tensors) return absl::OkStatus();
  if (!noted.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Result jobs,
                               connection.Query("SELECT EXISTS (SELECT 1 FROM attnprune.jobs)"));
    if (jobs.Integer(0, 0) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "data_dir: must be the folder of the tensors of the database's jobs, ", noted, ", got ",
          tensors, ": a database goes with one folder, or one place of shared tensors (blobs)"));
    }
  }
  return connection.Query("UPDATE attnprune.store SET tensors = $1", {tensors}).status();
}

absl::Status Prepare(Connection& connection, const std::string& tensors) {
  ATTNPRUNE_RETURN_IF_ERROR(connection.Script(kBegin).status());
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found,
                             connection.Query("SELECT to_regclass('attnprune.store') IS NOT NULL"));
  if (found.Integer(0, 0) == 0) ATTNPRUNE_RETURN_IF_ERROR(connection.Script(kTables).status());
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result store,
      connection.Query("SELECT version, usable_by, tensors FROM attnprune.store"));
  if (store.rows() != 1) return absl::DataLossError("store: its version is missing");
  ATTNPRUNE_RETURN_IF_ERROR(CheckUsable(store.Integer(0, 0), store.Integer(0, 1)));
  if (store.Integer(0, 0) < 2) {
    ATTNPRUNE_RETURN_IF_ERROR(connection.Script(kLedgerTables).status());
  }
  ATTNPRUNE_RETURN_IF_ERROR(NoteTensors(connection, store.Text(0, 2), tensors));
  return connection.Script("COMMIT").status();
}

}  // namespace

absl::Status PrepareSchema(Connection& connection, const std::string& tensors) {
  absl::Status status = Prepare(connection, tensors);
  if (!status.ok()) connection.Script("ROLLBACK").status().IgnoreError();
  return status;
}

}  // namespace attnprune::postgres
