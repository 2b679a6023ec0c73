// Rows of the tables as structs and back, the same for every database: its tables have these
// columns, in this order. Decoding trusts its input.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_ROW_CODEC_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_ROW_CODEC_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/queue/job_rows.h"
#include "server/queue/row_value.h"

namespace attnprune {

// What jobs.request_id has, which no two jobs share: "TENANT\nREQUEST_ID", or the request's alone
// where there is no tenant.
std::string RequestKey(absl::string_view tenant, absl::string_view request_id);

// Of table jobs, without what else a database may keep there: tenant and origin.
db::Row EncodeJob(const JobRow& row);
// Columns behind those are left out.
JobRow DecodeJob(db::Row row);
inline constexpr size_t kFailureMessageColumn = 11;  // text for people, of any bytes

db::Row EncodeEvent(int64_t job_number, const StoredEvent& event);
db::Row EncodePart(const PartRow& part);
PartRow DecodePart(db::Row values);
StoredEvent DecodeEvent(db::Row row);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_ROW_CODEC_H_
