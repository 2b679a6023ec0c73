#include "server/grpc/call_record.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <utility>

#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/clock.h"
#include "server/api/request_check.h"
#include "server/api/status_details.h"
#include "server/blobs/upload_spec.h"
#include "server/grpc/connections.h"

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

// gRPC's "ipv4:127.0.0.1:40112" and "ipv6:%5B::1%5D:40112".
std::string PeerOf(const grpc::CallbackServerContext& context) {
  const std::string peer = context.peer();
  for (const absl::string_view family : {"ipv4:", "ipv6:"}) {
    absl::string_view address = peer;
    if (!absl::ConsumePrefix(&address, family)) continue;
    return absl::StrReplaceAll(address, {{"%5B", "["}, {"%5D", "]"}});
  }
  return peer;
}

}  // namespace

CallRecord::CallRecord(const CallPort& port, const char* method,
                       grpc::CallbackServerContext* context, Kind kind)
    : port_(&port),
      authorization_(AuthorizationOf(*context)),
      caller_(port.gate->Admit(method, authorization_)),
      begin_(SteadyNow()) {
  call_.method = method;
  call_.caller.peer = PeerOf(*context);
  if (caller_.ok()) {
    if (port.connections != nullptr) port.connections->LetIn(call_.caller.peer, caller_->tenant);
    call_.caller.tenant = caller_->tenant;
    call_.caller.who = caller_->name;
    if (kind == Kind::kStream) TakeSlot();
  }
  call_.request =
      TraceRequest(MetadataOf(*context, kRequestIdKey), MetadataOf(*context, kTraceparentKey));
  context->AddInitialMetadata(kRequestIdKey, call_.request.request_id);
  context->AddTrailingMetadata(kRequestIdKey, call_.request.request_id);
}

absl::Status CallRecord::CheckStillAdmitted() const {
  return port_->gate->Admit(call_.method, authorization_).status();
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

void CallRecord::SetTensor(const std::string& sha256) {
  if (IsSha256(sha256)) call_.tensor = sha256;
}

void CallRecord::Finish(const grpc::Status& status) const {
  if (!port_->on_call) return;
  FinishedRpc ended = call_;
  ended.code = static_cast<absl::StatusCode>(status.error_code());
  ended.took = SteadyNow() - begin_;
  port_->on_call(ended);
}

}  // namespace attnprune::rpc
