// What is told of each gRPC call: its request, the job it is about, and how it ends.
#ifndef ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_
#define ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_

#include <string>

#include "absl/time/time.h"
#include "server/observe/call_log.h"
#include "server/queue/job_record.h"

namespace grpc {
class CallbackServerContext;
class Status;
}  // namespace grpc

namespace attnprune::rpc {

// One call, from its beginning. Not thread-safe.
class CallRecord {
 public:
  // Takes the request id and the trace from the call's metadata, or makes them where there are none
  // or they break the rules of trace_context.h, and has the request id returned to the caller, in
  // the leading and in the trailing metadata. listener may be empty; it must outlive the record.
  CallRecord(const RpcListener& listener, const char* method, grpc::CallbackServerContext* context);

  // Of a job that this call makes.
  JobOrigin origin() const;

  // name: as the request or the answer has it.
  void SetJob(const std::string& name);
  // sha256: as the request has it.
  void SetTensor(const std::string& sha256);
  // The call changes nothing, whatever its method.
  void SetValidateOnly() { call_.validate_only = true; }
  // Tells the listener. Once.
  void Finish(const grpc::Status& status) const;

 private:
  const RpcListener* listener_;
  absl::Time begin_;
  FinishedRpc call_;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_
