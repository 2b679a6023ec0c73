// Parts of running jobs, and their checkpoints.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/queue/job_row_codec.h"
#include "server/queue/postgres/postgres_job_rows.h"

namespace attnprune::postgres {
namespace {

// Of a job j that may have parts p to claim; $1 is now.
constexpr char kOpenPart[] =
    "j.state = 2 AND j.cancel_requested = 0 AND p.done = 0"
    " AND (p.job_fence != j.fence OR (p.own = 0 AND p.lease_until <= $1))";

absl::optional<PartRow> FirstPart(std::vector<PartRow> parts) {
  if (parts.empty()) return absl::nullopt;
  return std::move(parts[0]);
}

}  // namespace

absl::StatusOr<std::vector<PartRow>> PostgresJobRows::FindParts(absl::string_view which,
                                                                absl::Span<const Value> values) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query(absl::StrCat("SELECT p.job, p.part, p.results, p.done, p.fence,"
                                     " p.job_fence, p.own, p.lease_until, p.states FROM ",
                                     which),
                        values));
  std::vector<PartRow> parts;
  parts.reserve(static_cast<size_t>(found.rows()));
  for (int i = 0; i < found.rows(); ++i) parts.push_back(DecodePart(found.ReadRow(i)));
  return parts;
}

absl::StatusOr<absl::optional<PartRow>> PostgresJobRows::FindPart(int64_t number, int part) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::vector<PartRow> parts,
      FindParts("job_parts p WHERE job = $1 AND part = $2", {number, int64_t{part}}));
  return FirstPart(std::move(parts));
}

absl::StatusOr<std::vector<PartRow>> PostgresJobRows::ReadParts(int64_t number) {
  return FindParts("job_parts p WHERE job = $1 ORDER BY part", {number});
}

// The job is locked before its part, as every writer does, and then the part looked for anew:
// another server may have taken it while this one waited.
absl::StatusOr<absl::optional<PartRow>> PostgresJobRows::FindNextPart() {
  constexpr int kTries = 10;
  const int64_t now = absl::ToUnixNanos(Now());
  for (int i = 0; i < kTries; ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result job,
        connection_.Query(
            absl::StrCat("SELECT j.number FROM jobs j JOIN job_parts p"
                         " ON p.job = j.number WHERE ",
                         kOpenPart, " ORDER BY j.priority DESC, j.number, p.part LIMIT 1"),
            {now}));
    if (job.rows() == 0) break;
    const int64_t number = job.Integer(0, 0);
    ATTNPRUNE_RETURN_IF_ERROR(
        connection_.Query("SELECT 1 FROM jobs WHERE number = $1 FOR NO KEY UPDATE", {number})
            .status());
    ATTNPRUNE_ASSIGN_OR_RETURN(
        std::vector<PartRow> parts,
        FindParts(absl::StrCat("jobs j JOIN job_parts p ON p.job = j.number WHERE ", kOpenPart,
                               " AND j.number = $2 ORDER BY p.part LIMIT 1"),
                  {now, number}));
    if (!parts.empty()) return FirstPart(std::move(parts));
  }
  return absl::optional<PartRow>();
}

absl::StatusOr<absl::optional<PartRow>> PostgresJobRows::FindNextOwnPart(const JobRow& job) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::vector<PartRow> parts,
      FindParts("job_parts p WHERE job = $1 AND done = 0"
                " AND (job_fence != $2 OR own = 1 OR lease_until <= $3) ORDER BY part LIMIT 1",
                {job.number, job.record.fence, absl::ToUnixNanos(Now())}));
  return FirstPart(std::move(parts));
}

// The job has changed, too, for those who look for what is new.
absl::Status PostgresJobRows::SavePart(const PartRow& part) {
  return Execute(
      "WITH saved AS (INSERT INTO job_parts (job, part, results, done, fence, job_fence, own,"
      " lease_until, states) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
      " ON CONFLICT (job, part) DO UPDATE SET results = excluded.results, done = excluded.done,"
      " fence = excluded.fence, job_fence = excluded.job_fence, own = excluded.own,"
      " lease_until = excluded.lease_until, states = excluded.states)"
      " UPDATE jobs SET changed = pg_current_xact_id() WHERE number = $1 RETURNING changed::text",
      EncodePart(part));
}

absl::Status PostgresJobRows::RemoveParts(int64_t number) {
  return Execute("DELETE FROM job_parts WHERE job = $1", {number});
}

absl::StatusOr<PartCheckpoints> PostgresJobRows::ReadPartCheckpoints(int64_t number) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query(
          "SELECT part, name, size, checksum FROM job_part_checkpoints WHERE job = $1", {number}));
  PartCheckpoints checkpoints;
  for (int i = 0; i < found.rows(); ++i) {
    checkpoints[static_cast<int>(found.Integer(i, 0))] = {found.Text(i, 1), found.Integer(i, 2),
                                                          found.Integer(i, 3)};
  }
  return checkpoints;
}

absl::Status PostgresJobRows::SavePartCheckpoint(int64_t number, int part,
                                                 const CheckpointRef& ref) {
  if (ref.name.empty()) {
    return Execute("DELETE FROM job_part_checkpoints WHERE job = $1 AND part = $2",
                   {number, int64_t{part}});
  }
  return Execute(
      "INSERT INTO job_part_checkpoints VALUES ($1, $2, $3, $4, $5) ON CONFLICT (job, part)"
      " DO UPDATE SET name = excluded.name, size = excluded.size, checksum = excluded.checksum",
      {number, int64_t{part}, ref.name, ref.size, ref.checksum});
}

}  // namespace attnprune::postgres
