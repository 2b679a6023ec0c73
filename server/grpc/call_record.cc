#include "server/grpc/call_record.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "server/api/request_check.h"
#include "server/api/status_details.h"

namespace attnprune::rpc {
namespace {

constexpr absl::Duration kRetryStream = absl::Seconds(5);

// The first of that key; empty: none.
absl::string_view MetadataOf(const grpc::CallbackServerContext& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  if (found == metadata.end()) return "";
  return {found->second.data(), found->second.size()};
}

// "Bearer TOKEN"; empty: none, or several, of which a proxy may have meant either.
absl::string_view AuthorizationOf(const grpc::CallbackServerContext& context) {
  constexpr char kKey[] = "authorization";
  return context.client_metadata().count(kKey) == 1 ? MetadataOf(context, kKey) : "";
}

}  // namespace

CallRecord::CallRecord(const CallPort& port, const char* method,
                       grpc::CallbackServerContext* context, Kind kind)
    : port_(&port),
      caller_(port.gate->Admit(method, AuthorizationOf(*context))),
      begin_(absl::Now()) {
  call_.method = method;
  if (caller_.ok()) {
    call_.tenant = caller_->tenant;
    call_.who = caller_->name;
    if (kind == Kind::kStream) TakeSlot();
  }
  call_.request =
      TraceRequest(MetadataOf(*context, kRequestIdKey), MetadataOf(*context, kTraceparentKey));
  context->AddInitialMetadata(kRequestIdKey, call_.request.request_id);
  context->AddTrailingMetadata(kRequestIdKey, call_.request.request_id);
}

void CallRecord::TakeSlot() {
  absl::StatusOr<access::StreamSlot> slot = port_->gate->OpenStream(*caller_);
  if (slot.ok()) {
    slot_ = *std::move(slot);
  } else {
    caller_ = api::WithRetryAfter(slot.status(), kRetryStream);
  }
}

JobOrigin CallRecord::origin() const {
  return {call_.request.request_id, ToTraceparent(call_.request.trace)};
}

void CallRecord::SetJob(const std::string& name) {
  if (api::ParseWatchedName(name).ok()) call_.job = name;
}

void CallRecord::Finish(const grpc::Status& status) const {
  if (!port_->on_call) return;
  FinishedRpc ended = call_;
  ended.code = static_cast<absl::StatusCode>(status.error_code());
  ended.took = absl::Now() - begin_;
  port_->on_call(ended);
}

}  // namespace attnprune::rpc
