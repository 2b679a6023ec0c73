// Turns and tensors of tenants.
#include <algorithm>
#include <utility>

#include "absl/strings/str_split.h"
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

// A page of either, of which the first `limit` of both are among. What is the tenant's is found by
// its jobs (CROSS JOIN keeps the order), so that others' jobs cost it nothing.
absl::StatusOr<std::vector<OwnTensor>> SqliteJobRows::ListOwnTensors(absl::string_view tenant,
                                                                     absl::string_view after,
                                                                     int limit) {
  std::map<std::string, OwnTensor> found;
  const sqlite::Value page[] = {std::string(tenant), std::string(after), int64_t{limit}};
  ATTNPRUNE_ASSIGN_OR_RETURN(
      Query used, database_.Start("SELECT DISTINCT digest FROM job_tenants"
                                  " CROSS JOIN job_tensors USING (job)"
                                  " WHERE tenant = ? AND digest > ? ORDER BY digest LIMIT ?",
                                  page));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, used.Next());
    if (!more) break;
    found[used.Text(0)].digest = used.Text(0);
  }
  ATTNPRUNE_RETURN_IF_ERROR(sqlite::ForEachSealed(
      database_, "tenant_tensors",
      "SELECT * FROM tenant_tensors WHERE tenant = ? AND digest > ? ORDER BY digest LIMIT ?", page,
      [&found](const Row& row) {
        const auto& digest = std::get<std::string>(row[1]);
        found[digest] = {digest, absl::FromUnixNanos(std::get<int64_t>(row[2]))};
      }));
  std::vector<OwnTensor> tensors;
  for (const auto& [digest, tensor] : found) {
    if (tensors.size() == static_cast<size_t>(limit)) break;
    tensors.push_back(tensor);
  }
  return tensors;
}

absl::StatusOr<TensorUsers> SqliteJobRows::ReadUsers(const std::string& sql,
                                                     absl::Span<const sqlite::Value> values) {
  TensorUsers users;
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query, database_.Start(sql, values));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, query.Next());
    if (!more) return users;
    for (const absl::string_view digest : absl::StrSplit(query.Text(0), '\n')) {
      users[std::string(digest)] = query.Text(1);
    }
  }
}

// Of a tenant by its jobs, as above; of all, a digest at a time, by the index.
absl::StatusOr<TensorUsers> SqliteJobRows::FindUsers(const absl::optional<std::string>& tenant,
                                                     absl::Span<const std::string> digests) {
  TensorUsers users;
  if (digests.empty()) return users;
  if (!tenant.has_value()) {
    for (const std::string& digest : digests) {
      ATTNPRUNE_ASSIGN_OR_RETURN(
          TensorUsers user,
          ReadUsers("SELECT digest, id FROM job_tensors INDEXED BY jobs_by_tensor"
                    " JOIN jobs ON number = job WHERE digest = ? ORDER BY job DESC LIMIT 1",
                    {digest}));
      users.merge(user);
    }
    return users;
  }
  const auto [first, last] = std::minmax_element(digests.begin(), digests.end());
  ATTNPRUNE_ASSIGN_OR_RETURN(
      users, ReadUsers("SELECT digest, id FROM (SELECT digest, max(job) AS newest FROM job_tenants"
                       " CROSS JOIN job_tensors USING (job)"
                       " WHERE tenant = ? AND digest BETWEEN ? AND ? GROUP BY digest)"
                       " JOIN jobs ON number = newest",
                       {*tenant, *first, *last}));
  const std::set<std::string> asked(digests.begin(), digests.end());
  std::erase_if(users, [&asked](const auto& user) { return asked.count(user.first) == 0; });
  return users;
}

absl::StatusOr<TensorUsers> SqliteJobRows::ReadStates() {
  return ReadUsers(
      "SELECT digest, id FROM job_states JOIN jobs ON job = number"
      " UNION ALL SELECT states, id FROM job_parts JOIN jobs ON job = number WHERE states != ''",
      {});
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
