// Turns and tensors of tenants.
#include <utility>

#include "core/base/status_macros.h"
#include "server/queue/sqlite/sqlite.h"
#include "server/queue/sqlite/sqlite_job_rows.h"

namespace attnprune {

using sqlite::Query;
using sqlite::Row;

// --- Turns ---

absl::Status SqliteJobRows::TakeTurn(absl::string_view tenant) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const int64_t newest, database_.ReadInteger("SELECT ifnull(max(turn), 0) FROM tenant_turns"));
  return database_.Execute("INSERT OR REPLACE INTO tenant_turns VALUES (?, ?, ?)",
                           sqlite::Seal("tenant_turns", {std::string(tenant), newest + 1}));
}

absl::StatusOr<std::map<std::string, int64_t>> SqliteJobRows::ReadTurns() {
  std::map<std::string, int64_t> turns;
  ATTNPRUNE_RETURN_IF_ERROR(sqlite::ForEachSealed(
      database_, "tenant_turns", "SELECT * FROM tenant_turns", {}, [&turns](const Row& row) {
        turns[std::get<std::string>(row[0])] = std::get<int64_t>(row[1]);
      }));
  return turns;
}

absl::StatusOr<int64_t> SqliteJobRows::CountQueuedOf(absl::string_view tenant) {
  return database_.ReadInteger(
      "SELECT count(*) FROM jobs INDEXED BY jobs_to_claim JOIN job_tenants ON job = number"
      " WHERE state = 1 AND tenant = ?",
      {std::string(tenant)});
}

// --- Tensors ---

absl::StatusOr<bool> SqliteJobRows::HasTensor(absl::string_view tenant, const std::string& digest) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const int64_t has,
      database_.ReadInteger(
          "SELECT EXISTS (SELECT 1 FROM tenant_tensors WHERE tenant = ?1 AND digest = ?2)"
          " OR EXISTS (SELECT 1 FROM job_tensors INDEXED BY jobs_by_tensor"
          " JOIN job_tenants USING (job) WHERE digest = ?2 AND tenant = ?1)",
          {std::string(tenant), digest}));
  return has != 0;
}

absl::StatusOr<std::set<std::string>> SqliteJobRows::ReadTensorsOf(absl::string_view tenant) {
  std::set<std::string> digests;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      Query query,
      database_.Start("SELECT digest FROM tenant_tensors WHERE tenant = ?1"
                      " UNION SELECT digest FROM job_tenants JOIN job_tensors USING (job)"
                      " WHERE tenant = ?1",
                      {std::string(tenant)}));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, query.Next());
    if (!more) return digests;
    digests.insert(query.Text(0));
  }
}

absl::Status SqliteJobRows::NoteTensor(absl::string_view tenant, const std::string& digest,
                                       absl::Time time) {
  return database_.Execute(
      "INSERT OR REPLACE INTO tenant_tensors VALUES (?, ?, ?, ?)",
      sqlite::Seal("tenant_tensors", {std::string(tenant), digest, absl::ToUnixNanos(time)}));
}

absl::Status SqliteJobRows::ForgetTensors(absl::Time until) {
  return database_.Execute("DELETE FROM tenant_tensors WHERE time <= ?",
                           {absl::ToUnixNanos(until)});
}

}  // namespace attnprune
