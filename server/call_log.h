// The API's calls as log lines.
#ifndef ATTNPRUNE_SERVER_CALL_LOG_H_
#define ATTNPRUNE_SERVER_CALL_LOG_H_

#include "server/grpc/call_record.h"
#include "server/web/web_host.h"

namespace attnprune {

// One line, "rpc", a call that has ended: its method, code, milliseconds, job, request and trace.
// Calls that change something at info level, and what was refused; others at debug level; failures
// of the server's own at warning level. Thread-safe.
void LogCall(const rpc::FinishedCall& call);

// One line, "http", a POST, and whatever ended with a code of 500 or above: its method, path, code,
// milliseconds, job, request and trace. Failures of the server's own at warning level, the rest at
// info level. Thread-safe.
void LogHttpCall(const http::FinishedCall& call);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_CALL_LOG_H_
