#include "server/blobs/postgres/postgres_blob_ledger.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "server/queue/postgres/transaction.h"

namespace attnprune::postgres {
namespace {

constexpr absl::Duration kLedgerWait = absl::Seconds(10);  // for a connection that is lent
constexpr int kMostTries = 10;

// blob_objects.state
constexpr int64_t kReserved = 0, kLive = 1, kSpare = 2, kCorrupt = 3;

std::string NewPlaceId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::Hex(random(), absl::kZeroPad8));
  return id;
}

absl::Status Lapsed(const std::string& object) {
  return absl::AbortedError(
      absl::StrCat("object ", object, " took too long to be written and was given up"));
}

}  // namespace

std::string Lines(absl::Span<const std::string> texts) { return absl::StrJoin(texts, "\n"); }

PostgresBlobLedger::PostgresBlobLedger(const PostgresBlobLedgerOptions& options,
                                       const StoreUrl& url)
    : clock_(options.clock),
      begin_(BeginText(Access::kWrite, options.statement_timeout)),
      pool_(url, options.max_connections, kLedgerWait) {}

absl::StatusOr<std::unique_ptr<PostgresBlobLedger>> PostgresBlobLedger::Open(
    const PostgresBlobLedgerOptions& options) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoreUrl url, ParseStoreUrl(options.url, options.password_file));
  return std::unique_ptr<PostgresBlobLedger>(new PostgresBlobLedger(options, url));
}

// --- transactions -------------------------------------------------------------------------------

absl::Status PostgresBlobLedger::WriteOnce(Connection& connection, Body body) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::Time time, Begin(connection, begin_));
  const absl::Time now = clock_ != nullptr ? clock_->Now() : time;
  absl::Status status = body({connection, absl::ToUnixNanos(now)});
  if (!status.ok()) {
    RollBack(connection);
    return status;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result committed, connection.Script("COMMIT"));
  if (committed.tag() == "COMMIT") return absl::OkStatus();
  return absl::InternalError("database: rolled back");
}

// A commit whose answer was lost is made again: every call comes to the same twice.
absl::Status PostgresBlobLedger::Write(Body body) {
  thread_local std::minstd_rand random{std::random_device{}()};
  for (int attempt = 1;; ++attempt) {
    absl::Status status;
    Trouble trouble = Trouble::kNone;
    {
      ATTNPRUNE_ASSIGN_OR_RETURN(ConnectionPool::Loan connection, pool_.Take());
      connection->ClearTrouble();
      status = WriteOnce(*connection, body);
      trouble = connection->trouble();
    }
    if (status.ok() || trouble == Trouble::kNone || attempt == kMostTries) return status;
    if (trouble != Trouble::kConflict) continue;
    absl::SleepFor(absl::Microseconds(random() % (uint64_t{500} << std::min(attempt, 6))));
  }
}

// But for one that is a tensor: an upload of it may not have been dropped yet.
absl::StatusOr<SpareObjects> PostgresBlobLedger::MakeSpare(const Turn& turn,
                                                           absl::Span<const std::string> objects) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result spared,
      turn.connection.Query(
          "UPDATE blob_objects SET state = $2, since = $3"
          " WHERE object = ANY(string_to_array($1, E'\\n')) AND state IN (0, 1, 2)"
          " AND NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.object = blob_objects.object)"
          " RETURNING object, writing",
          {Lines(objects), kSpare, turn.now}));
  SpareObjects spare;
  for (int i = 0; i < spared.rows(); ++i) spare.push_back({spared.Text(i, 0), spared.Text(i, 1)});
  return spare;
}

absl::StatusOr<std::string> PostgresBlobLedger::PlaceId() {
  std::string id;
  const auto draw = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_RETURN_IF_ERROR(
        turn.connection
            .Query("INSERT INTO blob_place VALUES (1, $1) ON CONFLICT DO NOTHING", {NewPlaceId()})
            .status());
    ATTNPRUNE_ASSIGN_OR_RETURN(const Result found,
                               turn.connection.Query("SELECT id FROM blob_place"));
    id = found.Text(0, 0);
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(draw));
  return id;
}

// --- tensors ------------------------------------------------------------------------------------

absl::StatusOr<std::vector<StoredBlob>> PostgresBlobLedger::Touch(
    absl::Span<const std::string> digests) {
  std::vector<StoredBlob> blobs;
  // Rows are locked in one order, so that no two calls wait for each other.
  const auto touch = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result found,
        turn.connection.Query(
            "WITH found AS (SELECT digest FROM blobs"
            " WHERE digest = ANY(string_to_array($1, E'\\n')) ORDER BY digest FOR UPDATE)"
            " UPDATE blobs SET touched = greatest(touched, $2) FROM found"
            " WHERE blobs.digest = found.digest"
            " RETURNING blobs.digest, blobs.object, blobs.size",
            {Lines(digests), turn.now}));
    blobs.clear();
    for (int i = 0; i < found.rows(); ++i) {
      blobs.push_back({found.Text(i, 0), found.Text(i, 1), found.Integer(i, 2)});
    }
    return absl::OkStatus();
  };
  if (!digests.empty()) ATTNPRUNE_RETURN_IF_ERROR(Write(touch));
  return blobs;
}

absl::StatusOr<absl::optional<StoredBlob>> PostgresBlobLedger::Find(const std::string& sha256) {
  absl::optional<StoredBlob> blob;
  const auto find = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result found,
        turn.connection.Query("SELECT object, size FROM blobs WHERE digest = $1", {sha256}));
    blob.reset();
    if (found.rows() > 0) blob = StoredBlob{sha256, found.Text(0, 0), found.Integer(0, 1)};
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(find));
  return blob;
}

absl::StatusOr<std::vector<BlobFacts>> PostgresBlobLedger::ReadFacts(
    const std::string& which, absl::Span<const Value> values) {
  std::vector<BlobFacts> blobs;
  const auto read = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result found,
        turn.connection.Query(absl::StrCat("SELECT digest, size, touched FROM blobs WHERE ", which),
                              values));
    blobs.clear();
    for (int i = 0; i < found.rows(); ++i) {
      blobs.push_back(
          {found.Text(i, 0), found.Integer(i, 1), absl::FromUnixNanos(found.Integer(i, 2))});
    }
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(read));
  return blobs;
}

// Digits stand before letters in every collation.
absl::StatusOr<std::vector<BlobFacts>> PostgresBlobLedger::List(const std::string& after,
                                                                int limit) {
  return ReadFacts("digest > $1 ORDER BY digest LIMIT $2", {after, int64_t{limit}});
}

absl::StatusOr<std::vector<BlobFacts>> PostgresBlobLedger::LookAt(
    absl::Span<const std::string> digests) {
  if (digests.empty()) return std::vector<BlobFacts>();
  return ReadFacts("digest = ANY(string_to_array($1, E'\\n'))", {Lines(digests)});
}

absl::Status PostgresBlobLedger::Reserve(const SpareObject& object) {
  return Write([&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result reserved,
        turn.connection.Query("INSERT INTO blob_objects VALUES ($1, $2, $3, $4)"
                              " ON CONFLICT (object) DO UPDATE SET writing = $4, since = $3"
                              " WHERE blob_objects.state = $2",
                              {object.object, kReserved, turn.now, object.writing}));
    return reserved.tag() == "INSERT 0 1" ? absl::OkStatus() : Lapsed(object.object);
  });
}

// `former`, of another size, makes way.
absl::Status PostgresBlobLedger::ReplaceSmaller(const Turn& turn, const StoredBlob& blob,
                                                const std::string& former, SpareObjects& spare) {
  ATTNPRUNE_RETURN_IF_ERROR(turn.connection
                                .Query("UPDATE blobs SET object = $2, size = $3 WHERE digest = $1",
                                       {blob.sha256, blob.object, blob.size})
                                .status());
  const std::string objects[] = {former};
  ATTNPRUNE_ASSIGN_OR_RETURN(spare, MakeSpare(turn, objects));
  return absl::OkStatus();
}

absl::StatusOr<SpareObjects> PostgresBlobLedger::Publish(const StoredBlob& blob) {
  SpareObjects spare;
  const auto publish = [&](const Turn& turn) -> absl::Status {
    spare.clear();
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result row,
        turn.connection.Query("INSERT INTO blobs VALUES ($1, $2, $3, $4)"
                              " ON CONFLICT (digest) DO UPDATE"
                              " SET touched = greatest(blobs.touched, $4) RETURNING object, size",
                              {blob.sha256, blob.object, blob.size, turn.now}));
    const std::string counts = row.Text(0, 0);
    if (counts != blob.object && row.Integer(0, 1) == blob.size) {
      const std::string objects[] = {blob.object};
      ATTNPRUNE_ASSIGN_OR_RETURN(spare, MakeSpare(turn, objects));
      return absl::OkStatus();
    }
    if (counts != blob.object) {
      ATTNPRUNE_RETURN_IF_ERROR(ReplaceSmaller(turn, blob, counts, spare));
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result live,
        turn.connection.Query("UPDATE blob_objects SET state = $2, since = $3, writing = ''"
                              " WHERE object = $1 AND state IN (0, 1)",
                              {blob.object, kLive, turn.now}));
    return live.tag() == "UPDATE 1" ? absl::OkStatus() : Lapsed(blob.object);
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(publish));
  return spare;
}

absl::StatusOr<SpareObjects> PostgresBlobLedger::Withdraw(const StoredBlob& blob, Fate fate) {
  SpareObjects spare;
  const auto withdraw = [&](const Turn& turn) -> absl::Status {
    spare.clear();
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result gone,
        turn.connection.Query("DELETE FROM blobs WHERE digest = $1 AND object = $2",
                              {blob.sha256, blob.object}));
    if (gone.tag() == "DELETE 0") return absl::OkStatus();
    const std::string objects[] = {blob.object};
    if (fate == Fate::kSpare) {
      ATTNPRUNE_ASSIGN_OR_RETURN(spare, MakeSpare(turn, objects));
      return absl::OkStatus();
    }
    return turn.connection
        .Query("UPDATE blob_objects SET state = $2, since = $3 WHERE object = $1",
               {blob.object, kCorrupt, turn.now})
        .status();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(withdraw));
  return spare;
}

// --- upkeep -------------------------------------------------------------------------------------

absl::StatusOr<bool> PostgresBlobLedger::TakeDuty(const std::string& duty,
                                                  const std::string& holder, absl::Duration lease) {
  bool taken = false;
  const auto take = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result row,
        turn.connection.Query(
            "INSERT INTO duties VALUES ($1, $2, $3)"
            " ON CONFLICT (duty) DO UPDATE SET holder = $2, until = $3"
            " WHERE duties.until <= $4 OR duties.holder = $2",
            {duty, holder, turn.now + absl::ToInt64Nanoseconds(lease), turn.now}));
    taken = row.tag() == "INSERT 0 1";
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(take));
  return taken;
}

absl::StatusOr<std::vector<std::string>> PostgresBlobLedger::FindOld(absl::Duration grace) {
  std::vector<std::string> digests;
  const auto find = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result found,
        turn.connection.Query("SELECT digest FROM blobs WHERE touched <= $1 ORDER BY digest",
                              {turn.now - absl::ToInt64Nanoseconds(grace)}));
    digests.clear();
    for (int i = 0; i < found.rows(); ++i) digests.push_back(found.Text(i, 0));
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(find));
  return digests;
}

absl::StatusOr<Collected> PostgresBlobLedger::TakeOut(absl::Span<const std::string> digests,
                                                      absl::Duration grace) {
  Collected collected;
  const auto take = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result gone,
        turn.connection.Query("WITH old AS (SELECT digest FROM blobs"
                              " WHERE digest = ANY(string_to_array($1, E'\\n')) AND touched <= $2"
                              " ORDER BY digest FOR UPDATE)"
                              " DELETE FROM blobs USING old WHERE blobs.digest = old.digest"
                              " RETURNING blobs.object, blobs.size",
                              {Lines(digests), turn.now - absl::ToInt64Nanoseconds(grace)}));
    collected = {};
    std::vector<std::string> objects;
    for (int i = 0; i < gone.rows(); ++i) {
      objects.push_back(gone.Text(i, 0));
      ++collected.blobs;
      collected.blob_bytes += gone.Integer(i, 1);
    }
    return MakeSpare(turn, objects).status();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(take));
  return collected;
}

// A reservation that an upload has, or that is young, is of somebody who still writes.
absl::StatusOr<SpareObjects> PostgresBlobLedger::FindSpare(absl::Duration lapse, int limit) {
  SpareObjects spare;
  const auto find = [&](const Turn& turn) -> absl::Status {
    ATTNPRUNE_RETURN_IF_ERROR(
        turn.connection
            .Query("UPDATE blob_objects SET state = 2 WHERE state = 0 AND since <= $1"
                   " AND NOT EXISTS (SELECT 1 FROM blob_uploads"
                   " WHERE blob_uploads.object = blob_objects.object"
                   " OR blob_uploads.tail = blob_objects.object)",
                   {turn.now - absl::ToInt64Nanoseconds(lapse)})
            .status());
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result found,
        turn.connection.Query("SELECT object, writing FROM blob_objects WHERE state = 2"
                              " ORDER BY since LIMIT $1",
                              {int64_t{limit}}));
    spare.clear();
    for (int i = 0; i < found.rows(); ++i) spare.push_back({found.Text(i, 0), found.Text(i, 1)});
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(find));
  return spare;
}

absl::Status PostgresBlobLedger::Forget(absl::Span<const std::string> objects) {
  if (objects.empty()) return absl::OkStatus();
  return Write([&](const Turn& turn) {
    return turn.connection
        .Query(
            "DELETE FROM blob_objects"
            " WHERE object = ANY(string_to_array($1, E'\\n')) AND state = 2",
            {Lines(objects)})
        .status();
  });
}

absl::StatusOr<LedgerFigures> PostgresBlobLedger::Figures(absl::Span<const std::string> holders) {
  LedgerFigures figures;
  const auto count = [&](const Turn& turn) -> absl::Status {
    figures = {};
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result blobs,
        turn.connection.Query("SELECT count(*), coalesce(sum(size), 0)::bigint FROM blobs"));
    figures.blobs = blobs.Integer(0, 0);
    figures.blob_bytes = blobs.Integer(0, 1);
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const Result uploads,
        turn.connection.Query("SELECT tenant, count(*), sum(part_bytes + tail_bytes)::bigint"
                              " FROM blob_uploads"
                              " WHERE holder <> ALL(string_to_array($1, E'\\n')) GROUP BY tenant",
                              {Lines(holders)}));
    for (int i = 0; i < uploads.rows(); ++i) {
      figures.uploads += uploads.Integer(i, 1);
      figures.upload_bytes += uploads.Integer(i, 2);
      figures.upload_bytes_of[uploads.Text(i, 0)] = uploads.Integer(i, 2);
    }
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Write(count));
  return figures;
}

}  // namespace attnprune::postgres
