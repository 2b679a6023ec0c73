// The API's messages and errors as HTTP answers. Pure; callable from any thread.
#ifndef ATTNPRUNE_SERVER_WEB_API_JSON_H_
#define ATTNPRUNE_SERVER_WEB_API_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/http/message.h"

namespace google::protobuf {
class Message;
}

namespace attnprune::web {

// Protobuf JSON on one line: camelCase names, zeros and falses printed, 64-bit integers as strings;
// as `attnprune --json` prints.
std::string ToJson(const google::protobuf::Message& message);

// 200 with the text; gzip if the request takes it.
http::Response TextResponse(const http::Request& request, std::string text,
                            std::string content_type);

// 200 with the message.
http::Response JsonResponse(const http::Request& request, const google::protobuf::Message& message);

// The message that protobuf JSON says. INVALID_ARGUMENT (body): no JSON, or a field that the
// message does not have or whose value does not fit.
absl::Status FromJson(absl::string_view text, google::protobuf::Message* message);

// INVALID_ARGUMENT names the query's parameter: no whole number that fits.
template <typename Integer>
absl::Status ParseInteger(absl::string_view parameter, absl::string_view text, Integer* value) {
  if (absl::SimpleAtoi(text, value)) return absl::OkStatus();
  return MustError(parameter, "be a whole number", Quoted(text));
}

// Whether the query's parameter is one of every list's, which it then sets. INVALID_ARGUMENT names
// it.
template <typename ListRequest>
absl::StatusOr<bool> ParsePaging(absl::string_view parameter, const std::string& text,
                                 ListRequest* request) {
  if (parameter == "pageToken" || parameter == "page_token") {
    request->set_page_token(text);
    return true;
  }
  if (parameter != "pageSize" && parameter != "page_size") return false;
  int32_t size = 0;
  ATTNPRUNE_RETURN_IF_ERROR(ParseInteger(parameter, text, &size));
  request->set_page_size(size);
  return true;
}

// INVALID_ARGUMENT names a query's parameter that the address does not have, or its first.
absl::Status UnknownParameter(absl::string_view parameter);
absl::Status NoParameters(const http::Pairs& query);

// {"error": {"code": 404, "status": "NOT_FOUND", "message": "…", "details": [{"@type": "…", …}]}}:
// the form of google.rpc.Status in JSON over HTTP (AIP-193), with the details of a gRPC error.
// code: in place of the one that stands for the status's (google.rpc.Code).
http::Response ErrorResponse(const absl::Status& status, absl::optional<int> code = {});

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_API_JSON_H_
