// Which request, of which trace: what log lines of client and server have in common. The W3C's
// Trace Context (https://www.w3.org/TR/trace-context/) and request ids, as gRPC metadata and HTTP
// headers:
//
//   traceparent   00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//                 version, trace, span of the caller, flags
//   x-request-id  the caller's choice, or the server's; the server returns it
#ifndef ATTNPRUNE_TRACE_TRACE_CONTEXT_H_
#define ATTNPRUNE_TRACE_TRACE_CONTEXT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace attnprune {

inline constexpr char kRequestIdKey[] = "x-request-id";
inline constexpr char kTraceparentKey[] = "traceparent";

struct TraceContext {
  std::string trace_id;  // 32 lower-case hexadecimal digits, not all 0
  std::string span_id;   // 16, not all 0
  bool sampled = true;   // the caller may record the trace
};

// Nothing if it breaks the grammar. A later version than 00 is read as far as 00 goes, and "ff" is
// none. Pure.
absl::optional<TraceContext> ParseTraceparent(absl::string_view text);

// Of version 00. Pure.
std::string ToTraceparent(const TraceContext& context);

TraceContext NewTrace();                            // random
TraceContext ChildOf(const TraceContext& context);  // the same trace, a random span

// 1 to 128 characters [A-Za-z0-9._:/-]: safe in a log line, a header and a terminal. Pure.
bool IsRequestId(absl::string_view text);
std::string NewRequestId();  // 32 random hexadecimal digits

// A request that has arrived.
struct RequestTrace {
  std::string request_id;
  TraceContext trace;       // its span is the request's own
  std::string caller_span;  // empty: the caller was in no trace
};

// From what the caller sent, empty where there was nothing; what is missing or breaks the rules is
// made anew.
RequestTrace TraceRequest(absl::string_view request_id, absl::string_view traceparent);

}  // namespace attnprune

#endif  // ATTNPRUNE_TRACE_TRACE_CONTEXT_H_
