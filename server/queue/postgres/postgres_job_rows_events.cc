// Events of jobs.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/queue/job_row_codec.h"
#include "server/queue/postgres/postgres_job_rows.h"

namespace attnprune::postgres {

// A statement has at most 65,535 values.
absl::Status PostgresJobRows::AddEvents(const JobRow& row, absl::Span<const StoredEvent> events) {
  constexpr size_t kMost = 1000;
  for (size_t begin = 0; begin < events.size(); begin += kMost) {
    ATTNPRUNE_RETURN_IF_ERROR(AddSomeEvents(row.number, events.subspan(begin, kMost)));
  }
  return absl::OkStatus();
}

absl::Status PostgresJobRows::AddSomeEvents(int64_t number, absl::Span<const StoredEvent> events) {
  Row values;
  size_t columns = 0;
  for (const StoredEvent& event : events) {
    Row encoded = EncodeEvent(number, event);
    columns = encoded.size();
    std::move(encoded.begin(), encoded.end(), std::back_inserter(values));
  }
  return Execute(absl::StrCat("INSERT INTO job_events (job, sequence, time, kind, state, attempt,"
                              " method_index, payload) VALUES ",
                              PlacesOf(events.size(), columns)),
                 values);
}

absl::StatusOr<std::vector<StoredEvent>> PostgresJobRows::ReadEvents(int64_t number, int64_t after,
                                                                     int limit) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query("SELECT e.job, sequence, time, kind, state, attempt, e.method_index,"
                        " CASE WHEN kind = 3 THEN result ELSE payload END"
                        " FROM job_events e LEFT JOIN job_results r"
                        " ON kind = 3 AND r.job = e.job AND r.method_index = e.method_index"
                        " WHERE e.job = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
                        {number, after, int64_t{limit}}));
  std::vector<StoredEvent> events;
  events.reserve(static_cast<size_t>(found.rows()));
  for (int i = 0; i < found.rows(); ++i) {
    Row row = found.ReadRow(i);
    if (std::holds_alternative<Null>(row.back())) {
      return absl::DataLossError(
          absl::StrCat("database: a result of job number ", number, " is missing"));
    }
    events.push_back(DecodeEvent(std::move(row)));
  }
  return events;
}

absl::StatusOr<int64_t> PostgresJobRows::CountProgress(int64_t number) {
  return ReadInteger("SELECT count(*) FROM job_events WHERE job = $1 AND kind IN (2, 6)", {number});
}

// The newest stays. Of the others the lowest tier is thinned out: steps (2), then evaluated ones
// (6), then the oldest, where the curve begins (7). place 1 is a tier's newest.
absl::Status PostgresJobRows::DropEverySecondProgress(int64_t number) {
  return Execute(
      "WITH progress AS"
      " (SELECT sequence, kind FROM job_events WHERE job = $1 AND kind IN (2, 6)),"
      " others AS"
      " (SELECT sequence, CASE WHEN sequence = min(sequence) OVER () THEN 7 ELSE kind END AS tier"
      "  FROM progress WHERE sequence < (SELECT max(sequence) FROM progress)),"
      " placed AS"
      " (SELECT sequence, tier,"
      "         row_number() OVER (PARTITION BY tier ORDER BY sequence DESC) AS place"
      "  FROM others)"
      " DELETE FROM job_events WHERE job = $1 AND sequence IN"
      " (SELECT sequence FROM placed"
      "  WHERE tier = (SELECT min(tier) FROM others) AND place % 2 = 1)",
      {number});
}

absl::StatusOr<absl::optional<int64_t>> PostgresJobRows::FindCut(int64_t number, int64_t keep) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result found,
      connection_.Query("SELECT sequence FROM job_events WHERE job = $1 AND kind NOT IN (2, 6)"
                        " ORDER BY sequence DESC LIMIT 1 OFFSET $2",
                        {number, keep}));
  if (found.rows() == 0) return absl::optional<int64_t>();
  return absl::optional<int64_t>(found.Integer(0, 0));
}

absl::Status PostgresJobRows::DropEventsUpTo(int64_t number, int64_t sequence) {
  return Execute("DELETE FROM job_events WHERE job = $1 AND sequence <= $2", {number, sequence});
}

}  // namespace attnprune::postgres
