// Requests to one bucket of an S3-compatible server: signed, sent by libcurl, tried again.
#ifndef ATTNPRUNE_SERVER_OBJECTS_S3_HTTP_H_
#define ATTNPRUNE_SERVER_OBJECTS_S3_HTTP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "server/objects/blobs_url.h"
#include "server/objects/object_place.h"
#include "server/objects/s3_credentials.h"

namespace attnprune {

enum class S3Method { kGet, kHead, kPut, kPost, kDelete };

struct S3Request {
  S3Method method = S3Method::kGet;
  std::string name;   // the object's, below the prefix; empty: the bucket itself
  std::string query;  // "a=b&c=d", in order and escaped
  Pieces body = {};
  int64_t from = 0;  // of a GET: bytes before are not wanted
  // Gets what comes of a successful GET, in place of S3Answer::body. Its error ends the request.
  std::function<absl::Status(absl::Span<const char>)> sink = nullptr;
  int tries = 4;
  absl::Duration limit = absl::InfiniteDuration();  // of one try, beside those of silence
};

struct S3Answer {
  std::string body;     // 1 MiB at most
  std::string etag;     // with its quotes
  int64_t length = -1;  // what Content-Length said
};

// Thread-safe: as many requests at a time as there are places, and the others wait.
//
// Another try is made, after a wait that grows, where nobody answers, the connection breaks, or the
// server says that it is busy (429, 5xx). Nothing waits for ever: 5 s to connect, 20 s in which
// less than 1 kB comes or goes. No proxy is used and no redirect followed.
class S3Http {
 public:
  S3Http(BlobsUrl url, S3Credentials credentials);
  ~S3Http();
  S3Http(const S3Http&) = delete;
  S3Http& operator=(const S3Http&) = delete;

  // What a successful request was answered. NOT_FOUND: no such object or upload. UNAVAILABLE: it
  // does not answer, is busy, or refuses the keys. FAILED_PRECONDITION: no such bucket, or one of
  // another place. INTERNAL else. Messages name endpoint, bucket and S3's code for it, and have
  // nothing of the keys.
  absl::StatusOr<S3Answer> Send(const S3Request& request);
  // ObjectPlace::Stop.
  void Stop() { stopping_ = true; }

  const std::string& display() const { return display_; }

 private:
  struct Transfer;
  struct Outcome {
    absl::Status status;
    bool again = false;  // another try may do better
  };

  void* TakeHandle();
  void GiveBack(void* handle);
  Outcome SendOnce(const S3Request& request, int64_t& delivered, S3Answer& answer);
  absl::Status Prepare(Transfer& transfer, const S3Request& request, int64_t from);
  Outcome Judge(const Transfer& transfer, int result) const;
  Outcome Refusal(const Transfer& transfer, int64_t http) const;
  std::string UrlOf(const S3Request& request) const;

  const BlobsUrl url_;
  const std::string display_;
  const std::string ca_file_;  // AWS_CA_BUNDLE; empty: the system's
  S3Credentials credentials_;
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  CondVar freed_;
  int lent_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<void*> idle_ ABSL_GUARDED_BY(mutex_);  // CURL handles, with their connections
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_S3_HTTP_H_
