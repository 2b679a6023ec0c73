#include "server/web/api_json.h"

#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "attnprune/v1/errors.pb.h"
#include "nlohmann/json.hpp"
#include "server/api/status_details.h"
#include "server/http/compress.h"

namespace attnprune::web {
namespace {

constexpr int kFast = 1;                    // of gzip's levels
constexpr size_t kWorthCompressing = 1024;  // bytes

// A detail of google.rpc by the message of ours that has its fields (errors.proto).
nlohmann::json DetailJson(const google::protobuf::Any& any) {
  nlohmann::json json = {{"@type", any.type_url()}};
  absl::string_view name = any.type_url();
  absl::ConsumePrefix(&name, "type.googleapis.com/google.rpc.");
  const auto* const type =
      google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName("attnprune.v1." +
                                                                                std::string(name));
  if (type == nullptr) return json;
  const std::unique_ptr<google::protobuf::Message> detail(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
  if (!detail->ParseFromString(any.value())) return json;
  json.update(nlohmann::json::parse(ToJson(*detail)));
  return json;
}

// The HTTP code that stands for a canonical code, as google.rpc.Code says.
int HttpCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string text;
  // Only a google.protobuf.Any of unknown type can fail, and the API's messages have none.
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return "{}";
  return text;
}

http::Response TextResponse(const http::Request& request, std::string text,
                            std::string content_type) {
  http::Response response;
  response.content_type = std::move(content_type);
  response.headers = {{"Cache-Control", "no-store"}, {"Vary", "Accept-Encoding"}};
  if (text.size() >= kWorthCompressing && http::TakesGzip(request.accept_encoding)) {
    text = http::Gzip(text, kFast);
    response.headers.emplace_back("Content-Encoding", "gzip");
  }
  response.body = std::make_shared<const std::string>(std::move(text));
  return response;
}

http::Response JsonResponse(const http::Request& request,
                            const google::protobuf::Message& message) {
  return TextResponse(request, ToJson(message) + "\n", "application/json");
}

absl::Status FromJson(absl::string_view text, google::protobuf::Message* message) {
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(text.data(), text.size()), message);
  if (status.ok()) return absl::OkStatus();
  return FieldError("body", absl::StrCat("must be a ", message->GetDescriptor()->name(),
                                         " in JSON: ", std::string(status.message())));
}

absl::Status UnknownParameter(absl::string_view parameter) {
  return FieldError(parameter, "must not be given: there is no such parameter here");
}

absl::Status NoParameters(const http::Pairs& query) {
  return query.empty() ? absl::OkStatus() : UnknownParameter(query.front().first);
}

http::Response ErrorResponse(const absl::Status& status, absl::optional<int> code) {
  const int http_code = code.value_or(HttpCode(status.code()));
  const v1::RpcStatus wire = api::ToRpcStatus(status);
  nlohmann::json error = {{"code", http_code},
                          {"status", absl::StatusCodeToString(status.code())},
                          {"message", wire.message()}};
  for (const google::protobuf::Any& detail : wire.details()) error["details"] += DetailJson(detail);
  http::Response response;
  response.status = http_code;
  response.content_type = "application/json";
  // What a client has sent may be in the message and need not be UTF-8.
  const nlohmann::json body = {{"error", std::move(error)}};
  response.body = std::make_shared<const std::string>(
      body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  response.headers = {{"Cache-Control", "no-store"}};
  if (http_code == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace attnprune::web
