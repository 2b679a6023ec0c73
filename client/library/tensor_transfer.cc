// Uploads and downloads that go on where a broken connection left them.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/library/connection.h"
#include "core/base/status_macros.h"
#include "core/io/background_sha256.h"

namespace attnprune::client {
namespace {

constexpr size_t kMaxDigests = 10'000;            // of one FindMissingTensors
constexpr int64_t kMostAhead = int64_t{4} << 30;  // taken because a server says that it will come

absl::Duration TransferTimeout(const ClientOptions& options, int64_t bytes) {
  return options.call_timeout + options.timeout_per_mib * (static_cast<double>(bytes) / 0x1p20);
}

// All uploads of one call, one after the other.
class Uploader {
 public:
  Uploader(Connection& connection, const UploadObserver& observer)
      : connection_(connection), observer_(observer) {}

  absl::StatusOr<UploadProgress> Run(absl::Span<const LocalTensor> tensors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<const LocalTensor*> missing, Missing(tensors));
    if (missing.empty()) return progress_;
    ATTNPRUNE_RETURN_IF_ERROR(ReadLimits());
    for (const LocalTensor* tensor : missing) {
      progress_.total_bytes += static_cast<int64_t>(tensor->bytes.size());
    }
    Report();
    for (const LocalTensor* tensor : missing) ATTNPRUNE_RETURN_IF_ERROR(Upload(*tensor));
    return progress_;
  }

 private:
  void Report() {
    if (observer_) observer_(progress_);
  }

  // Each tensor that the server lacks, once.
  absl::StatusOr<std::vector<const LocalTensor*>> Missing(absl::Span<const LocalTensor> tensors) {
    std::map<std::string, const LocalTensor*> by_digest;
    for (const LocalTensor& tensor : tensors) by_digest.emplace(tensor.ref.sha256(), &tensor);
    std::vector<const LocalTensor*> missing;
    v1::FindMissingTensorsRequest request;
    size_t seen = 0;
    for (const auto& [digest, tensor] : by_digest) {
      request.add_sha256(digest);
      ++seen;
      if (seen % kMaxDigests != 0 && seen != by_digest.size()) continue;
      ATTNPRUNE_ASSIGN_OR_RETURN(
          const v1::FindMissingTensorsResponse response,
          connection_.Call(connection_.tensors(), &v1::TensorService::Stub::FindMissingTensors,
                           request));
      for (const std::string& name : response.missing()) missing.push_back(by_digest.at(name));
      request.Clear();
    }
    return missing;
  }

  absl::Status ReadLimits() {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const v1::ServerInfo info,
        connection_.Call(connection_.jobs(), &v1::PruneService::Stub::GetServerInfo,
                         v1::GetServerInfoRequest()));
    chunk_bytes_ = connection_.options().chunk_bytes;
    if (info.limits().max_chunk_bytes() > 0) {
      chunk_bytes_ = std::min(chunk_bytes_, info.limits().max_chunk_bytes());
    }
    return absl::OkStatus();
  }

  // The digest names the upload too, so that another process can go on with it.
  absl::Status Upload(const LocalTensor& tensor) {
    Backoff backoff = connection_.NewBackoff(connection_.options().retry);
    int64_t furthest = -1;
    while (true) {
      absl::StatusOr<int64_t> committed = Committed(tensor);
      absl::Status status = committed.status();
      if (status.ok()) {
        if (*committed > furthest) backoff.Succeeded();  // what was sent has got through
        furthest = std::max(furthest, *committed);
        status = Send(tensor, *committed);
      }
      if (status.ok() || !MayGoOn(status)) return status;
      ATTNPRUNE_RETURN_IF_ERROR(connection_.WaitToRetry(status, backoff));
    }
  }

  // ABORTED: another stream, maybe our own broken one, still writes this upload. OUT_OF_RANGE: it
  // wrote after we asked how far it was. Both are looked at again, from where the upload stands.
  static bool MayGoOn(const absl::Status& status) {
    return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsOutOfRange(status);
  }

  absl::StatusOr<int64_t> Committed(const LocalTensor& tensor) {
    v1::QueryUploadRequest request;
    request.set_upload_id(tensor.ref.sha256());
    v1::QueryUploadResponse response;
    ATTNPRUNE_RETURN_IF_ERROR(
        connection_.Try(connection_.options().call_timeout, [&](grpc::ClientContext& context) {
          return FromGrpc(connection_.tensors().QueryUpload(&context, request, &response));
        }));
    return response.committed_bytes();
  }

  absl::Status Send(const LocalTensor& tensor, int64_t offset) {
    const int64_t left = static_cast<int64_t>(tensor.bytes.size()) - offset;
    return connection_.Try(
        TransferTimeout(connection_.options(), left),
        [&](grpc::ClientContext& context) { return FromGrpc(SendFrom(context, tensor, offset)); });
  }

  grpc::Status SendFrom(grpc::ClientContext& context, const LocalTensor& tensor, int64_t offset) {
    v1::UploadTensorResponse response;
    const auto stream = connection_.tensors().UploadTensor(&context, &response);
    v1::UploadTensorRequest message;
    v1::UploadHeader& header = *message.mutable_header();
    header.set_upload_id(tensor.ref.sha256());
    header.set_sha256(tensor.ref.sha256());
    header.set_size_bytes(static_cast<int64_t>(tensor.bytes.size()));
    header.set_offset(offset);
    header.set_dtype(tensor.ref.dtype());
    bool open = stream->Write(message);  // false: the server has ended the call; Finish says why
    const auto size = static_cast<int64_t>(tensor.bytes.size());
    while (open && offset < size) {
      const int64_t bytes = std::min(chunk_bytes_, size - offset);
      message.set_data(tensor.bytes.data() + offset, static_cast<size_t>(bytes));
      open = stream->Write(message);
      if (!open) break;
      offset += bytes;
      progress_.sent_bytes += bytes;
      Report();
    }
    if (open) stream->WritesDone();
    return stream->Finish();
  }

  Connection& connection_;
  const UploadObserver& observer_;
  UploadProgress progress_;
  int64_t chunk_bytes_ = 0;
};

// Appends to *bytes whatever comes, from where they end, and hashes it while more is on its way.
absl::Status ReceiveRest(Connection& connection, const std::string& sha256, std::string* bytes,
                         BackgroundSha256* hash) {
  v1::DownloadTensorRequest request;
  request.set_sha256(sha256);
  request.set_offset(static_cast<int64_t>(bytes->size()));
  // The size is not known before the end; keepalive finds a dead peer.
  return connection.Try(absl::InfiniteDuration(), [&](grpc::ClientContext& context) {
    const auto stream = connection.tensors().DownloadTensor(&context, request);
    v1::DownloadTensorResponse message;
    while (stream->Read(&message)) {
      if (message.size_bytes() <= kMostAhead) {
        bytes->reserve(static_cast<size_t>(std::max<int64_t>(0, message.size_bytes())));
      }
      bytes->append(message.data());
      *message.mutable_data() = hash->Update(std::move(*message.mutable_data()));
    }
    return FromGrpc(stream->Finish());
  });
}

}  // namespace

absl::StatusOr<UploadProgress> Client::Upload(absl::Span<const LocalTensor> tensors,
                                              const UploadObserver& observer) {
  return Uploader(*connection_, observer).Run(tensors);
}

absl::StatusOr<std::string> Client::Download(const std::string& sha256) {
  Backoff backoff = connection_->NewBackoff(connection_->options().retry);
  std::string bytes;
  BackgroundSha256 hash;
  while (true) {
    const size_t before = bytes.size();
    const absl::Status status = ReceiveRest(*connection_, sha256, &bytes, &hash);
    if (status.ok()) break;
    if (!absl::IsUnavailable(status)) return status;
    if (bytes.size() > before) backoff.Succeeded();
    ATTNPRUNE_RETURN_IF_ERROR(connection_->WaitToRetry(status, backoff));
  }
  if (hash.Finish() == sha256) return bytes;
  return absl::DataLossError(absl::StrCat("the server's tensor ", sha256, " arrived as ",
                                          bytes.size(), " bytes of another digest"));
}

}  // namespace attnprune::client
