// The HTTP port over api::Backend, on 127.0.0.1 and a free port.
#ifndef ATTNPRUNE_TESTS_SERVER_WEB_WEB_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_WEB_WEB_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attnprune/v1/prune_service.pb.h"
#include "core/base/mutex.h"
#include "server/web/web_host.h"
#include "tests/server/api/backend.h"
#include "tests/server/http/http_client.h"

namespace attnprune::web {

class Web {
 public:
  explicit Web(absl::Duration heartbeat = absl::Hours(1), int max_connections = 2000);

  int port() const { return host_->port(); }
  WebHost& host() { return *host_; }
  http::WebMetrics& metrics() { return metrics_; }
  JobStore& jobs() { return backend_.jobs(); }
  BlobStore& tensors() { return backend_.tensors(); }
  const api::JobApi& api() const { return backend_.api(); }  // what the RPCs answer with
  const TransferMetrics& transfers() const { return transfers_; }
  // What was said of requests, oldest first.
  std::vector<FinishedHttpRequest> calls() const {
    const MutexLock lock(&mutex_);
    return calls_;
  }

  v1::Job GoodJob() { return backend_.GoodJob(); }  // not made yet
  // A queued job whose tensors are there.
  v1::Job Create(const std::string& team = "");
  // Claims the next job as a worker would.
  JobClaim Claim() { return backend_.Claim(); }
  // Progress of steps first … last, in one write.
  void AddProgress(const JobClaim& claim, int first, int last);
  void AddWarning(const JobClaim& claim, const std::string& text);

 private:
  api::Backend backend_;
  const std::unique_ptr<access::Gate> gate_ = *access::Gate::Open({});
  http::WebMetrics metrics_;
  TransferMetrics transfers_;
  mutable Mutex mutex_;
  std::vector<FinishedHttpRequest> calls_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<WebHost> host_;
};

// Of an error's answer: the field of its first violation; "" without one.
std::string FieldOf(const http::Received& received);

// The same at each call; no two pieces of an upload are alike.
std::string SomeBytes(size_t size = 600'000);

// Where these bytes are put, from `offset` on.
std::string UploadUrl(const std::string& bytes, const std::string& id, int64_t offset = 0,
                      const std::string& dtype = "BITMASK");

}  // namespace attnprune::web

#endif  // ATTNPRUNE_TESTS_SERVER_WEB_WEB_FIXTURE_H_
