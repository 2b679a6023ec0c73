#include "server/objects/s3_objects.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "server/objects/s3_http.h"
#include "server/objects/s3_xml.h"

namespace attnprune {
namespace {

constexpr int64_t kS3PartBytes = int64_t{8} << 20;  // S3 takes no less than 5 MiB
constexpr int64_t kMostParts = 10'000;
constexpr absl::Duration kShort = absl::Seconds(15);  // of requests without a tensor's bytes
constexpr absl::Duration kCheckAgain = absl::Seconds(5);

// Of a query: what is no letter, digit, '-', '.', '_' or '~' as %XX.
std::string Escaped(absl::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' ||
                       c == '_' || c == '~';
    if (plain) {
      escaped.push_back(c);
    } else {
      absl::StrAppend(&escaped, "%", absl::AsciiStrToUpper(absl::BytesToHexString({&c, 1})));
    }
  }
  return escaped;
}

class S3Objects final : public ObjectPlace {
 public:
  S3Objects(const BlobsUrl& url, S3Credentials credentials)
      : prefix_(url.prefix.empty() ? "" : absl::StrCat(url.prefix, "/")),
        http_(url, std::move(credentials)) {}

  absl::Status Probe(int tries);

  const std::string& display() const override { return http_.display(); }
  absl::Status Put(const std::string& name, Pieces pieces) override;
  absl::StatusOr<int64_t> SizeOf(const std::string& name) override;
  absl::Status Read(const std::string& name,
                    absl::FunctionRef<absl::Status(absl::Span<const char>)> visit) override;
  absl::Status Remove(const std::string& name) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override;
  int64_t PartBytes(int64_t size) const override;
  absl::StatusOr<std::string> BeginParts(const std::string& name) override;
  absl::StatusOr<std::string> PutPart(const std::string& name, const std::string& writing, int part,
                                      int64_t offset, Pieces pieces) override;
  absl::Status CompleteParts(const std::string& name, const std::string& writing,
                             absl::Span<const std::string> parts) override;
  absl::Status AbandonParts(const std::string& name, const std::string& writing) override;
  absl::Status Check() override;
  void Stop() override { http_.Stop(); }

 private:
  const std::string prefix_;
  S3Http http_;
  Mutex mutex_;
  absl::Status checked_ ABSL_GUARDED_BY(mutex_);
  absl::Time check_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

absl::Status S3Objects::Put(const std::string& name, Pieces pieces) {
  return http_.Send({.method = S3Method::kPut, .name = name, .body = pieces}).status();
}

absl::StatusOr<int64_t> S3Objects::SizeOf(const std::string& name) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const S3Answer answer,
      http_.Send({.method = S3Method::kHead, .name = name, .limit = kShort}));
  if (answer.length >= 0) return answer.length;
  return absl::InternalError(absl::StrCat("blobs: ", display(), " tells no size of ", name));
}

absl::Status S3Objects::Read(const std::string& name,
                             absl::FunctionRef<absl::Status(absl::Span<const char>)> visit) {
  return http_
      .Send({.method = S3Method::kGet,
             .name = name,
             .sink = [&](absl::Span<const char> bytes) { return visit(bytes); }})
      .status();
}

absl::Status S3Objects::Remove(const std::string& name) {
  const absl::Status status =
      http_.Send({.method = S3Method::kDelete, .name = name, .tries = 2, .limit = kShort}).status();
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<std::vector<std::string>> S3Objects::List(const std::string& folder) {
  const std::string below = absl::StrCat(prefix_, folder, "/");
  std::vector<std::string> names;
  std::string token;
  do {
    const std::string query =
        absl::StrCat(token.empty() ? "" : absl::StrCat("continuation-token=", Escaped(token), "&"),
                     "list-type=2&prefix=", Escaped(below));
    ATTNPRUNE_ASSIGN_OR_RETURN(const S3Answer answer,
                               http_.Send({.query = query, .limit = kShort}));
    for (const std::string& key : XmlTexts(answer.body, "Key")) {
      absl::string_view name = key;
      if (absl::ConsumePrefix(&name, below)) names.emplace_back(name);
    }
    token = XmlText(answer.body, "NextContinuationToken");
  } while (!token.empty());
  return names;
}

int64_t S3Objects::PartBytes(int64_t size) const {
  constexpr int64_t kMiB = int64_t{1} << 20;
  const int64_t least = (size + kMostParts - 1) / kMostParts;
  return std::max(kS3PartBytes, (least + kMiB - 1) / kMiB * kMiB);
}

absl::StatusOr<std::string> S3Objects::BeginParts(const std::string& name) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const S3Answer answer,
      http_.Send({.method = S3Method::kPost, .name = name, .query = "uploads=", .limit = kShort}));
  std::string writing = XmlText(answer.body, "UploadId");
  if (!writing.empty()) return writing;
  return absl::InternalError(
      absl::StrCat("blobs: ", display(), " tells no id of a multipart upload"));
}

absl::StatusOr<std::string> S3Objects::PutPart(const std::string& name, const std::string& writing,
                                               int part, int64_t, Pieces pieces) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      S3Answer answer,
      http_.Send({.method = S3Method::kPut,
                  .name = name,
                  .query = absl::StrCat("partNumber=", part + 1, "&uploadId=", Escaped(writing)),
                  .body = pieces}));
  if (!answer.etag.empty()) return std::move(answer.etag);
  return absl::InternalError(absl::StrCat("blobs: ", display(), " tells no ETag of a part"));
}

absl::Status S3Objects::CompleteParts(const std::string& name, const std::string& writing,
                                      absl::Span<const std::string> parts) {
  std::string xml = "<CompleteMultipartUpload>";
  for (size_t i = 0; i < parts.size(); ++i) {
    absl::StrAppend(&xml, "<Part><PartNumber>", i + 1, "</PartNumber><ETag>", parts[i],
                    "</ETag></Part>");
  }
  absl::StrAppend(&xml, "</CompleteMultipartUpload>");
  const absl::Span<const char> pieces[] = {xml};
  absl::Status status = http_
                            .Send({.method = S3Method::kPost,
                                   .name = name,
                                   .query = absl::StrCat("uploadId=", Escaped(writing)),
                                   .body = pieces})
                            .status();
  // An earlier try, whose answer was lost, may have done it.
  if (absl::IsNotFound(status) && SizeOf(name).ok()) return absl::OkStatus();
  return status;
}

absl::Status S3Objects::AbandonParts(const std::string& name, const std::string& writing) {
  const absl::Status status = http_
                                  .Send({.method = S3Method::kDelete,
                                         .name = name,
                                         .query = absl::StrCat("uploadId=", Escaped(writing)),
                                         .tries = 2,
                                         .limit = kShort})
                                  .status();
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

// A list, unlike a HEAD, is told why it is refused.
absl::Status S3Objects::Probe(int tries) {
  return http_
      .Send({.query = absl::StrCat("list-type=2&max-keys=1&prefix=", Escaped(prefix_)),
             .tries = tries,
             .limit = absl::Seconds(5)})
      .status();
}

absl::Status S3Objects::Check() {
  {
    const MutexLock lock(&mutex_);
    if (SteadyNow() - check_time_ < (checked_.ok() ? kCheckAgain : absl::Seconds(1))) {
      return checked_;
    }
  }
  absl::Status status = Probe(2);
  const MutexLock lock(&mutex_);
  checked_ = status;
  check_time_ = SteadyNow();
  return status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ObjectPlace>> OpenS3Objects(const BlobsUrl& url,
                                                           const std::string& credentials_file) {
  ATTNPRUNE_ASSIGN_OR_RETURN(S3Credentials credentials, S3Credentials::Load(credentials_file));
  auto place = std::make_unique<S3Objects>(url, std::move(credentials));
  ATTNPRUNE_RETURN_IF_ERROR(place->Probe(2));
  return place;
}

}  // namespace attnprune
