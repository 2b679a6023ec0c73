// All that /metrics tells (docs/metrics.md).
#ifndef ATTNPRUNE_SERVER_SERVER_METRICS_H_
#define ATTNPRUNE_SERVER_SERVER_METRICS_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "core/base/clock.h"
#include "server/blobs/blob_store.h"
#include "server/http/web_metrics.h"
#include "server/observe/call_metrics.h"
#include "server/observe/instruments.h"
#include "server/observe/job_metrics.h"
#include "server/observe/solver_metrics.h"
#include "server/queue/job_store.h"

namespace attnprune {

// Thread-safe. Each member is given to the part that counts with it.
class ServerMetrics {
 public:
  // clock must outlive this.
  ServerMetrics(int workers, int64_t queue_limit, const Clock* clock);

  // In Prometheus's text format. Waits for the disk; the stores' locks are held as long as by any
  // other short read.
  // disk_folder: on the disk whose room is told.
  std::string Text(JobStore* jobs, const BlobStore& tensors, const std::string& disk_folder) const;

  JobMetrics jobs;
  SolverMetrics solver;
  CallMetrics rpcs = GrpcCalls();
  TransferMetrics transfers;
  http::WebMetrics web;
  Counter audit_lines_lost;
  std::atomic<bool> draining{false};
  std::atomic<bool> ready{false};  // as health says

 private:
  void AddStore(JobStore* store, Exposition& out) const;
  void AddTensors(const BlobStore& store, Exposition& out) const;
  void AddCalls(Exposition& out) const;

  const int64_t queue_limit_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_SERVER_METRICS_H_
