// The HTTP port over real stores in a folder of its own, on 127.0.0.1 and a free port, without
// workers: tests play the worker, so that nothing depends on time.
#ifndef ATTNPRUNE_TESTS_SERVER_WEB_WEB_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_WEB_WEB_FIXTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "attnprune/v1/prune_service.pb.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/api/job_api.h"
#include "server/blobs/posix_blob_store.h"
#include "server/queue/folder_lock.h"
#include "server/queue/job_news.h"
#include "server/queue/job_store.h"
#include "server/web/web_host.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::http {

class Web {
 public:
  explicit Web(absl::Duration heartbeat = absl::Hours(1), int max_connections = 2000);
  ~Web();

  int port() const { return host_->port(); }
  WebHost& host() { return *host_; }
  WebMetrics& metrics() { return metrics_; }
  JobStore& jobs() { return *jobs_; }
  BlobStore& tensors() { return *tensors_; }
  const rpc::JobApi& api() const { return *api_; }  // what the RPCs answer with
  // What was said of requests, oldest first.
  std::vector<FinishedCall> calls() const {
    const MutexLock lock(&mutex_);
    return calls_;
  }

  // A queued job whose tensors are there.
  v1::Job Create(const std::string& team = "");
  // Claims the next job as a worker would.
  JobClaim Claim();
  // Progress of steps first … last, in one write.
  void AddProgress(const JobClaim& claim, int first, int last);
  void AddWarning(const JobClaim& claim, const std::string& text);

 private:
  const TemporaryFolder folder_;
  const RealClock clock_;
  FolderLock lock_;
  std::unique_ptr<BlobStore> tensors_;
  std::unique_ptr<JobStore> jobs_;
  JobNews news_{&clock_};
  WebMetrics metrics_;
  std::unique_ptr<rpc::JobApi> api_;
  mutable Mutex mutex_;
  std::vector<FinishedCall> calls_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<WebHost> host_;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_TESTS_SERVER_WEB_WEB_FIXTURE_H_
