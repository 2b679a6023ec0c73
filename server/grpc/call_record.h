// Each gRPC call, from its beginning: who calls and whether they may, and what is told of it: its
// request, the job it is about, and how it ends.
#ifndef ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_
#define ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/access/caller.h"
#include "server/access/gate.h"
#include "server/observe/call_log.h"
#include "server/queue/job_record.h"

namespace grpc {
class CallbackServerContext;
class Status;
}  // namespace grpc

namespace attnprune::rpc {

class Connections;

// What calls share.
struct CallPort {
  const access::Gate* gate;            // must outlive the records
  RpcListener on_call;                 // may be empty; the port must outlive the records
  Connections* connections = nullptr;  // told of who is let in; may be null; likewise
};

// One call, from its beginning. Not thread-safe.
class CallRecord {
 public:
  enum class Kind { kUnary, kStream };

  // Takes the request id and the trace from the call's metadata, or makes them where there are none
  // or they break the rules of trace_context.h, and has the request id returned to the caller, in
  // the leading and in the trailing metadata. method: as access/rules.h names it.
  // A stream counts among those that are open (access::Gate::OpenStream) as long as this.
  CallRecord(const CallPort& port, const char* method, grpc::CallbackServerContext* context,
             Kind kind = Kind::kUnary);

  // Who calls, by the metadata "authorization". UNAUTHENTICATED, PERMISSION_DENIED or, of a stream,
  // RESOURCE_EXHAUSTED: the call is to end with it, having done nothing.
  const absl::StatusOr<access::Caller>& caller() const { return caller_; }
  // OK unless the caller's token has lapsed since, or its role changed: for calls that last.
  absl::Status CheckStillAdmitted() const;

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
  void TakeSlot();

  const CallPort* port_;
  std::string authorization_;  // the metadata
  absl::StatusOr<access::Caller> caller_;
  access::StreamSlot slot_;
  absl::Time begin_;
  FinishedRpc call_;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_CALL_RECORD_H_
