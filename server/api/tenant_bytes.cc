#include "server/api/tenant_bytes.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune::api {

absl::StatusOr<int64_t> TenantBytes::StoredBytes(const std::string& tenant) {
  const absl::Time now = clock_->Now();
  {
    const MutexLock lock(&mutex_);
    const auto found = counted_.find(tenant);
    const bool recent =
        found != counted_.end() && now >= found->second.time && now - found->second.time < kRecent;
    if (recent) return found->second.bytes;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> own, jobs_->TensorsOf(tenant));
  int64_t bytes = 0;
  for (const std::string& digest : own) bytes += tensors_->SizeOf(digest).value_or(0);
  const MutexLock lock(&mutex_);
  std::erase_if(counted_, [&](const auto& entry) { return now - entry.second.time >= kRecent; });
  counted_[tenant] = {now, bytes};
  return bytes;
}

absl::Status TenantBytes::CheckRoom(const UploadSpec& spec) {
  if (limit_ == 0) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t stored, StoredBytes(spec.tenant));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t committed,
                             tensors_->CommittedBytes(spec.tenant, spec.upload_id));
  const int64_t others = stored + tensors_->UploadBytesOf(spec.tenant) - committed;
  if (spec.size_bytes <= limit_ - others) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("tensors of one tenant must take at most ", limit_, " bytes together, ", others,
                   " are taken and this one has ", spec.size_bytes));
}

absl::Status TenantBytes::CheckNext(const std::string& tenant, int64_t bytes) {
  if (limit_ == 0) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t stored, StoredBytes(tenant));
  const int64_t taken = stored + tensors_->UploadBytesOf(tenant);
  if (bytes <= limit_ - taken) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("tensors of one tenant must take at most ", limit_, " bytes together, ", taken,
                   " are taken and for the next ", bytes, " there is no room"));
}

void TenantBytes::Add(const std::string& tenant, int64_t size) {
  const MutexLock lock(&mutex_);
  const auto found = counted_.find(tenant);
  if (found != counted_.end()) found->second.bytes += size;
}

}  // namespace attnprune::api
