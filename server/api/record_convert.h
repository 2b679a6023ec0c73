// From what the job store keeps to the API's messages. Pure; callable from any thread.
//
// NewJob::spec is a serialized v1::Job without its output-only fields but estimate and the methods'
// labels; results and the payloads of kMethodResult are serialized v1::MethodResult, payloads of
// kProgress and kEvaluated serialized v1::Progress; all others are text. Of a run they are a
// v1::Run with estimate and results_total, and v1::RunResults.
#ifndef ATTNPRUNE_SERVER_API_RECORD_CONVERT_H_
#define ATTNPRUNE_SERVER_API_RECORD_CONVERT_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/run.pb.h"
#include "server/queue/job_record.h"

namespace attnprune::api {

google::protobuf::Timestamp ToProto(absl::Time time);

// DATA_LOSS if the stored bytes are not what this server writes.
absl::StatusOr<v1::Job> ToProto(const JobRecord& record);
absl::StatusOr<v1::Run> RunToProto(const JobRecord& record);

// Of a job of that kind. A kTerminal event comes without its job. DATA_LOSS as above.
absl::StatusOr<v1::JobEvent> ToProto(const StoredEvent& event, JobKind kind);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_RECORD_CONVERT_H_
