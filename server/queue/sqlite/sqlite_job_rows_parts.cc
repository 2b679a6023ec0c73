// Parts of running jobs, and their checkpoints.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/queue/job_row_codec.h"
#include "server/queue/sqlite/sqlite.h"
#include "server/queue/sqlite/sqlite_job_rows.h"

namespace attnprune {
namespace {

absl::optional<PartRow> First(std::vector<PartRow> parts) {
  if (parts.empty()) return absl::nullopt;
  return std::move(parts[0]);
}

}  // namespace

absl::StatusOr<std::vector<PartRow>> SqliteJobRows::FindParts(
    const std::string& from, absl::Span<const sqlite::Value> values) {
  std::vector<PartRow> parts;
  ATTNPRUNE_RETURN_IF_ERROR(sqlite::ForEachSealed(
      database_, "job_parts", absl::StrCat("SELECT job_parts.* FROM ", from), values,
      [&parts](sqlite::Row row) { parts.push_back(DecodePart(std::move(row))); }));
  return parts;
}

absl::StatusOr<absl::optional<PartRow>> SqliteJobRows::FindPart(int64_t number, int part) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::vector<PartRow> parts,
      FindParts("job_parts WHERE job = ? AND part = ?", {number, int64_t{part}}));
  return First(std::move(parts));
}

absl::StatusOr<std::vector<PartRow>> SqliteJobRows::ReadParts(int64_t number) {
  return FindParts("job_parts WHERE job = ? ORDER BY part", {number});
}

absl::StatusOr<absl::optional<PartRow>> SqliteJobRows::FindNextPart() {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::vector<PartRow> parts,
      FindParts("jobs JOIN job_parts ON job = number"
                " WHERE state = 2 AND NOT cancel_requested AND NOT done"
                " AND (job_fence != jobs.fence OR (NOT own AND job_parts.lease_until <= ?))"
                " ORDER BY priority DESC, number, part LIMIT 1",
                {absl::ToUnixNanos(Now())}));
  return First(std::move(parts));
}

absl::StatusOr<absl::optional<PartRow>> SqliteJobRows::FindNextOwnPart(const JobRow& job) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::vector<PartRow> parts,
      FindParts("job_parts WHERE job = ? AND NOT done"
                " AND (job_fence != ? OR own OR lease_until <= ?) ORDER BY part LIMIT 1",
                {job.number, job.record.fence, absl::ToUnixNanos(Now())}));
  return First(std::move(parts));
}

absl::Status SqliteJobRows::SavePart(const PartRow& part) {
  return database_.Execute("INSERT OR REPLACE INTO job_parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                           sqlite::Seal("job_parts", EncodePart(part)));
}

absl::Status SqliteJobRows::RemoveParts(int64_t number) {
  return database_.Execute("DELETE FROM job_parts WHERE job = ?", {number});
}

absl::StatusOr<PartCheckpoints> SqliteJobRows::ReadPartCheckpoints(int64_t number) {
  PartCheckpoints checkpoints;
  ATTNPRUNE_RETURN_IF_ERROR(sqlite::ForEachSealed(
      database_, "job_part_checkpoints", "SELECT * FROM job_part_checkpoints WHERE job = ?",
      {number}, [&checkpoints](sqlite::Row row) {
        checkpoints[static_cast<int>(std::get<int64_t>(row[1]))] = {
            std::get<std::string>(std::move(row[2])), std::get<int64_t>(row[3]),
            std::get<int64_t>(row[4])};
      }));
  return checkpoints;
}

absl::Status SqliteJobRows::SavePartCheckpoint(int64_t number, int part, const CheckpointRef& ref) {
  ATTNPRUNE_RETURN_IF_ERROR(database_.Execute(
      "DELETE FROM job_part_checkpoints WHERE job = ? AND part = ?", {number, int64_t{part}}));
  if (ref.name.empty()) return absl::OkStatus();
  return sqlite::InsertSealed(&database_, "job_part_checkpoints",
                              {number, int64_t{part}, ref.name, ref.size, ref.checksum});
}

}  // namespace attnprune
