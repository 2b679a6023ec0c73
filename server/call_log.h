// The API's calls as log lines.
#ifndef ATTNPRUNE_SERVER_CALL_LOG_H_
#define ATTNPRUNE_SERVER_CALL_LOG_H_

#include "server/rpc/call_record.h"

namespace attnprune {

// One line, "rpc", a call that has ended: its method, code, milliseconds, job, request and trace.
// Calls that change something at info level, and what was refused; others at debug level; failures
// of the server's own at warning level. Thread-safe.
void LogCall(const rpc::FinishedCall& call);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_CALL_LOG_H_
