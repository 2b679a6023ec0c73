#include "client/library/status_details.h"

#include <grpcpp/support/status.h>

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/errors.pb.h"
#include "core/base/field_error.h"
#include "trace/trace_context.h"

namespace attnprune::client {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/google.rpc.";
constexpr absl::string_view kRequestIdPayload = "attnprune/x-request-id";
constexpr absl::string_view kForGoodPayload = "attnprune/for-good";

// The detail of that name, if the status has one that can be read.
template <typename Detail>
absl::optional<Detail> DetailOf(const absl::Status& status, absl::string_view name) {
  const absl::optional<absl::Cord> payload = status.GetPayload(absl::StrCat(kTypePrefix, name));
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return absl::nullopt;
  return detail;
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status out(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  v1::RpcStatus wire;
  if (!wire.ParseFromString(status.error_details())) return out;
  for (const google::protobuf::Any& detail : wire.details()) {
    if (!absl::StartsWith(detail.type_url(), kTypePrefix)) continue;
    out.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  const auto bad_request = DetailOf<v1::BadRequest>(out, "BadRequest");
  if (!bad_request.has_value() || bad_request->field_violations().empty()) return out;
  return WithField(std::move(out), bad_request->field_violations(0).field());
}

absl::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const auto detail = DetailOf<v1::RetryInfo>(status, "RetryInfo");
  if (!detail.has_value()) return absl::nullopt;
  return absl::Seconds(detail->retry_delay().seconds()) +
         absl::Nanoseconds(detail->retry_delay().nanos());
}

std::vector<std::string> MissingTensors(const absl::Status& status) {
  std::vector<std::string> digests;
  const auto detail = DetailOf<v1::PreconditionFailure>(status, "PreconditionFailure");
  if (!detail.has_value()) return digests;
  for (const v1::PreconditionFailure::Violation& violation : detail->violations()) {
    if (violation.type() == "TENSOR_MISSING") digests.push_back(violation.subject());
  }
  return digests;
}

absl::optional<int64_t> OldestSequence(const absl::Status& status) {
  const auto detail = DetailOf<v1::ErrorInfo>(status, "ErrorInfo");
  if (!detail.has_value()) return absl::nullopt;
  const auto found = detail->metadata().find("oldest_sequence");
  int64_t sequence = 0;
  if (found == detail->metadata().end() || !absl::SimpleAtoi(found->second, &sequence)) {
    return absl::nullopt;
  }
  return sequence;
}

std::string RequestIdOf(const absl::Status& status) {
  const absl::optional<absl::Cord> id = status.GetPayload(kRequestIdPayload);
  return id.has_value() ? std::string(*id) : "";
}

absl::Status WithRequestId(absl::Status status, const std::string& request_id) {
  if (IsRequestId(request_id)) status.SetPayload(kRequestIdPayload, absl::Cord(request_id));
  return status;
}

absl::Status WithMessage(const absl::Status& status, absl::string_view message) {
  absl::Status out(status.code(), message);
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { out.SetPayload(type, payload); });
  return out;
}

absl::Status MarkForGood(absl::Status status) {
  status.SetPayload(kForGoodPayload, absl::Cord());
  return status;
}

bool IsForGood(const absl::Status& status) {
  return status.GetPayload(kForGoodPayload).has_value();
}

std::string Explain(const absl::Status& status) {
  std::string text = absl::StrCat(status.message(), " (", absl::StatusCodeToString(status.code()));
  const std::string field = FieldAtFault(status);
  if (!field.empty() && !absl::StrContains(status.message(), field)) {
    absl::StrAppend(&text, "; field ", field);
  }
  if (const auto delay = RetryDelay(status)) {
    absl::StrAppend(&text, "; try again in ", absl::FormatDuration(*delay));
  }
  const std::string request = RequestIdOf(status);
  if (!request.empty()) absl::StrAppend(&text, "; request ", request);
  return absl::StrCat(text, ")");
}

}  // namespace attnprune::client
