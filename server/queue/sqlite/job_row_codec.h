// Rows of the tables as structs and back. Decoding trusts its input: rows are unsealed first.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_ROW_CODEC_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_ROW_CODEC_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/queue/job_rows.h"
#include "server/queue/sqlite/sqlite.h"

namespace attnprune {

// What jobs.request_id has (job_schema.cc).
std::string RequestKey(absl::string_view tenant, absl::string_view request_id);

sqlite::Row EncodeJob(const JobRow& row);
JobRow DecodeJob(sqlite::Row row);

sqlite::Row EncodeEvent(int64_t job_number, const StoredEvent& event);
sqlite::Row EncodePart(const PartRow& part);
PartRow DecodePart(sqlite::Row values);
StoredEvent DecodeEvent(sqlite::Row row);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_ROW_CODEC_H_
