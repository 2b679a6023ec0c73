#include "server/api/tensor_api.h"

#include <set>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/api/status_details.h"
#include "server/api/tensor_list.h"

namespace attnprune::api {
namespace {

constexpr absl::Duration kRetry = absl::Minutes(1);  // where there is no room: told to clients
constexpr size_t kAtOnce = 500;  // digests of one call of the store, which others wait for

// When to try again, of what is over a limit.
absl::Status InAWhile(const absl::Status& status) {
  return absl::IsResourceExhausted(status) ? WithRetryAfter(status, kRetry) : status;
}

bool SeesAllTensors(const access::Caller& caller) { return caller.role == access::Role::kAdmin; }

}  // namespace

absl::Status CheckDigestCount(int64_t digests) {
  constexpr int64_t kMost = 10'000;
  if (digests <= kMost) return absl::OkStatus();
  return MustError("sha256", absl::StrCat("have at most ", kMost, " entries"), digests);
}

absl::StatusOr<bool> TensorApi::IsThere(const access::Caller& caller,
                                        const std::string& sha256) const {
  if (SeesAllTensors(caller)) return true;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> own,
                             owners_->FindOwnTensors(caller.tenant, {sha256}));
  return !own.empty();
}

// Adds those that are the tenant's to *own, and notes them anew.
absl::Status TensorApi::NoteOwn(const std::string& tenant, absl::Span<const std::string> digests,
                                std::set<std::string>* own) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> found,
                             owners_->FindOwnTensors(tenant, digests));
  if (found.empty()) return absl::OkStatus();
  own->insert(found.begin(), found.end());
  return owners_->NoteTensors(tenant, std::vector<std::string>(found.begin(), found.end()));
}

// The grace in the blob store begins after the note: a tensor goes no earlier than the note that it
// is the tenant's.
absl::StatusOr<std::vector<std::string>> TensorApi::FindMissing(
    const access::Caller& caller, absl::Span<const std::string> digests) const {
  if (SeesAllTensors(caller)) return tensors_->FindMissing(digests);
  for (size_t i = 0; i < digests.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckSha256(absl::StrCat("sha256[", i, "]"), digests[i]));
  }
  std::set<std::string> own;
  for (size_t begin = 0; begin < digests.size(); begin += kAtOnce) {
    ATTNPRUNE_RETURN_IF_ERROR(NoteOwn(caller.tenant, digests.subspan(begin, kAtOnce), &own));
  }
  const std::vector<std::string> asked(own.begin(), own.end());
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> gone, tensors_->FindMissing(asked));
  const std::unordered_set<std::string> not_stored(gone.begin(), gone.end());
  std::vector<std::string> missing;
  for (const std::string& digest : digests) {
    if (own.count(digest) == 0 || not_stored.count(digest) > 0) missing.push_back(digest);
  }
  return missing;
}

absl::StatusOr<std::unique_ptr<Upload>> TensorApi::StartUpload(const access::Caller& caller,
                                                               UploadSpec spec,
                                                               int64_t offset) const {
  spec.tenant = caller.tenant;
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadSpec(spec));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there, IsThere(caller, spec.sha256));
  if (!there && HasLimit(caller)) {
    ATTNPRUNE_RETURN_IF_ERROR(InAWhile(bytes_->CheckRoom(spec)));
  }
  return tensors_->StartUpload(spec, offset,
                               there ? IfStored::kNothingToSend : IfStored::kSendAllTheSame);
}

bool TensorApi::HasLimit(const access::Caller& caller) const {
  return bytes_ != nullptr && !caller.tenant.empty();
}

absl::Status TensorApi::Append(const access::Caller& caller, Upload& upload,
                               absl::Span<const char> data,
                               absl::FunctionRef<void()> on_written) const {
  if (HasLimit(caller)) {
    const absl::Status room = bytes_->CheckNext(caller.tenant, static_cast<int64_t>(data.size()));
    if (absl::IsResourceExhausted(room)) upload.Discard();
    ATTNPRUNE_RETURN_IF_ERROR(InAWhile(room));
  }
  return InAWhile(upload.Append(data, on_written));
}

absl::Status TensorApi::FinishUpload(const access::Caller& caller, Upload& upload) const {
  if (!upload.already_there()) ATTNPRUNE_RETURN_IF_ERROR(upload.Finish());
  if (caller.tenant.empty()) return absl::OkStatus();  // only admins have none
  if (bytes_ != nullptr && !upload.already_there()) {
    bytes_->Add(caller.tenant, upload.spec().size_bytes);
  }
  return owners_->NoteTensors(caller.tenant, {upload.spec().sha256});
}

absl::StatusOr<int64_t> TensorApi::CommittedBytes(const access::Caller& caller,
                                                  const std::string& upload_id) const {
  return tensors_->CommittedBytes(caller.tenant, upload_id);
}

absl::StatusOr<v1::ListTensorsResponse> TensorApi::ListTensors(
    const access::Caller& caller, const v1::ListTensorsRequest& request) const {
  return api::ListTensors(caller, request, *tensors_, owners_);
}

absl::StatusOr<int64_t> TensorApi::SizeOf(const access::Caller& caller,
                                          const std::string& sha256) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there, IsThere(caller, sha256));
  if (!there) return NoSuchTensor(sha256);
  return tensors_->SizeOf(sha256);
}

absl::StatusOr<std::unique_ptr<BlobReader>> TensorApi::OpenForReading(
    const access::Caller& caller, const std::string& sha256) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there, IsThere(caller, sha256));
  if (!there) return NoSuchTensor(sha256);
  return tensors_->OpenForReading(sha256);
}

}  // namespace attnprune::api
