// Turns and tensors of tenants; tensors of jobs.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "server/queue/postgres/postgres_job_rows.h"

namespace attnprune::postgres {

absl::StatusOr<std::set<std::string>> PostgresJobRows::ReadTexts(const std::string& sql,
                                                                 absl::Span<const Value> values) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found, connection_.Query(sql, values));
  std::set<std::string> texts;
  for (int i = 0; i < found.rows(); ++i) texts.insert(found.Text(i, 0));
  return texts;
}

// --- Turns ---

// Nobody waits for another claim of the tenant's, which gives it the newest turn just as well.
absl::Status PostgresJobRows::TakeTurn(absl::string_view tenant) {
  return Execute(
      "UPDATE tenant_turns SET turn = nextval('turn_numbers') WHERE tenant IN"
      " (SELECT tenant FROM tenant_turns WHERE tenant = $1 FOR NO KEY UPDATE SKIP LOCKED)",
      {std::string(tenant)});
}

absl::StatusOr<std::map<std::string, int64_t>> PostgresJobRows::ReadTurns() {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query("SELECT tenant, turn FROM tenant_turns WHERE turn > 0"));
  std::map<std::string, int64_t> turns;
  for (int i = 0; i < found.rows(); ++i) turns[found.Text(i, 0)] = found.Integer(i, 1);
  return turns;
}

absl::StatusOr<int64_t> PostgresJobRows::CountQueuedOf(absl::string_view tenant) {
  return ReadInteger("SELECT count(*) FROM jobs WHERE state = 1 AND tenant = $1",
                     {std::string(tenant)});
}

// --- Tensors of jobs ---

absl::Status PostgresJobRows::InsertDigests(const char* table, int64_t number,
                                            const std::set<std::string>& digests) {
  if (digests.empty()) return absl::OkStatus();
  return Execute(absl::StrCat("INSERT INTO ", table,
                              " SELECT $1, unnest(string_to_array($2, '\n'))"
                              " ON CONFLICT DO NOTHING"),
                 {number, absl::StrJoin(digests, "\n")});
}

absl::Status PostgresJobRows::AddTensors(const JobRow& row, const std::set<std::string>& digests) {
  return InsertDigests("job_tensors", row.number, digests);
}

absl::Status PostgresJobRows::ReplaceState(const JobRow& row,
                                           const std::set<std::string>& digests) {
  ATTNPRUNE_RETURN_IF_ERROR(Execute("DELETE FROM job_states WHERE job = $1", {row.number}));
  return InsertDigests("job_states", row.number, digests);
}

absl::StatusOr<std::set<std::string>> PostgresJobRows::ReadTensors() {
  return ReadTexts(
      "SELECT digest FROM job_tensors UNION SELECT digest FROM job_states"
      " UNION SELECT regexp_split_to_table(states, '\\n') FROM job_parts WHERE states != ''",
      {});
}

// --- Tensors of tenants ---

absl::StatusOr<bool> PostgresJobRows::HasTensor(absl::string_view tenant,
                                                const std::string& digest) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const int64_t has,
      ReadInteger("SELECT EXISTS (SELECT 1 FROM tenant_tensors WHERE tenant = $1 AND digest = $2)"
                  " OR EXISTS (SELECT 1 FROM job_tensors JOIN jobs ON job = number"
                  " WHERE digest = $2 AND tenant = $1)",
                  {std::string(tenant), digest}));
  return has != 0;
}

absl::StatusOr<std::set<std::string>> PostgresJobRows::ReadTensorsOf(absl::string_view tenant) {
  return ReadTexts(
      "SELECT digest FROM tenant_tensors WHERE tenant = $1"
      " UNION SELECT digest FROM jobs JOIN job_tensors ON job = number WHERE tenant = $1",
      {std::string(tenant)});
}

absl::StatusOr<std::vector<OwnTensor>> PostgresJobRows::ListOwnTensors(absl::string_view tenant,
                                                                       absl::string_view after,
                                                                       int limit) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query("SELECT digest, max(time) IS NULL, coalesce(max(time), 0) FROM ("
                        "SELECT digest, time FROM tenant_tensors WHERE tenant = $1 AND digest > $2"
                        " UNION ALL SELECT digest, NULL FROM jobs JOIN job_tensors ON job = number"
                        " WHERE tenant = $1 AND digest > $2) AS own"
                        " GROUP BY digest ORDER BY digest LIMIT $3",
                        {std::string(tenant), std::string(after), int64_t{limit}}));
  std::vector<OwnTensor> tensors;
  for (int i = 0; i < found.rows(); ++i) {
    OwnTensor& tensor = tensors.emplace_back(OwnTensor{found.Text(i, 0), absl::nullopt});
    if (found.Integer(i, 1) == 0) tensor.noted = absl::FromUnixNanos(found.Integer(i, 2));
  }
  return tensors;
}

absl::StatusOr<TensorUsers> PostgresJobRows::ReadUsers(const std::string& sql,
                                                       absl::Span<const Value> values) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found, connection_.Query(sql, values));
  TensorUsers users;
  for (int i = 0; i < found.rows(); ++i) users[found.Text(i, 0)] = found.Text(i, 1);
  return users;
}

absl::StatusOr<TensorUsers> PostgresJobRows::FindUsers(const absl::optional<std::string>& tenant,
                                                       absl::Span<const std::string> digests) {
  if (digests.empty()) return TensorUsers();
  std::vector<Value> values = {absl::StrJoin(digests, "\n")};
  if (tenant.has_value()) values.emplace_back(*tenant);
  return ReadUsers(
      absl::StrCat("SELECT DISTINCT ON (digest) digest, id"
                   " FROM job_tensors JOIN jobs ON job = number"
                   " WHERE digest = ANY(string_to_array($1, E'\\n'))",
                   tenant.has_value() ? " AND tenant = $2" : "", " ORDER BY digest, number DESC"),
      values);
}

absl::StatusOr<TensorUsers> PostgresJobRows::ReadStates() {
  return ReadUsers(
      "SELECT digest, id FROM job_states JOIN jobs ON job = number"
      " UNION ALL SELECT regexp_split_to_table(states, '\\n'), id FROM job_parts"
      " JOIN jobs ON job = number WHERE states != ''",
      {});
}

absl::Status PostgresJobRows::NoteTensor(absl::string_view tenant, const std::string& digest,
                                         absl::Time time) {
  return Execute(
      "INSERT INTO tenant_tensors VALUES ($1, $2, $3)"
      " ON CONFLICT (tenant, digest) DO UPDATE SET time = excluded.time"
      " RETURNING pg_current_xact_id()::text",
      {std::string(tenant), digest, absl::ToUnixNanos(time)});
}

absl::Status PostgresJobRows::ForgetTensors(absl::Time until) {
  return Execute("DELETE FROM tenant_tensors WHERE time <= $1", {absl::ToUnixNanos(until)});
}

}  // namespace attnprune::postgres
