#include "server/server_metrics.h"

#include <map>
#include <vector>

#include "absl/strings/ascii.h"
#include "core/methods/registry.h"
#include "server/observe/log.h"
#include "server/observe/process_metrics.h"

namespace attnprune {
namespace {

#ifdef __clang__
constexpr char kCompiler[] = "clang " __clang_version__;
#else
constexpr char kCompiler[] = "gcc " __VERSION__;
#endif

std::vector<std::string> MethodNames() {
  std::vector<std::string> names;
  for (const MethodInfo& method : Methods()) names.emplace_back(method.name);
  return names;
}

}  // namespace

ServerMetrics::ServerMetrics(int workers, int64_t queue_limit, const Clock* clock)
    : jobs(MethodNames(), clock),
      solver(workers, MethodNames(), clock),
      queue_limit_(queue_limit) {}

void ServerMetrics::AddStore(JobStore* store, Exposition& out) const {
  const absl::StatusOr<std::map<JobState, int64_t>> counts = store->CountByState();
  out.Gauge("attnprune_job_store_up", "Whether the database answered and is in its place.",
            counts.ok() && store->CheckInPlace().ok() ? 1 : 0);
  out.Gauge("attnprune_queue_limit", "Jobs that may wait in the queue.",
            static_cast<double>(queue_limit_));
  if (!counts.ok()) return;
  out.Gauges("attnprune_jobs", "Jobs in the database.");
  for (const auto& [state, count] : *counts) {
    out.Sample({{"state", absl::AsciiStrToLower(ToString(state))}}, static_cast<double>(count));
  }
}

void ServerMetrics::AddTensors(const BlobStore& store, Exposition& out) const {
  const BlobStoreUsage usage = store.Usage();
  out.Gauge("attnprune_tensors", "Tensors stored.", static_cast<double>(usage.blobs));
  out.Gauge("attnprune_tensor_bytes", "Bytes of the tensors stored.",
            static_cast<double>(usage.blob_bytes));
  out.Gauge("attnprune_tensor_bytes_limit", "Bytes that tensors and uploads may have.",
            static_cast<double>(usage.max_bytes));
  out.Gauge("attnprune_uploads", "Uploads that are not complete.",
            static_cast<double>(usage.uploads));
  out.Gauge("attnprune_upload_bytes", "Bytes that came of them.",
            static_cast<double>(usage.upload_bytes));
  out.Count("attnprune_uploaded_bytes_total", "Bytes of tensors received.",
            static_cast<double>(transfers.uploaded.value()));
  out.Count("attnprune_downloaded_bytes_total", "Bytes of tensors sent.",
            static_cast<double>(transfers.downloaded.value()));
}

void ServerMetrics::AddCalls(Exposition& out) const {
  out.Counters("attnprune_rpcs_total", "gRPC calls that have ended.");
  rpcs.AddCounts("rpc", out);
  out.Histograms("attnprune_rpc_seconds", "From a call's arrival to its end.");
  rpcs.AddSeconds("rpc", out);
  out.Gauges("attnprune_rpcs_in_flight", "gRPC calls under way.");
  rpcs.AddInFlight("rpc", out);
  web.AddTo(out);
}

std::string ServerMetrics::Text(JobStore* store, const BlobStore& tensors,
                                const std::string& disk_folder) const {
  Exposition out;
  out.Gauges("attnprune_build_info", "What this program is; always 1.");
  out.Sample(
      {{"version", ATTNPRUNE_VERSION}, {"arch", ATTNPRUNE_BUILT_FOR}, {"compiler", kCompiler}}, 1);
  out.Gauge("attnprune_draining", "1 from SIGTERM on.", draining ? 1 : 0);
  out.Gauge("attnprune_ready", "1 while health says so.", ready ? 1 : 0);
  AddStore(store, out);
  jobs.AddTo(out);
  solver.AddTo(out);
  AddCalls(out);
  AddTensors(tensors, out);
  AddDiskMetrics(disk_folder, out);
  out.Count("attnprune_log_lines_dropped_total", "Log lines that stderr's reader did not take.",
            static_cast<double>(DroppedLogLines()));
  out.Count("attnprune_audit_lines_lost_total", "Audit lines that their file did not take.",
            static_cast<double>(audit_lines_lost.value()));
  AddProcessMetrics(out);
  return out.Finish();
}

}  // namespace attnprune
