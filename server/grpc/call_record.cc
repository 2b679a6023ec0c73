#include "server/grpc/call_record.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "server/api/request_check.h"

namespace attnprune::rpc {
namespace {

// The first of that key; empty: none.
absl::string_view MetadataOf(const grpc::CallbackServerContext& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  if (found == metadata.end()) return "";
  return {found->second.data(), found->second.size()};
}

}  // namespace

CallRecord::CallRecord(const RpcListener& listener, const char* method,
                       grpc::CallbackServerContext* context)
    : listener_(&listener), begin_(SteadyNow()) {
  call_.method = method;
  call_.request =
      TraceRequest(MetadataOf(*context, kRequestIdKey), MetadataOf(*context, kTraceparentKey));
  context->AddInitialMetadata(kRequestIdKey, call_.request.request_id);
  context->AddTrailingMetadata(kRequestIdKey, call_.request.request_id);
}

JobOrigin CallRecord::origin() const {
  return {call_.request.request_id, ToTraceparent(call_.request.trace)};
}

void CallRecord::SetJob(const std::string& name) {
  if (api::ParseWatchedName(name).ok()) call_.job = name;
}

void CallRecord::Finish(const grpc::Status& status) const {
  if (!*listener_) return;
  FinishedRpc ended = call_;
  ended.code = static_cast<absl::StatusCode>(status.error_code());
  ended.took = SteadyNow() - begin_;
  (*listener_)(ended);
}

}  // namespace attnprune::rpc
