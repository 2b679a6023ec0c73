#include "server/grpc/tensor_service.h"

#include <grpcpp/grpcpp.h>

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
#include "core/base/status_macros.h"
#include "server/grpc/download_reactor.h"
#include "server/grpc/status.h"
#include "server/grpc/tensor_backend.h"

namespace attnprune::rpc {
namespace {

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
  UploadReactor(TensorBackend* backend, grpc::CallbackServerContext* context, CallRecord record,
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

  TensorBackend* const backend_;
  const std::shared_ptr<StallTimer> stall_;
  CallRecord record_;  // the strand's
  v1::UploadTensorResponse* const response_;
  v1::UploadTensorRequest request_;  // the read's, or OnReadDone's
  std::unique_ptr<Upload> upload_;   // the strand's
  const asio::strand<asio::thread_pool::executor_type> strand_;
  asio::steady_timer pause_;  // the strand's
};

// Downloads are sent as DownloadMessages.
using ServiceBase = v1::TensorService::WithCallbackMethod_FindMissingTensors<
    v1::TensorService::WithCallbackMethod_UploadTensor<
        v1::TensorService::WithCallbackMethod_QueryUpload<
            v1::TensorService::WithCallbackMethod_ListTensors<
                v1::TensorService::WithRawCallbackMethod_DownloadTensor<
                    v1::TensorService::Service>>>>>;

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

  grpc::ServerUnaryReactor* ListTensors(grpc::CallbackServerContext* context,
                                        const v1::ListTensorsRequest* request,
                                        v1::ListTensorsResponse* response) override {
    return Answer("ListTensors", context,
                  [this, request, response](const access::Caller& caller) -> absl::Status {
                    ATTNPRUNE_ASSIGN_OR_RETURN(*response,
                                               backend_.tensors->ListTensors(caller, *request));
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
    return NewDownload(&backend_, context,
                       RecordOf("DownloadTensor", context, CallRecord::Kind::kStream), *request);
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

  TensorBackend backend_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewTensorService(const TensorServiceOptions& options,
                                                const access::Gate* gate,
                                                const api::TensorApi* tensors) {
  return std::make_unique<TensorServiceImpl>(options, gate, tensors);
}

}  // namespace attnprune::rpc
