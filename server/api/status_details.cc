#include "server/api/status_details.h"

#include <google/protobuf/util/time_util.h>
#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "attnprune/v1/errors.pb.h"
#include "core/base/field_error.h"

namespace attnprune::api {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/google.rpc.";

// Clients refuse more than 8 KiB of metadata; the message goes there twice or three times.
constexpr size_t kMaxText = 600;
constexpr size_t kMaxSubjects = 30;

// At most kMaxText bytes and dots, as the well-formed UTF-8 that a message's string must be: what a
// client sent over HTTP need not be.
std::string Legible(absl::string_view text) {
  constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
  std::string legible;
  while (!text.empty()) {
    utf8proc_int32_t ignored = 0;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                         static_cast<utf8proc_ssize_t>(text.size()), &ignored);
    const size_t taken = length > 0 ? static_cast<size_t>(length) : 1;
    const absl::string_view character = length > 0 ? text.substr(0, taken) : kReplacement;
    if (legible.size() + character.size() > kMaxText) return legible + "...";
    absl::StrAppend(&legible, character);
    text.remove_prefix(taken);
  }
  return legible;
}

absl::Status WithDetail(absl::Status status, const google::protobuf::Message& detail) {
  status.SetPayload(absl::StrCat(kTypePrefix, detail.GetDescriptor()->name()),
                    absl::Cord(detail.SerializeAsString()));
  return status;
}

absl::Status WithBadRequest(const absl::Status& status, const std::string& field) {
  v1::BadRequest detail;
  v1::BadRequest::FieldViolation& violation = *detail.add_field_violations();
  violation.set_field(Legible(field));
  violation.set_description(Legible(status.message()));
  return WithDetail(status, detail);
}

// With what a client can act on: the field at fault, or when to come back.
absl::Status WithImpliedDetail(const absl::Status& status) {
  constexpr absl::Duration kRetry = absl::Seconds(1);  // a database or a disk is back by then
  const std::string field = FieldAtFault(status);
  if (!field.empty()) return WithBadRequest(status, field);
  const std::string retry = absl::StrCat(kTypePrefix, v1::RetryInfo::descriptor()->name());
  if (!absl::IsUnavailable(status) || status.GetPayload(retry).has_value()) return status;
  return WithRetryAfter(status, kRetry);
}

}  // namespace

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  v1::RetryInfo detail;
  *detail.mutable_retry_delay() =
      google::protobuf::util::TimeUtil::NanosecondsToDuration(absl::ToInt64Nanoseconds(delay));
  return WithDetail(std::move(status), detail);
}

absl::Status WithReason(absl::Status status, absl::string_view reason,
                        const std::map<std::string, std::string>& metadata) {
  v1::ErrorInfo detail;
  detail.set_reason(std::string(reason));
  detail.set_domain("attnprune");
  detail.mutable_metadata()->insert(metadata.begin(), metadata.end());
  return WithDetail(std::move(status), detail);
}

absl::Status WithPreconditions(absl::Status status, absl::string_view type,
                               const std::vector<std::string>& subjects) {
  v1::PreconditionFailure detail;
  for (size_t i = 0; i < std::min(subjects.size(), kMaxSubjects); ++i) {
    v1::PreconditionFailure::Violation& violation = *detail.add_violations();
    violation.set_type(std::string(type));
    violation.set_subject(Legible(subjects[i]));
  }
  return WithDetail(std::move(status), detail);
}

v1::RpcStatus ToRpcStatus(const absl::Status& status) {
  const absl::Status full = WithImpliedDetail(status);
  v1::RpcStatus wire;
  wire.set_code(static_cast<int>(full.code()));
  wire.set_message(Legible(full.message()));
  full.ForEachPayload([&wire](absl::string_view type, const absl::Cord& payload) {
    if (!absl::StartsWith(type, kTypePrefix)) return;
    google::protobuf::Any& detail = *wire.add_details();
    detail.set_type_url(std::string(type));
    detail.set_value(std::string(payload));
  });
  return wire;
}

}  // namespace attnprune::api
