#include "server/api/tensor_list.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/api/record_convert.h"
#include "server/api/request_check.h"
#include "server/api/seen_job.h"
#include "server/api/submission.h"

namespace attnprune::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int kAskedAtOnce = 500;      // tensors of one call of a store
constexpr int kMostLookedAt = 10'000;  // for one page
constexpr size_t kLongestKey = 256;    // of an upload, with its tenant

// Where a page has ended: behind the upload or the tensor of this key.
struct Place {
  bool in_tensors = false;
  std::string after;
};

// "u0KEY" or "t0DIGEST"; 1 in place of 0: of unused ones.
std::string TokenOf(const Place& place, bool unused) {
  return absl::StrCat(place.in_tensors ? "t" : "u", unused ? "1" : "0", place.after);
}

bool IsKey(absl::string_view key) {
  const absl::string_view upload_id = key.substr(key.find('@') + 1);  // behind the tenant, if any
  const bool plain = std::all_of(key.begin(), key.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  return plain && key.size() <= kLongestKey && IsUploadId(upload_id);
}

absl::StatusOr<Place> ParseToken(const std::string& token, bool unused) {
  if (token.empty()) return Place();
  const Place place = {token[0] == 't', token.size() > 2 ? token.substr(2) : ""};
  const bool known = place.in_tensors ? IsSha256(place.after) : IsKey(place.after);
  if (known && TokenOf(place, unused) == token) return place;
  if (known && TokenOf(place, !unused) == token) {
    return FieldError("page_token", "must be used with the filter of the page it came with");
  }
  return FieldError("page_token", "must be one that the server gave");
}

// A tensor of a page, and the id of the job that refers to it.
struct Listed {
  BlobFacts facts;
  bool has_time = true;
  std::string user;
};

class TensorPages {
 public:
  TensorPages(const access::Caller& caller, const BlobStore& tensors, JobStore* jobs)
      : tenant_(SeenTenant(caller)), tensors_(tensors), jobs_(jobs) {}

  absl::StatusOr<std::vector<UploadFacts>> Uploads(const std::string& after, int limit) const {
    return tensors_.ListUploads(tenant_, after, limit);
  }

  // The next tensors in order, up to `limit` of them; moves *place behind those that it has looked
  // at. False from then on: there are no more.
  absl::StatusOr<bool> Read(int limit, bool unused, Place* place, std::vector<Listed>* page) const;

  // As the job that refers to it tells.
  absl::Status Describe(const std::vector<Listed>& page, v1::ListTensorsResponse* response) const;

 private:
  struct Piece {
    std::vector<Listed> tensors;  // that are stored
    std::string last;             // that was looked at
    int looked_at = 0;
  };
  absl::StatusOr<Piece> ReadStored(const std::string& after, int limit) const;
  absl::StatusOr<Piece> ReadOwn(const std::string& after, int limit) const;
  absl::Status FindUsers(std::vector<Listed>* tensors) const;
  using ByDigest = std::map<std::string, v1::StoredTensor*>;
  absl::Status NameBy(const std::string& user, const ByDigest& tensors) const;

  const absl::optional<std::string> tenant_;  // nullopt: of all
  const BlobStore& tensors_;
  JobStore* const jobs_;
};

absl::StatusOr<TensorPages::Piece> TensorPages::ReadStored(const std::string& after,
                                                           int limit) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<BlobFacts> blobs, tensors_.List(after, limit));
  Piece piece;
  piece.looked_at = static_cast<int>(blobs.size());
  if (!blobs.empty()) piece.last = blobs.back().sha256;
  for (BlobFacts& facts : blobs) piece.tensors.push_back({.facts = std::move(facts)});
  return piece;
}

// Times are the notes', never those of the store, which other tenants move.
absl::StatusOr<TensorPages::Piece> TensorPages::ReadOwn(const std::string& after, int limit) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<OwnTensor> own,
                             jobs_->ListOwnTensors(*tenant_, after, limit));
  std::vector<std::string> digests;
  digests.reserve(own.size());
  for (const OwnTensor& tensor : own) digests.push_back(tensor.digest);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<BlobFacts> stored, tensors_.LookAt(digests));
  std::map<std::string, int64_t> sizes;
  for (const BlobFacts& facts : stored) sizes[facts.sha256] = facts.size_bytes;
  Piece piece;
  piece.looked_at = static_cast<int>(own.size());
  if (!own.empty()) piece.last = own.back().digest;
  for (const OwnTensor& tensor : own) {
    const auto size = sizes.find(tensor.digest);
    if (size == sizes.end()) continue;
    piece.tensors.push_back({.facts = {.sha256 = tensor.digest,
                                       .size_bytes = size->second,
                                       .touched = tensor.noted.value_or(absl::UnixEpoch())},
                             .has_time = tensor.noted.has_value()});
  }
  return piece;
}

absl::Status TensorPages::FindUsers(std::vector<Listed>* tensors) const {
  if (jobs_ == nullptr) return absl::OkStatus();
  std::vector<std::string> digests;
  digests.reserve(tensors->size());
  for (const Listed& tensor : *tensors) digests.push_back(tensor.facts.sha256);
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorUsers users, jobs_->FindUsers(tenant_, digests));
  for (Listed& tensor : *tensors) {
    const auto user = users.find(tensor.facts.sha256);
    if (user != users.end()) tensor.user = user->second;
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> TensorPages::Read(int limit, bool unused, Place* place,
                                       std::vector<Listed>* page) const {
  const auto room = [&] { return limit - static_cast<int>(page->size()); };
  int looked_at = 0;
  while (room() > 0 && looked_at < kMostLookedAt) {
    const int asked = unused ? kAskedAtOnce : std::min(room(), kAskedAtOnce);
    ATTNPRUNE_ASSIGN_OR_RETURN(Piece piece, tenant_.has_value() ? ReadOwn(place->after, asked)
                                                                : ReadStored(place->after, asked));
    looked_at += piece.looked_at;
    ATTNPRUNE_RETURN_IF_ERROR(FindUsers(&piece.tensors));
    if (unused) std::erase_if(piece.tensors, [](const Listed& one) { return !one.user.empty(); });
    const auto size = static_cast<int>(piece.tensors.size());
    const int taken = std::min(room(), size);
    if (taken < size) piece.last = piece.tensors[static_cast<size_t>(taken) - 1].facts.sha256;
    page->insert(page->end(), std::make_move_iterator(piece.tensors.begin()),
                 std::make_move_iterator(piece.tensors.begin() + taken));
    if (!piece.last.empty()) place->after = piece.last;
    if (piece.looked_at < asked && taken == size) return false;
  }
  return true;
}

absl::Status TensorPages::Describe(const std::vector<Listed>& page,
                                   v1::ListTensorsResponse* response) const {
  std::map<std::string, ByDigest> by_user;
  for (const Listed& listed : page) {
    v1::StoredTensor* const tensor = response->add_tensors();
    tensor->mutable_tensor()->set_sha256(listed.facts.sha256);
    tensor->set_size_bytes(listed.facts.size_bytes);
    tensor->set_committed_bytes(listed.facts.size_bytes);
    if (listed.has_time) *tensor->mutable_time() = api::ToProto(listed.facts.touched);
    if (!listed.user.empty()) by_user[listed.user][listed.facts.sha256] = tensor;
  }
  for (const auto& [user, tensors] : by_user) ATTNPRUNE_RETURN_IF_ERROR(NameBy(user, tensors));
  return absl::OkStatus();
}

// A job that was deleted meanwhile refers to nothing.
absl::Status TensorPages::NameBy(const std::string& user, const ByDigest& tensors) const {
  const absl::StatusOr<JobRecord> record = jobs_->Get(user);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(record.status());
  const bool is_run = KindOf(user) == JobKind::kRun;
  for (const auto& [digest, tensor] : tensors) {
    tensor->set_used_by(is_run ? RunName(user) : JobName(user));
    if (!tensor->has_time()) *tensor->mutable_time() = api::ToProto(record->create_time);
  }
  const auto name = [&tensors](const std::string& path, const v1::TensorRef& ref) {
    const auto named = tensors.find(ref.sha256());
    if (named == tensors.end() || !named->second->used_as().empty()) return;
    *named->second->mutable_tensor() = ref;
    named->second->set_used_as(path);
  };
  if (is_run) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Run run, RunToProto(*record));
    ForEachTensorRef(run, name);
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Job job, api::ToProto(*record));
    ForEachTensorRef(job, name);
  }
  return absl::OkStatus();
}

void AddUpload(const UploadFacts& upload, v1::ListTensorsResponse* response) {
  v1::StoredTensor& tensor = *response->add_tensors();
  tensor.mutable_tensor()->set_sha256(upload.sha256);
  tensor.set_size_bytes(upload.size_bytes);
  tensor.set_committed_bytes(upload.received);
  tensor.set_upload_id(upload.upload_id);
  *tensor.mutable_time() = api::ToProto(upload.touched);
}

void Visit(const Message& message, const std::string& path,
           absl::FunctionRef<void(const std::string&, const v1::TensorRef&)> visit) {
  if (message.GetDescriptor() == v1::TensorRef::descriptor()) {
    return visit(path, static_cast<const v1::TensorRef&>(message));
  }
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* const field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
    const std::string inner = absl::StrCat(path, path.empty() ? "" : ".", field->name());
    if (!field->is_repeated()) {
      Visit(reflection.GetMessage(message, field), inner, visit);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      Visit(reflection.GetRepeatedMessage(message, field, i), absl::StrCat(inner, "[", i, "]"),
            visit);
    }
  }
}

}  // namespace

void ForEachTensorRef(const Message& message,
                      absl::FunctionRef<void(const std::string&, const v1::TensorRef&)> visit) {
  Visit(message, "", visit);
}

absl::StatusOr<v1::ListTensorsResponse> ListTensors(const access::Caller& caller,
                                                    const v1::ListTensorsRequest& request,
                                                    const BlobStore& tensors, JobStore* jobs) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int page_size, CheckPageSize(request.page_size()));
  ATTNPRUNE_ASSIGN_OR_RETURN(Place place, ParseToken(request.page_token(), request.unused()));
  const TensorPages pages(caller, tensors, jobs);
  v1::ListTensorsResponse response;
  int room = page_size;
  if (!place.in_tensors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<UploadFacts> uploads,
                               pages.Uploads(place.after, page_size));
    for (const UploadFacts& upload : uploads) AddUpload(upload, &response);
    room -= static_cast<int>(uploads.size());
    if (room == 0) {
      place.after = uploads.back().Key();
      response.set_next_page_token(TokenOf(place, request.unused()));
      return response;
    }
    place = {.in_tensors = true, .after = ""};
  }
  std::vector<Listed> page;
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, pages.Read(room, request.unused(), &place, &page));
  ATTNPRUNE_RETURN_IF_ERROR(pages.Describe(page, &response));
  if (more) response.set_next_page_token(TokenOf(place, request.unused()));
  return response;
}

}  // namespace attnprune::api
