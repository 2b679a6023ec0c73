// Uploads in the ledger: who writes each, and how far it is.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "server/blobs/postgres/postgres_blob_ledger.h"
#include "server/blobs/upload_rules.h"

namespace attnprune::postgres {
namespace {

constexpr char kFindUpload[] =
    "SELECT digest, size, holder, hold_until, object, writing, parts, part_bytes, tail, tail_bytes"
    " FROM blob_uploads WHERE key = $1 FOR UPDATE";

struct UploadRow {
  UploadSpec spec;
  std::string holder;
  int64_t hold_until = 0;
  UploadExtent extent;
};

absl::StatusOr<absl::optional<UploadRow>> FindUpload(Connection& connection,
                                                     const std::string& key) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found, connection.Query(kFindUpload, {key}));
  if (found.rows() == 0) return absl::optional<UploadRow>();
  UploadRow row;
  row.spec.sha256 = found.Text(0, 0);
  row.spec.size_bytes = found.Integer(0, 1);
  row.holder = found.Text(0, 2);
  row.hold_until = found.Integer(0, 3);
  row.extent.object = found.Text(0, 4);
  row.extent.writing = found.Text(0, 5);
  row.extent.parts = absl::StrSplit(found.Text(0, 6), '\n', absl::SkipEmpty());
  row.extent.part_bytes = found.Integer(0, 7);
  row.extent.tail = found.Text(0, 8);
  row.extent.tail_bytes = found.Integer(0, 9);
  return absl::optional<UploadRow>(std::move(row));
}

absl::Status HoldIsLost(const std::string& key) {
  return absl::AbortedError(absl::StrCat("upload ", key, " is being written by another stream"));
}

std::vector<std::string> ObjectsOf(const UploadExtent& extent) {
  std::vector<std::string> objects;
  for (const std::string& object : {extent.object, extent.tail}) {
    if (!object.empty()) objects.push_back(object);
  }
  return objects;
}

}  // namespace

// Deletes uploads that meet the condition; their objects are spare.
absl::StatusOr<SpareObjects> PostgresBlobLedger::Delete(const Turn& turn,
                                                        const std::string& condition,
                                                        absl::Span<const Value> values,
                                                        int64_t* count) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result gone, turn.connection.Query(absl::StrCat("DELETE FROM blob_uploads WHERE ",
                                                            condition, " RETURNING object, tail"),
                                               values));
  std::vector<std::string> objects;
  for (int i = 0; i < gone.rows(); ++i) {
    for (const int column : {0, 1}) {
      if (!gone.Text(i, column).empty()) objects.push_back(gone.Text(i, column));
    }
  }
  if (count != nullptr) *count = gone.rows();
  return MakeSpare(turn, objects);
}

// Where the limit is reached, the upload that has been idle for longest goes.
absl::Status PostgresBlobLedger::MakeRoom(const Turn& turn, const BlobStoreLimits& limits) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result count,
                             turn.connection.Query("SELECT count(*) FROM blob_uploads"));
  if (count.Integer(0, 0) < limits.max_uploads) return absl::OkStatus();
  int64_t dropped = 0;
  ATTNPRUNE_RETURN_IF_ERROR(
      Delete(turn,
             "key IN (SELECT key FROM blob_uploads WHERE hold_until <= $1 AND touched <= $2"
             " ORDER BY touched LIMIT 1 FOR UPDATE SKIP LOCKED)",
             {turn.now, turn.now - absl::ToInt64Nanoseconds(kIdleUpload)}, &dropped)
          .status());
  return dropped > 0 ? absl::OkStatus() : TooManyUploads(limits);
}

absl::StatusOr<HeldUpload> PostgresBlobLedger::BeginAnew(const Turn& turn, const UploadSpec& spec,
                                                         const std::string& holder, int64_t until,
                                                         const std::vector<std::string>& former) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result begun,
      turn.connection.Query(
          "INSERT INTO blob_uploads VALUES ($1, $2, $3, $4, $5, $6, $7)"
          " ON CONFLICT DO NOTHING",
          {spec.Key(), spec.tenant, spec.sha256, spec.size_bytes, holder, until, turn.now}));
  if (begun.tag() != "INSERT 0 1") return UploadIsHeld(spec);  // another just began it
  HeldUpload held;
  ATTNPRUNE_ASSIGN_OR_RETURN(held.spare, MakeSpare(turn, former));
  return held;
}

absl::StatusOr<HeldUpload> PostgresBlobLedger::Hold(const UploadSpec& spec, int64_t offset,
                                                    const std::string& holder, absl::Duration lease,
                                                    const BlobStoreLimits& limits) {
  HeldUpload held;
  const auto hold = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<UploadRow> row,
                               FindUpload(turn.connection, spec.Key()));
    const int64_t until = turn.now + absl::ToInt64Nanoseconds(lease);
    if (row.has_value() && row->holder != holder && row->hold_until > turn.now) {
      return UploadIsHeld(spec);
    }
    ATTNPRUNE_RETURN_IF_ERROR(CheckUploadOffset(row.has_value() ? &row->spec : nullptr,
                                                row.has_value() ? row->extent.bytes() : 0, spec,
                                                offset));
    if (!row.has_value()) ATTNPRUNE_RETURN_IF_ERROR(MakeRoom(turn, limits));
    if (offset > 0) {
      held = {row->extent};
      return turn.connection
          .Query(
              "UPDATE blob_uploads SET holder = $2, hold_until = $3, touched = $4"
              " WHERE key = $1",
              {spec.Key(), holder, until, turn.now})
          .status();
    }
    if (row.has_value()) {
      ATTNPRUNE_RETURN_IF_ERROR(
          turn.connection.Query("DELETE FROM blob_uploads WHERE key = $1", {spec.Key()}).status());
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(
        held, BeginAnew(turn, spec, holder, until,
                        row.has_value() ? ObjectsOf(row->extent) : std::vector<std::string>()));
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(hold));
  return held;
}

absl::Status PostgresBlobLedger::Renew(absl::Span<const std::string> holders,
                                       absl::Duration lease) {
  return Write([&](const Turn& turn) {
    return turn.connection
        .Query(
            "UPDATE blob_uploads SET hold_until = $2"
            " WHERE holder = ANY(string_to_array($1, E'\\n'))",
            {Lines(holders), turn.now + absl::ToInt64Nanoseconds(lease)})
        .status();
  });
}

absl::Status PostgresBlobLedger::EndHoldsOf(const std::string& name) {
  return Write([&](const Turn& turn) {
    return turn.connection
        .Query(
            "UPDATE blob_uploads SET holder = '', hold_until = 0"
            " WHERE starts_with(holder, $1)",
            {absl::StrCat(name, "/")})
        .status();
  });
}

absl::StatusOr<SpareObjects> PostgresBlobLedger::Record(const std::string& key,
                                                        const std::string& holder,
                                                        const UploadExtent& extent) {
  SpareObjects spare;
  const auto record = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<UploadRow> row,
                               FindUpload(turn.connection, key));
    if (!row.has_value() || row->holder != holder) return HoldIsLost(key);
    std::vector<std::string> unused;
    if (!row->extent.tail.empty() && row->extent.tail != extent.tail) {
      unused.push_back(row->extent.tail);
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(spare, MakeSpare(turn, unused));
    return turn.connection
        .Query(
            "UPDATE blob_uploads SET object = $2, writing = $3, parts = $4, part_bytes = $5,"
            " tail = $6, tail_bytes = $7, touched = $8 WHERE key = $1",
            {key, extent.object, extent.writing, Lines(extent.parts), extent.part_bytes,
             extent.tail, extent.tail_bytes, turn.now})
        .status();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(record));
  return spare;
}

absl::StatusOr<SpareObjects> PostgresBlobLedger::Release(const std::string& key,
                                                         const std::string& holder,
                                                         const UploadExtent& extent) {
  if (extent.bytes() == 0) return Drop(key, holder);
  ATTNPRUNE_ASSIGN_OR_RETURN(SpareObjects spare, Record(key, holder, extent));
  ATTNPRUNE_RETURN_IF_ERROR(Write([&](const Turn& turn) {
    return turn.connection
        .Query(
            "UPDATE blob_uploads SET holder = '', hold_until = 0, touched = $3"
            " WHERE key = $1 AND holder = $2",
            {key, holder, turn.now})
        .status();
  }));
  return spare;
}

absl::StatusOr<SpareObjects> PostgresBlobLedger::Drop(const std::string& key,
                                                      const std::string& holder) {
  SpareObjects spare;
  const auto drop = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(spare,
                               Delete(turn, "key = $1 AND holder = $2", {key, holder}, nullptr));
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(drop));
  return spare;
}

absl::StatusOr<SpareObjects> PostgresBlobLedger::DropUnlessHeld(const std::string& key) {
  SpareObjects spare;
  const auto drop = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        spare, Delete(turn, "key = $1 AND hold_until <= $2", {key, turn.now}, nullptr));
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(drop));
  return spare;
}

absl::StatusOr<int64_t> PostgresBlobLedger::CommittedBytes(const std::string& key) {
  int64_t bytes = 0;
  const auto read = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result found,
        turn.connection.Query("SELECT part_bytes + tail_bytes FROM blob_uploads WHERE key = $1",
                              {key}));
    bytes = found.rows() == 0 ? 0 : found.Integer(0, 0);
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(read));
  return bytes;
}

absl::StatusOr<std::vector<UploadFacts>> PostgresBlobLedger::ListUploads(
    const absl::optional<std::string>& tenant, const std::string& after, int limit) {
  std::vector<Value> values = {after, int64_t{limit}};
  if (tenant.has_value()) values.emplace_back(*tenant);
  const std::string sql = absl::StrCat(
      "SELECT key, tenant, digest, size, part_bytes + tail_bytes, touched FROM blob_uploads"
      " WHERE key > $1 COLLATE \"C\"",
      tenant.has_value() ? " AND tenant = $3" : "", " ORDER BY key COLLATE \"C\" LIMIT $2");
  std::vector<UploadFacts> uploads;
  const auto read = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Result found, turn.connection.Query(sql, values));
    uploads.clear();
    for (int i = 0; i < found.rows(); ++i) {
      const std::string of = found.Text(i, 1), key = found.Text(i, 0);
      uploads.push_back({.tenant = of,
                         .upload_id = key.substr(UploadKey(of, "").size()),
                         .sha256 = found.Text(i, 2),
                         .size_bytes = found.Integer(i, 3),
                         .received = found.Integer(i, 4),
                         .touched = absl::FromUnixNanos(found.Integer(i, 5))});
    }
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(read));
  return uploads;
}

absl::StatusOr<int64_t> PostgresBlobLedger::DropOld(absl::Duration grace,
                                                    absl::Span<const std::string> holders) {
  int64_t dropped = 0;
  const auto drop = [&](const Turn& turn) {
    return Delete(turn,
                  "hold_until <= $1 AND touched <= $2"
                  " AND holder <> ALL(string_to_array($3, E'\\n'))",
                  {turn.now, turn.now - absl::ToInt64Nanoseconds(grace), Lines(holders)}, &dropped)
        .status();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(drop));
  return dropped;
}

}  // namespace attnprune::postgres
