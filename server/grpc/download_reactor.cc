#include "server/grpc/download_reactor.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/grpc/download_message.h"
#include "server/grpc/status.h"

namespace attnprune::rpc {
namespace {

// One DownloadTensor stream: a write is on its way, or a task is posted that starts the next, or
// the tensor's bytes are awaited, which takes neither a thread nor memory. A call that is cancelled
// awaits no more.
class DownloadReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  DownloadReactor(TensorBackend* backend, grpc::CallbackServerContext* context, CallRecord record,
                  absl::StatusOr<v1::DownloadTensorRequest> request)
      : backend_(backend),
        context_(context),
        stall_(std::make_shared<StallTimer>(backend->io, context)),
        record_(std::move(record)),
        request_(std::move(request)),
        strand_(backend->io.get_executor()) {
    if (request_.ok()) record_.SetTensor(request_->sha256());
    backend_->calls.Begin();
    asio::post(strand_, [this] { Begin(); });
  }

  void OnWriteDone(bool ok) override {
    stall_->Stop();
    message_.Clear();  // one that waits for its turn holds no memory
    backend_->budget.Release(record_.caller()->tenant);
    if (!ok) return End(grpc::Status::CANCELLED);
    asio::post(strand_, [this] { AwaitBytes(); });
  }

  void OnCancel() override {
    if (!awaits_bytes_.exchange(false)) return;
    asio::post(strand_, [this] { End(grpc::Status::CANCELLED); });
  }

  void OnDone() override {
    stall_->ForgetCall();
    RunningCalls& calls = backend_->calls;
    delete this;
    calls.End();
  }

 private:
  void Begin() {
    if (absl::Status status = Open(); !status.ok()) return End(ToGrpc(status));
    AwaitBytes();
  }

  // Who takes awaits_bytes_ back goes on: the bytes, or OnCancel, which may have come before.
  void AwaitBytes() {
    if (offset_ == tensor_->size()) return End(grpc::Status::OK);
    awaits_bytes_ = true;
    if (context_->IsCancelled()) return OnCancel();
    tensor_->Await(offset_, NextEnd(), BlobReader::Until::kThere, [this] {
      if (awaits_bytes_.exchange(false)) AwaitTurn();
    });
  }

  int64_t NextEnd() const {
    return std::min(offset_ + backend_->options.download_chunk_bytes, tensor_->size());
  }

  // Posts: whoever tells that bytes are there may hold a lock that SendNext takes.
  void AwaitTurn() {
    backend_->budget.Acquire(record_.caller()->tenant,
                             [this] { asio::post(strand_, [this] { SendNext(); }); });
  }

  absl::Status Open() {
    ATTNPRUNE_ASSIGN_OR_RETURN(const access::Caller caller, record_.caller());
    ATTNPRUNE_RETURN_IF_ERROR(request_.status());
    ATTNPRUNE_RETURN_IF_ERROR(CheckSha256("sha256", request_->sha256()));
    offset_ = request_->offset();
    if (offset_ < 0) {
      return MustError("offset", "be at least 0", offset_);
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(tensor_,
                               backend_->tensors->OpenForReading(caller, request_->sha256()));
    if (offset_ <= tensor_->size()) return absl::OkStatus();
    return WithField(absl::OutOfRangeError(absl::StrCat("offset must be at most ", tensor_->size(),
                                                        ", the tensor's size, got ", offset_)),
                     "offset");
  }

  void SendNext() {
    if (context_->IsCancelled()) return GiveUp(grpc::Status::CANCELLED);
    const int64_t bytes = NextEnd() - offset_;
    const bool first = offset_ == request_->offset();
    DownloadMessage next = NewDownloadMessage(first ? tensor_->size() : 0, bytes);
    const absl::Status status = tensor_->ReadAt(offset_, next.data);
    if (!status.ok()) return GiveUp(ToGrpc(status));
    offset_ += bytes;
    message_.Swap(&next.message);
    if (TransferMetrics* const metrics = backend_->options.metrics; metrics != nullptr) {
      metrics->downloaded.Add(bytes);
    }
    stall_->Start(backend_->options.download_stall);
    StartWrite(&message_);
  }

  void GiveUp(const grpc::Status& status) {
    backend_->budget.Release(record_.caller()->tenant);
    End(status);
  }

  void End(const grpc::Status& status) {
    record_.Finish(status);
    Finish(status);
  }

  TensorBackend* const backend_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<StallTimer> stall_;
  CallRecord record_;
  const absl::StatusOr<v1::DownloadTensorRequest> request_;
  const asio::strand<asio::thread_pool::executor_type> strand_;
  std::atomic<bool> awaits_bytes_{false};  // outlives tensor_, which may look at it
  std::unique_ptr<BlobReader> tensor_;
  int64_t offset_ = 0;  // of what is sent next
  grpc::ByteBuffer message_;
};

absl::StatusOr<v1::DownloadTensorRequest> ParseDownload(const grpc::ByteBuffer& bytes) {
  grpc::ByteBuffer taken = bytes;
  v1::DownloadTensorRequest request;
  const grpc::Status status =
      grpc::SerializationTraits<v1::DownloadTensorRequest>::Deserialize(&taken, &request);
  if (status.ok()) return request;
  return absl::InvalidArgumentError("must be a DownloadTensorRequest");
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* NewDownload(TensorBackend* backend,
                                                        grpc::CallbackServerContext* context,
                                                        CallRecord record,
                                                        const grpc::ByteBuffer& request) {
  return new DownloadReactor(backend, context, std::move(record), ParseDownload(request));
}

}  // namespace attnprune::rpc
