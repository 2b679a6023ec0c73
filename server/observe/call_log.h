// The API's calls as log lines, by gRPC and by HTTP.
#ifndef ATTNPRUNE_SERVER_OBSERVE_CALL_LOG_H_
#define ATTNPRUNE_SERVER_OBSERVE_CALL_LOG_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "trace/trace_context.h"

namespace attnprune {

// Who calls, and from where.
struct CallSource {
  std::string who, tenant;  // empty: not known
  std::string peer;         // "127.0.0.1:40112", "[::1]:40112": the other end of the connection
};

// A gRPC call that has ended.
struct FinishedRpc {
  const char* method;  // "CreateJob"
  std::string job;     // "jobs/x" that it made or asked for; empty: none, or not a job's name
  std::string tensor;  // SHA-256 of the one that it brings or takes; empty: none, or no digest
  bool validate_only = false;
  CallSource caller;
  RequestTrace request;
  absl::StatusCode code;
  absl::Duration took;
};

// An HTTP request that has been answered, or whose stream begins.
struct FinishedHttpRequest {
  absl::string_view verb;  // "GET"
  std::string path;        // decoded, without the query
  std::string job;  // "jobs/x" that it made or that the path names; empty: none, or no job's name
  std::string tensor;  // SHA-256 of the one that it brings or takes; empty: none, or no digest
  absl::string_view action;  // the RPC that does the same, "CancelJob"; empty: it is not audited
  CallSource caller;
  RequestTrace request;
  int status;
  absl::Duration took;
};

// Told of each call by the port that took it, from any thread; return quickly.
using RpcListener = std::function<void(const FinishedRpc&)>;
using HttpListener = std::function<void(const FinishedHttpRequest&)>;

// Whether the RPC of that name changes something, or takes a tensor. Pure.
bool IsAudited(absl::string_view rpc);

// One line, "rpc", a call: its method, code, milliseconds, job, caller, request and trace. Those
// that are audited at info level, and what was refused; others at debug level; failures of the
// server's own at warning level. Thread-safe.
void LogRpc(const FinishedRpc& call);

// One line, "http", whatever is audited, each POST, PUT and DELETE, and whatever ended with a code
// of 500 or above: its method, path, code, milliseconds, job, tensor, caller, request and trace.
// Failures of the server's own at warning level, the rest at info level. Thread-safe.
void LogHttpRequest(const FinishedHttpRequest& call);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_CALL_LOG_H_
