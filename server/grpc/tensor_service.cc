#include "server/grpc/tensor_service.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "core/base/field_error.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "server/grpc/download_message.h"
#include "server/grpc/fair_share.h"
#include "server/grpc/status.h"

namespace attnprune::rpc {

namespace asio = boost::asio;

namespace {

// The calls that still use a service. Thread-safe.
class Calls {
 public:
  void Begin() {
    MutexLock lock(&mutex_);
    ++running_;
  }
  void End() {
    MutexLock lock(&mutex_);
    if (--running_ == 0) none_.NotifyAll();
  }
  void AwaitNone() {
    MutexLock lock(&mutex_);
    none_.Wait(&mutex_, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return running_ == 0; });
  }

 private:
  Mutex mutex_;
  CondVar none_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What every call works with; outlives the calls.
struct Backend {
  TensorServiceOptions options;
  const api::TensorApi* tensors;
  CallPort port;
  Calls calls;
  FairShare budget;
  asio::thread_pool io;
};

// Cancels a call whose message does not come, or is not taken, in time. Thread-safe; shared with
// the timer, which may outlive the call.
class StallTimer : public std::enable_shared_from_this<StallTimer> {
 public:
  StallTimer(asio::thread_pool& io, grpc::CallbackServerContext* call) : timer_(io), call_(call) {}

  void Start(absl::Duration limit) {
    const MutexLock lock(&mutex_);
    const int64_t message = ++message_;
    timer_.expires_after(absl::ToChronoNanoseconds(limit));
    timer_.async_wait([self = shared_from_this(), message](const boost::system::error_code& error) {
      if (!error) self->OnLate(message);
    });
  }
  void Stop() {
    const MutexLock lock(&mutex_);
    ++message_;
    timer_.cancel();
  }
  void ForgetCall() {
    const MutexLock lock(&mutex_);
    call_ = nullptr;
    timer_.cancel();
  }

 private:
  void OnLate(int64_t message) {
    const MutexLock lock(&mutex_);
    if (call_ != nullptr && message == message_) call_->TryCancel();
  }

  Mutex mutex_;
  asio::steady_timer timer_ ABSL_GUARDED_BY(mutex_);
  grpc::CallbackServerContext* call_ ABSL_GUARDED_BY(mutex_);
  int64_t message_ ABSL_GUARDED_BY(mutex_) = 0;
};

std::string NameOf(v1::DType dtype) {
  return v1::DType_IsValid(dtype) ? v1::DType_Name(dtype) : absl::StrCat(static_cast<int>(dtype));
}

UploadSpec ToSpec(const v1::UploadHeader& header) {
  return {.upload_id = header.upload_id(),
          .sha256 = header.sha256(),
          .size_bytes = header.size_bytes(),
          .dtype = NameOf(header.dtype())};
}

// One UploadTensor stream. At any time either a read is on its way or a task is posted that will
// start the next one or finish the call; a task starts the next read as soon as its chunk is
// written, so that a chunk is hashed while the next arrives. What a kill of the server loses is one
// chunk.
class UploadReactor final : public grpc::ServerReadReactor<v1::UploadTensorRequest> {
 public:
  UploadReactor(Backend* backend, grpc::CallbackServerContext* context, CallRecord record,
                v1::UploadTensorResponse* response)
      : backend_(backend),
        stall_(std::make_shared<StallTimer>(backend->io, context)),
        record_(std::move(record)),
        response_(response),
        strand_(backend->io.get_executor()),
        pause_(strand_) {
    backend_->calls.Begin();
    if (record_.caller().ok()) {
      Read();
    } else {
      End(record_.caller().status());
    }
  }

  // One that waits for its turn to be read notices now.
  void OnCancel() override {
    asio::post(strand_, [this] { pause_.cancel(); });
  }

  void OnReadDone(bool ok) override {
    stall_->Stop();
    if (!ok) {
      asio::post(strand_, [this] { EndOfData(); });
    } else if (request_.has_data()) {
      asio::post(strand_, [this, data = std::move(*request_.mutable_data())] { OnData(data); });
    } else {
      asio::post(strand_, [this, request = request_] { OnHeader(request); });
    }
  }

  // Behind what OnCancel may have posted.
  void OnDone() override {
    stall_->ForgetCall();
    asio::post(strand_, [this, calls = &backend_->calls] {
      delete this;
      calls->End();
    });
  }

 private:
  void Read() {
    stall_->Start(backend_->options.upload_stall);
    StartRead(&request_);
  }

  void OnHeader(const v1::UploadTensorRequest& request) {
    const absl::Status status = Begin(request);
    if (!status.ok()) return End(status);
    if (upload_->already_there()) return EndUpload();
    Read();
  }

  absl::Status Begin(const v1::UploadTensorRequest& request) {
    if (!request.has_header()) return FieldError("message", "must be header or data, got neither");
    if (upload_ != nullptr) return FieldError("header", "must be in the first message only");
    const v1::UploadHeader& header = request.header();
    record_.SetTensor(header.sha256());
    ATTNPRUNE_ASSIGN_OR_RETURN(upload_, backend_->tensors->StartUpload(
                                            *record_.caller(), ToSpec(header), header.offset()));
    return absl::OkStatus();
  }

  void OnData(const std::string& data) {
    if (absl::Status status = CheckData(data); !status.ok()) return End(status);
    if (TransferMetrics* const metrics = backend_->options.metrics; metrics != nullptr) {
      metrics->uploaded.Add(static_cast<int64_t>(data.size()));
    }
    const absl::Duration wait = WaitAfter(static_cast<int64_t>(data.size()));
    const absl::Status status = backend_->tensors->Append(*record_.caller(), *upload_, data,
                                                          [this, wait] { ReadAfter(wait); });
    if (!status.ok()) End(status);  // then no read was started
  }

  absl::Duration WaitAfter(int64_t bytes) const {
    api::UploadPace* const pace = backend_->options.pace;
    return pace == nullptr ? absl::ZeroDuration() : pace->After(record_.caller()->tenant, bytes);
  }

  // Meanwhile the client's flow control holds it back.
  void ReadAfter(absl::Duration wait) {
    if (wait == absl::ZeroDuration()) return Read();
    pause_.expires_after(absl::ToChronoNanoseconds(wait));
    pause_.async_wait([this](const boost::system::error_code&) { Read(); });
  }

  absl::Status CheckData(const std::string& data) const {
    if (upload_ == nullptr) return FieldError("header", "must come first, got data");
    if (data.size() <= static_cast<size_t>(backend_->options.max_chunk_bytes)) {
      return absl::OkStatus();
    }
    return FieldError("data",
                      absl::StrCat("must be at most max_chunk_bytes = ",
                                   backend_->options.max_chunk_bytes, ", got ", data.size()));
  }

  // The client has sent all it wanted to, or is gone: what is complete counts either way.
  void EndOfData() {
    if (upload_ == nullptr) return End(FieldError("header", "must come first, got nothing"));
    EndUpload();
  }

  void EndUpload() {
    const absl::Status status = backend_->tensors->FinishUpload(*record_.caller(), *upload_);
    if (!status.ok()) return End(status);
    response_->set_sha256(upload_->spec().sha256);
    response_->set_size_bytes(upload_->spec().size_bytes);
    response_->set_already_there(upload_->already_there());
    End(absl::OkStatus());
  }

  // The last thing that a task does.
  void End(const absl::Status& status) {
    upload_.reset();  // so that a client that hears of the end finds the upload free
    const grpc::Status end = ToGrpc(status);
    record_.Finish(end);
    Finish(end);
  }

  Backend* const backend_;
  const std::shared_ptr<StallTimer> stall_;
  CallRecord record_;  // the strand's
  v1::UploadTensorResponse* const response_;
  v1::UploadTensorRequest request_;  // the read's, or OnReadDone's
  std::unique_ptr<Upload> upload_;   // the strand's
  const asio::strand<asio::thread_pool::executor_type> strand_;
  asio::steady_timer pause_;  // the strand's
};

// One DownloadTensor stream: a write is on its way, or a task is posted that starts the next, or
// the tensor's bytes are awaited, which takes neither a thread nor memory. A call that is cancelled
// awaits no more.
class DownloadReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  DownloadReactor(Backend* backend, grpc::CallbackServerContext* context, CallRecord record,
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
    if (awaits_bytes_.exchange(false))
      asio::post(strand_, [this] { End(grpc::Status::CANCELLED); });
  }

  void OnDone() override {
    stall_->ForgetCall();
    Calls& calls = backend_->calls;
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

  void AwaitTurn() {
    backend_->budget.Acquire(record_.caller()->tenant,
                             [this] { asio::dispatch(strand_, [this] { SendNext(); }); });
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

  Backend* const backend_;
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

// Downloads are sent as DownloadMessages.
using ServiceBase = v1::TensorService::WithCallbackMethod_FindMissingTensors<
    v1::TensorService::WithCallbackMethod_UploadTensor<
        v1::TensorService::WithCallbackMethod_QueryUpload<
            v1::TensorService::WithRawCallbackMethod_DownloadTensor<v1::TensorService::Service>>>>;

class TensorServiceImpl final : public ServiceBase {
 public:
  TensorServiceImpl(const TensorServiceOptions& options, const access::Gate* gate,
                    const api::TensorApi* tensors)
      : backend_{.options = options,
                 .tensors = tensors,
                 .port = {gate, options.on_call, options.connections},
                 .calls = {},
                 .budget = FairShare(options.download_chunks),
                 .io = asio::thread_pool(static_cast<size_t>(options.io_threads))} {}

  ~TensorServiceImpl() override {
    backend_.calls.AwaitNone();
    backend_.io.join();
  }

  grpc::ServerUnaryReactor* FindMissingTensors(grpc::CallbackServerContext* context,
                                               const v1::FindMissingTensorsRequest* request,
                                               v1::FindMissingTensorsResponse* response) override {
    return Answer("FindMissingTensors", context,
                  [this, request, response](const access::Caller& caller) {
                    return FindMissing(caller, *request, response);
                  });
  }

  grpc::ServerUnaryReactor* QueryUpload(grpc::CallbackServerContext* context,
                                        const v1::QueryUploadRequest* request,
                                        v1::QueryUploadResponse* response) override {
    return Answer("QueryUpload", context,
                  [this, request, response](const access::Caller& caller) -> absl::Status {
                    ATTNPRUNE_ASSIGN_OR_RETURN(
                        const int64_t bytes,
                        backend_.tensors->CommittedBytes(caller, request->upload_id()));
                    response->set_committed_bytes(bytes);
                    return absl::OkStatus();
                  });
  }

  grpc::ServerReadReactor<v1::UploadTensorRequest>* UploadTensor(
      grpc::CallbackServerContext* context, v1::UploadTensorResponse* response) override {
    return new UploadReactor(
        &backend_, context, RecordOf("UploadTensor", context, CallRecord::Kind::kStream), response);
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* DownloadTensor(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) override {
    return new DownloadReactor(&backend_, context,
                               RecordOf("DownloadTensor", context, CallRecord::Kind::kStream),
                               ParseDownload(*request));
  }

 private:
  CallRecord RecordOf(const char* method, grpc::CallbackServerContext* context,
                      CallRecord::Kind kind = CallRecord::Kind::kUnary) {
    return CallRecord(backend_.port, method, context, kind);
  }

  // Answers a unary call on a thread that may wait for files.
  template <typename Handler>
  grpc::ServerUnaryReactor* Answer(const char* method, grpc::CallbackServerContext* context,
                                   Handler handler) {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    backend_.calls.Begin();
    asio::post(backend_.io, [this, reactor, handler, record = RecordOf(method, context)] {
      const absl::StatusOr<access::Caller>& caller = record.caller();
      const grpc::Status status = ToGrpc(caller.ok() ? handler(*caller) : caller.status());
      record.Finish(status);
      reactor->Finish(status);
      backend_.calls.End();
    });
    return reactor;
  }

  absl::Status FindMissing(const access::Caller& caller,
                           const v1::FindMissingTensorsRequest& request,
                           v1::FindMissingTensorsResponse* response) {
    ATTNPRUNE_RETURN_IF_ERROR(api::CheckDigestCount(request.sha256_size()));
    const std::vector<std::string> digests(request.sha256().begin(), request.sha256().end());
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                               backend_.tensors->FindMissing(caller, digests));
    response->mutable_missing()->Add(missing.begin(), missing.end());
    return absl::OkStatus();
  }

  Backend backend_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewTensorService(const TensorServiceOptions& options,
                                                const access::Gate* gate,
                                                const api::TensorApi* tensors) {
  return std::make_unique<TensorServiceImpl>(options, gate, tensors);
}

}  // namespace attnprune::rpc
