#include "server/web/upload_call.h"

#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"

namespace attnprune::web {
namespace {

using http::BodyPiece;

absl::Status BrokeOff() { return FieldError("body", "must be sent to its end, but broke off"); }

// One upload. The next piece is asked for as soon as one is written, so that a piece is hashed
// while the next arrives; the strand keeps their order. Kept alive by what it waits for.
class UploadCall : public std::enable_shared_from_this<UploadCall> {
 public:
  using Done = std::function<void(const absl::StatusOr<v1::UploadTensorResponse>&)>;

  UploadCall(const UploadContext& context, access::Caller caller,
             std::shared_ptr<http::BodyReader> body, Done done)
      : context_(context),
        caller_(std::move(caller)),
        body_(std::move(body)),
        done_(std::move(done)),
        strand_(context.io->get_executor()) {}

  void Begin(const UploadSpec& spec, int64_t offset) {
    absl::StatusOr<std::unique_ptr<Upload>> upload =
        context_.tensors->StartUpload(caller_, spec, offset);
    if (!upload.ok()) return End(upload.status());
    upload_ = *std::move(upload);
    if (upload_->already_there()) return Complete();
    Ask();
  }

 private:
  void Ask() {
    body_->Read([self = shared_from_this()](BodyPiece piece) {
      boost::asio::post(self->strand_, [self, piece = std::move(piece)] { self->OnPiece(piece); });
    });
  }

  void OnPiece(const BodyPiece& piece) {
    const bool more = piece.then == BodyPiece::Then::kMore;
    const absl::Duration wait = Count(piece.bytes.size());
    const absl::Status status = context_.tensors->Append(caller_, *upload_, piece.bytes, [&] {
      if (more) AskAfter(wait);
    });
    if (!status.ok()) return End(status);  // then nothing was asked for
    if (more) return;
    if (piece.then == BodyPiece::Then::kBroken) return End(BrokeOff());
    Complete();
  }

  // How long to wait before the next.
  absl::Duration Count(size_t size) const {
    const auto bytes = static_cast<int64_t>(size);
    if (context_.metrics != nullptr) context_.metrics->uploaded.Add(bytes);
    if (context_.pace == nullptr) return absl::ZeroDuration();
    return context_.pace->After(caller_.tenant, bytes);
  }

  // Meanwhile TCP's flow control holds the client back.
  void AskAfter(absl::Duration wait) {
    if (wait == absl::ZeroDuration()) return Ask();
    context_.loop->After(wait, [self = shared_from_this()] { self->Ask(); });
  }

  void Complete() {
    const absl::Status status = context_.tensors->FinishUpload(caller_, *upload_);
    if (!status.ok()) return End(status);
    v1::UploadTensorResponse response;
    response.set_sha256(upload_->spec().sha256);
    response.set_size_bytes(upload_->spec().size_bytes);
    response.set_already_there(upload_->already_there());
    End(response);
  }

  // A client that hears of the end finds the upload free.
  void End(const absl::StatusOr<v1::UploadTensorResponse>& response) {
    upload_.reset();
    done_(response);
  }

  const UploadContext context_;
  const access::Caller caller_;
  const std::shared_ptr<http::BodyReader> body_;
  const Done done_;
  const boost::asio::strand<boost::asio::thread_pool::executor_type> strand_;
  std::unique_ptr<Upload> upload_;
};

void ReadMore(const std::shared_ptr<http::BodyReader>& body,
              const std::shared_ptr<std::string>& text, size_t limit,
              const std::function<void(absl::StatusOr<std::string>)>& done) {
  body->Read([body, text, limit, done](const BodyPiece& piece) {
    *text += piece.bytes;
    if (text->size() > limit) {
      return done(
          absl::OutOfRangeError(absl::StrCat("the body must be at most ", limit, " bytes")));
    }
    if (piece.then == BodyPiece::Then::kBroken) return done(BrokeOff());
    if (piece.then == BodyPiece::Then::kEnd) return done(std::move(*text));
    ReadMore(body, text, limit, done);
  });
}

}  // namespace

void StartUpload(const UploadContext& context, const access::Caller& caller, const UploadSpec& spec,
                 int64_t offset, std::shared_ptr<http::BodyReader> body,
                 std::function<void(const absl::StatusOr<v1::UploadTensorResponse>&)> done) {
  std::make_shared<UploadCall>(context, caller, std::move(body), std::move(done))
      ->Begin(spec, offset);
}

void ReadBody(const std::shared_ptr<http::BodyReader>& body, size_t limit,
              const std::function<void(absl::StatusOr<std::string>)>& done) {
  ReadMore(body, std::make_shared<std::string>(), limit, done);
}

}  // namespace attnprune::web
