// Who calls, and how the call ends: what the log says of each call of the API.
#ifndef ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_
#define ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/queue/job_record.h"
#include "trace/trace_context.h"

namespace grpc {
class CallbackServerContext;
class Status;
}  // namespace grpc

namespace attnprune::rpc {

// A call that has ended.
struct FinishedCall {
  const char* method;  // "CreateJob"
  std::string job;     // "jobs/x" that it made or asked for; empty: none, or not a job's name
  RequestTrace request;
  absl::StatusCode code;
  absl::Duration took;
};

// From any thread; returns quickly.
using CallListener = std::function<void(const FinishedCall&)>;

// One call, from its beginning. Not thread-safe.
class CallRecord {
 public:
  // Takes the request id and the trace from the call's metadata, or makes them where there are none
  // or they break the rules of trace_context.h, and has the request id returned to the caller, in
  // the leading and in the trailing metadata. listener may be empty; it must outlive the record.
  CallRecord(const CallListener& listener, const char* method,
             grpc::CallbackServerContext* context);

  // Of a job that this call makes.
  JobOrigin origin() const;

  // name: as the request or the answer has it.
  void SetJob(const std::string& name);
  // Tells the listener. Once.
  void Finish(const grpc::Status& status) const;

 private:
  const CallListener* listener_;
  absl::Time begin_;
  FinishedCall call_;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_
