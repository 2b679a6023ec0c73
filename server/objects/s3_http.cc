#include "server/objects/s3_http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"
#include "server/objects/environment.h"
#include "server/objects/s3_xml.h"
#include "server/objects/small_http.h"

namespace attnprune {
namespace {

constexpr int kPlaces = 32;
constexpr size_t kMostBody = size_t{1} << 20;
constexpr int64_t kConnectMs = 5000, kSilentBytes = 1000, kSilentSeconds = 20;

std::string DigestOf(Pieces pieces) {
  Sha256 hash;
  for (const absl::Span<const char> piece : pieces) hash.Update(piece);
  return hash.Finish();
}

int64_t SizeOf(Pieces pieces) {
  size_t size = 0;
  for (const absl::Span<const char> piece : pieces) size += piece.size();
  return static_cast<int64_t>(size);
}

// A random part of a wait that doubles, so that not all come back at once.
absl::Duration Wait(int attempt) {
  thread_local std::minstd_rand random{std::random_device{}()};
  const double share = std::uniform_real_distribution<>(0.5, 1)(random);
  return share * absl::Milliseconds(100 << std::min(attempt, 5));
}

}  // namespace

// One try: what libcurl's calls back are told of.
struct S3Http::Transfer {
  CURL* handle = nullptr;
  const S3Request* request = nullptr;
  S3Answer* answer = nullptr;
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers{nullptr,
                                                                      &curl_slist_free_all};
  int64_t from = 0;          // of a GET: the first byte that was asked for
  size_t piece = 0, at = 0;  // of the body, what goes next
  int64_t* delivered = nullptr;
  absl::Status sink_status = absl::OkStatus();
  std::string region = {}, location = {}, body = {};

  bool Succeeds() const {
    long status = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    return from > 0 ? status == 206 : status >= 200 && status < 300;
  }

  static size_t TakeBytes(char* bytes, size_t one, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const size_t size = one * count;
    if (transfer.request->sink == nullptr || !transfer.Succeeds()) {
      if (transfer.body.size() + size > kMostBody) return 0;
      transfer.body.append(bytes, size);
      return size;
    }
    transfer.sink_status = transfer.request->sink({bytes, size});
    if (!transfer.sink_status.ok()) return 0;
    *transfer.delivered += static_cast<int64_t>(size);
    return size;
  }

  static size_t TakeHeader(char* bytes, size_t one, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const absl::string_view line(bytes, one * count);
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) return line.size();
    const absl::string_view name = line.substr(0, colon);
    const absl::string_view value = absl::StripAsciiWhitespace(line.substr(colon + 1));
    if (absl::EqualsIgnoreCase(name, "etag")) transfer.answer->etag = std::string(value);
    if (absl::EqualsIgnoreCase(name, "x-amz-bucket-region")) transfer.region = std::string(value);
    if (absl::EqualsIgnoreCase(name, "content-length")) {
      if (!absl::SimpleAtoi(value, &transfer.answer->length)) transfer.answer->length = -1;
    }
    return line.size();
  }

  static size_t GiveBytes(char* out, size_t one, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const Pieces pieces = transfer.request->body;
    while (transfer.piece < pieces.size() && transfer.at == pieces[transfer.piece].size()) {
      ++transfer.piece;
      transfer.at = 0;
    }
    if (transfer.piece == pieces.size()) return 0;
    const absl::Span<const char> rest = pieces[transfer.piece].subspan(transfer.at);
    const size_t size = std::min(one * count, rest.size());
    std::memcpy(out, rest.data(), size);
    transfer.at += size;
    return size;
  }

  // A connection that was kept and is dead: all of the body goes again.
  static int Rewind(void* self, curl_off_t offset, int origin) {
    if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
    static_cast<Transfer*>(self)->piece = static_cast<Transfer*>(self)->at = 0;
    return CURL_SEEKFUNC_OK;
  }

  // Called once a second at least.
  static int Continue(void* stopping, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return *static_cast<const std::atomic<bool>*>(stopping) ? 1 : 0;
  }

  void AddHeader(const std::string& line) {
    curl_slist* const longer = curl_slist_append(headers.get(), line.c_str());
    if (longer == nullptr) return;
    static_cast<void>(headers.release());
    headers.reset(longer);
  }
};

S3Http::S3Http(BlobsUrl url, S3Credentials credentials)
    : url_(std::move(url)),
      display_(absl::StrCat(url_.Name(), " at ", url_.endpoint,
                            url_.bucket_in_host ? ", the bucket in its host's name" : "")),
      ca_file_(EnvironmentOf("AWS_CA_BUNDLE")),
      credentials_(std::move(credentials)) {
  InitializeCurl();
}

S3Http::~S3Http() {
  const MutexLock lock(&mutex_);
  for (void* const handle : idle_) curl_easy_cleanup(handle);
}

void* S3Http::TakeHandle() {
  const MutexLock lock(&mutex_);
  freed_.Wait(&mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return lent_ < kPlaces; });
  ++lent_;
  if (idle_.empty()) return curl_easy_init();
  void* const handle = idle_.back();
  idle_.pop_back();
  return handle;
}

void S3Http::GiveBack(void* handle) {
  if (handle != nullptr) curl_easy_reset(handle);  // keeps its connections
  {
    const MutexLock lock(&mutex_);
    --lent_;
    if (handle != nullptr) idle_.push_back(handle);
  }
  freed_.NotifyAll();
}

std::string S3Http::UrlOf(const S3Request& request) const {
  std::string url = url_.Root();
  if (!request.name.empty()) {
    absl::StrAppend(&url, url_.prefix, url_.prefix.empty() ? "" : "/", request.name);
  }
  if (!request.query.empty()) absl::StrAppend(&url, "?", request.query);
  return url;
}

absl::Status S3Http::Prepare(Transfer& transfer, const S3Request& request, int64_t from) {
  CURL* const curl = transfer.handle;
  if (curl == nullptr) return absl::ResourceExhaustedError("no memory for a request to S3");
  transfer.from = from;
  ATTNPRUNE_ASSIGN_OR_RETURN(const S3Keys keys, credentials_.Get());
  const auto set = [curl](CURLoption option, auto value) { curl_easy_setopt(curl, option, value); };
  set(CURLOPT_URL, UrlOf(request).c_str());
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(kConnectMs));
  set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(kSilentBytes));
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(kSilentSeconds));
  if (request.limit < absl::InfiniteDuration()) {
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(request.limit)));
  }
  if (!ca_file_.empty()) set(CURLOPT_CAINFO, ca_file_.c_str());
  set(CURLOPT_AWS_SIGV4, absl::StrCat("aws:amz:", url_.region, ":s3").c_str());
  set(CURLOPT_USERNAME, keys.id.c_str());
  set(CURLOPT_PASSWORD, keys.secret.c_str());
  set(CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);  // its header cannot be left out: it would be signed
  set(CURLOPT_BUFFERSIZE, 256L << 10);
  set(CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
  set(CURLOPT_WRITEFUNCTION, &Transfer::TakeBytes);
  set(CURLOPT_WRITEDATA, &transfer);
  set(CURLOPT_HEADERFUNCTION, &Transfer::TakeHeader);
  set(CURLOPT_HEADERDATA, &transfer);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &Transfer::Continue);
  set(CURLOPT_XFERINFODATA, &stopping_);
  switch (request.method) {
    case S3Method::kGet:
      break;
    case S3Method::kHead:
      set(CURLOPT_NOBODY, 1L);
      break;
    case S3Method::kDelete:
      set(CURLOPT_CUSTOMREQUEST, "DELETE");
      break;
    case S3Method::kPut:
      set(CURLOPT_UPLOAD, 1L);
      set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(SizeOf(request.body)));
      break;
    case S3Method::kPost:
      set(CURLOPT_POST, 1L);
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(SizeOf(request.body)));
      transfer.AddHeader("Content-Type: application/octet-stream");
      break;
  }
  set(CURLOPT_READFUNCTION, &Transfer::GiveBytes);
  set(CURLOPT_READDATA, &transfer);
  set(CURLOPT_SEEKFUNCTION, &Transfer::Rewind);
  set(CURLOPT_SEEKDATA, &transfer);
  transfer.AddHeader(absl::StrCat("x-amz-content-sha256: ", DigestOf(request.body)));
  if (!keys.session_token.empty()) {
    transfer.AddHeader(absl::StrCat("x-amz-security-token: ", keys.session_token));
  }
  if (from > 0) transfer.AddHeader(absl::StrCat("Range: bytes=", from, "-"));
  set(CURLOPT_HTTPHEADER, transfer.headers.get());
  return absl::OkStatus();
}

absl::StatusOr<S3Answer> S3Http::Send(const S3Request& request) {
  int64_t delivered = 0;  // a GET that broke goes on where it was
  for (int attempt = 0;; ++attempt) {
    S3Answer answer;
    Outcome outcome = SendOnce(request, delivered, answer);
    if (outcome.status.ok()) return answer;
    if (!outcome.again || attempt + 1 >= request.tries) return outcome.status;
    absl::SleepFor(Wait(attempt));
  }
}

S3Http::Outcome S3Http::SendOnce(const S3Request& request, int64_t& delivered, S3Answer& answer) {
  Transfer transfer;
  transfer.handle = TakeHandle();
  transfer.request = &request;
  transfer.answer = &answer;
  transfer.delivered = &delivered;
  Outcome outcome;
  outcome.status = Prepare(transfer, request, request.from + delivered);
  if (outcome.status.ok()) {
    const CURLcode result = curl_easy_perform(transfer.handle);
    outcome = Judge(transfer, result);
    answer.body = std::move(transfer.body);
  }
  GiveBack(transfer.handle);
  return outcome;
}

S3Http::Outcome S3Http::Judge(const Transfer& transfer, int result) const {
  if (!transfer.sink_status.ok()) return {transfer.sink_status, false};
  if (stopping_) return {absl::CancelledError("blobs: the server stops"), false};
  long http = 0;
  curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &http);
  if (result == CURLE_OK && http >= 200 && http < 300) {
    // Completing may fail after it has said 200.
    const std::string code = S3Word(XmlText(transfer.body, "Code"));
    if (code.empty() || !absl::StrContains(transfer.body, "<Error>")) return {absl::OkStatus()};
    return {absl::UnavailableError(absl::StrCat("blobs: ", display_, " says ", code)), true};
  }
  if (result == CURLE_OK) return Refusal(transfer, http);
  const bool certificate = result == CURLE_PEER_FAILED_VERIFICATION ||
                           result == CURLE_SSL_CACERT_BADFILE || result == CURLE_SSL_CONNECT_ERROR;
  return {absl::UnavailableError(absl::StrCat("blobs: ", display_, " does not answer: ",
                                              curl_easy_strerror(static_cast<CURLcode>(result)))),
          !certificate};
}

S3Http::Outcome S3Http::Refusal(const Transfer& transfer, int64_t http) const {
  std::string code = S3Word(XmlText(transfer.body, "Code"));
  std::string region = S3Word(transfer.region);
  if (region.empty()) region = S3Word(XmlText(transfer.body, "Region"));
  const std::string answer = absl::StrCat(http, code.empty() ? "" : " ", code);
  if (http == 404 && code == "NoSuchBucket") {
    return {absl::FailedPreconditionError(
        absl::StrCat("blobs: ", display_, ": there is no bucket ", url_.bucket))};
  }
  if (http == 404) {
    return {absl::NotFoundError(
        absl::StrCat("blobs: ", display_, ": ", transfer.request->name, " is not there"))};
  }
  const bool elsewhere = (http >= 300 && http < 400) || code == "AuthorizationHeaderMalformed";
  if (elsewhere) {
    return {absl::FailedPreconditionError(absl::StrCat(
        "blobs: ", display_, ": the bucket is elsewhere (", answer, "): must have ",
        region.empty() ? "another endpoint or region" : absl::StrCat("region=", region),
        ", got region=", url_.region))};
  }
  if (http == 401 || http == 403 || code == "InvalidAccessKeyId") {
    return {absl::UnavailableError(absl::StrCat(
        "blobs: ", display_, " refuses the keys or what they are to do (", answer, ")"))};
  }
  const bool busy = http == 408 || http == 429 || http >= 500;
  const std::string text = absl::StrCat("blobs: ", display_, " answers ", answer);
  if (busy) return {absl::UnavailableError(text), true};
  return {absl::InternalError(text)};
}

}  // namespace attnprune
