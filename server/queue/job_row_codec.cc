#include "server/queue/job_row_codec.h"

#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace attnprune {
namespace {

using db::Bytes;
using db::Null;
using db::Row;
using db::Value;

int64_t Encode(absl::Time time) { return absl::ToUnixNanos(time); }

Value EncodeOptional(const absl::optional<absl::Time>& time) {
  return time.has_value() ? Value(Encode(*time)) : Value(Null{});
}

// Takes a row's values one after the other.
class RowReader {
 public:
  explicit RowReader(Row row) : row_(std::move(row)) {}

  int64_t Integer() { return std::get<int64_t>(row_.at(next_++)); }
  int Int() { return static_cast<int>(Integer()); }
  std::string Text() {
    Value& value = row_.at(next_++);
    if (std::holds_alternative<Bytes>(value)) return std::get<Bytes>(std::move(value)).bytes;
    return std::get<std::string>(std::move(value));
  }
  std::string Blob() { return std::get<Bytes>(std::move(row_.at(next_++))).bytes; }
  absl::Time Time() { return absl::FromUnixNanos(Integer()); }
  bool SkipNull() {
    if (!std::holds_alternative<Null>(row_.at(next_))) return false;
    ++next_;
    return true;
  }
  absl::optional<absl::Time> OptionalTime() {
    if (SkipNull()) return absl::nullopt;
    return Time();
  }

 private:
  Row row_;
  size_t next_ = 0;
};

Value EncodeRequestId(const JobRecord& job) {
  if (job.request_id.empty()) return Null{};
  return RequestKey(job.tenant, job.request_id);
}

}  // namespace

std::string RequestKey(absl::string_view tenant, absl::string_view request_id) {
  if (tenant.empty()) return std::string(request_id);
  return absl::StrCat(tenant, "\n", request_id);
}

Row EncodeJob(const JobRow& row) {
  const JobRecord& job = row.record;
  return {row.number,
          job.id,
          EncodeRequestId(job),
          Bytes{job.request_digest},
          int64_t{job.priority},
          absl::ToInt64Nanoseconds(job.timeout),
          Encode(job.create_time),
          EncodeOptional(job.start_time),
          EncodeOptional(job.end_time),
          static_cast<int64_t>(job.state),
          static_cast<int64_t>(job.failure.code),
          job.failure.message,
          job.lease_owner,
          Encode(job.lease_until),
          job.fence,
          int64_t{job.attempt},
          int64_t{job.losses},
          int64_t{job.cancel_requested},
          row.results,
          job.next_sequence,
          job.oldest_sequence,
          row.checkpoint_count,
          row.checkpoint.name,
          row.checkpoint.size,
          row.checkpoint.checksum};
}

JobRow DecodeJob(Row values) {
  RowReader reader(std::move(values));
  JobRow row;
  JobRecord& job = row.record;
  row.number = reader.Integer();
  job.id = reader.Text();
  if (!reader.SkipNull()) {
    const std::string key = reader.Text();
    job.request_id = key.substr(key.find('\n') + 1);
  }
  job.request_digest = reader.Blob();
  job.priority = reader.Int();
  job.timeout = absl::Nanoseconds(reader.Integer());
  job.create_time = reader.Time();
  job.start_time = reader.OptionalTime();
  job.end_time = reader.OptionalTime();
  job.state = static_cast<JobState>(reader.Integer());
  job.failure.code = static_cast<absl::StatusCode>(reader.Integer());
  job.failure.message = reader.Text();
  job.lease_owner = reader.Text();
  job.lease_until = reader.Time();
  job.fence = reader.Integer();
  job.attempt = reader.Int();
  job.losses = reader.Int();
  job.cancel_requested = reader.Integer() != 0;
  row.results = reader.Integer();
  job.next_sequence = reader.Integer();
  job.oldest_sequence = reader.Integer();
  row.checkpoint_count = reader.Integer();
  row.checkpoint.name = reader.Text();
  row.checkpoint.size = reader.Integer();
  row.checkpoint.checksum = reader.Integer();
  job.has_checkpoint = !row.checkpoint.name.empty();
  return row;
}

Row EncodeEvent(int64_t job_number, const StoredEvent& event) {
  // A result's bytes are in table job_results.
  const bool stored_elsewhere = event.kind == EventKind::kMethodResult;
  return {job_number,
          event.sequence,
          Encode(event.time),
          static_cast<int64_t>(event.kind),
          static_cast<int64_t>(event.state),
          int64_t{event.attempt},
          int64_t{event.method_index},
          Bytes{stored_elsewhere ? "" : event.payload}};
}

StoredEvent DecodeEvent(Row values) {
  RowReader reader(std::move(values));
  StoredEvent event;
  reader.Integer();  // the job
  event.sequence = reader.Integer();
  event.time = reader.Time();
  event.kind = static_cast<EventKind>(reader.Integer());
  event.state = static_cast<JobState>(reader.Integer());
  event.attempt = reader.Int();
  event.method_index = reader.Int();
  event.payload = reader.Blob();
  return event;
}

Row EncodePart(const PartRow& part) {
  return {part.job,
          int64_t{part.part},
          int64_t{part.results},
          int64_t{part.done},
          part.fence,
          part.job_fence,
          int64_t{part.own},
          Encode(part.lease_until),
          absl::StrJoin(part.states, "\n")};
}

PartRow DecodePart(Row values) {
  RowReader reader(std::move(values));
  PartRow part;
  part.job = reader.Integer();
  part.part = reader.Int();
  part.results = reader.Int();
  part.done = reader.Integer() != 0;
  part.fence = reader.Integer();
  part.job_fence = reader.Integer();
  part.own = reader.Integer() != 0;
  part.lease_until = reader.Time();
  part.states = absl::StrSplit(reader.Text(), '\n', absl::SkipEmpty());
  return part;
}

}  // namespace attnprune
