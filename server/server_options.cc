#include "server/server_options.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/base/thread_pool.h"
#include "server/execution/cgroup_memory.h"
#include "server/http/access.h"
#include "server/objects/blobs_url.h"
#include "server/queue/postgres/store_url.h"

namespace attnprune {
namespace {

constexpr int64_t kMinMessageBytes = int64_t{64} << 10, kMaxMessageBytes = int64_t{1} << 30;
// Open files that connections to HTTP leave to gRPC's, to checkpoints, tensors and the database.
constexpr int64_t kReservedFiles = 512, kMaxHttpConnections = 2000, kMaxConnections = 4000;
constexpr int64_t kTlsConnectionBytes = 128 << 10;  // OpenSSL's and its buffers', at the most
constexpr int64_t kMessageOverhead = 1 << 10;       // of a message beside its chunk
constexpr int64_t kMaxStoreConnections = 1000;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return MustError(field,
                   max == kNoLimit ? absl::StrCat("be at least ", min)
                                   : absl::StrCat("be in [", min, ", ", max, "]"),
                   value);
}

absl::Status CheckDuration(absl::string_view field, absl::Duration value, absl::Duration min) {
  if (value >= min && value < absl::InfiniteDuration()) return absl::OkStatus();
  return MustError(field, absl::StrCat("be at least ", absl::FormatDuration(min)),
                   absl::FormatDuration(value));
}

absl::Status CheckLimits(const ServerOptions& o) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRange("max_queued_jobs", o.max_queued_jobs, 1, kNoLimit));
  for (const auto& [name, limit] :
       {std::pair("max_queued_per_tenant", o.max_queued_per_tenant),
        std::pair("max_running_per_tenant", o.max_running_per_tenant),
        std::pair("max_bytes_per_tenant", o.max_bytes_per_tenant),
        std::pair("max_upload_rate_per_tenant", o.max_upload_rate_per_tenant),
        std::pair("max_connections", o.max_connections),
        std::pair("max_streams_per_tenant", o.max_streams_per_tenant)}) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckRange(name, limit, 0, kNoLimit));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckRange("max_streams", o.max_streams, 1, kNoLimit));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRange("max_tensor_bytes", o.max_tensor_bytes, 1, kNoLimit));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRange("max_total_bytes", o.max_total_bytes, 1, kNoLimit));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckRange("max_job_memory_bytes", o.max_job_memory_bytes, 0, kNoLimit));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckRange("max_message_bytes", o.max_message_bytes, kMinMessageBytes, kMaxMessageBytes));
  return CheckRange("max_chunk_bytes", o.max_chunk_bytes, 1,
                    o.max_message_bytes - kMessageOverhead);
}

absl::Status CheckListen(absl::string_view field, const std::string& listen, bool any_network) {
  const size_t colon = listen.rfind(':');
  int port = -1;
  const bool valid = colon != std::string::npos && colon > 0 &&
                     absl::SimpleAtoi(listen.substr(colon + 1), &port) && port >= 0 &&
                     port <= 65535;
  if (!valid) {
    return FieldError(field,
                      absl::StrCat("must be HOST:PORT, port 0 to 65535, got \"", listen, "\""));
  }
  if (any_network || http::IsLoopbackHost(absl::string_view(listen).substr(0, colon))) {
    return absl::OkStatus();
  }
  return FieldError(
      field, absl::StrCat("must be an address of this machine alone, such as 127.0.0.1:", port,
                          ", unless there are TLS and tokens (--tls-cert-file, --token-file) or "
                          "--allow-unauthenticated-network is given, with which whoever reaches "
                          "the port may read, submit, cancel and delete everything; got \"",
                          listen, "\""));
}

// RFC 1123, and "_", which names of containers may have.
bool IsHostLabel(absl::string_view label) {
  return !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
         absl::c_all_of(label,
                        [](char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_'; });
}

bool IsHostName(const std::string& host) {
  return host.size() <= 253 && absl::c_all_of(absl::StrSplit(host, '.'), IsHostLabel);
}

absl::Status CheckHttpHosts(const std::vector<std::string>& hosts) {
  for (const std::string& host : hosts) {
    if (http::IsAddress(host) || IsHostName(host)) continue;
    return FieldError("http_host",
                      absl::StrCat("must be a host name or an address, without a port, got \"",
                                   absl::CHexEscape(host), "\""));
  }
  return absl::OkStatus();
}

absl::Status CheckTlsFiles(const ServerOptions& o) {
  if (o.tls_cert_file.empty() != o.tls_key_file.empty()) {
    return FieldError(o.tls_key_file.empty() ? "tls_key_file" : "tls_cert_file",
                      "must be given: a certificate and its key go together, got none");
  }
  if (o.tls_client_ca_file.empty() || !o.tls_cert_file.empty()) return absl::OkStatus();
  return MustError("tls_client_ca_file", "be given with tls_cert_file only", o.tls_client_ca_file);
}

absl::Status CheckAddresses(const ServerOptions& o) {
  const bool network = MayFaceTheNetwork({.tls = !o.tls_cert_file.empty(),
                                          .tokens = !o.token_file.empty(),
                                          .allowed = o.allow_unauthenticated_network});
  ATTNPRUNE_RETURN_IF_ERROR(CheckTlsFiles(o));
  ATTNPRUNE_RETURN_IF_ERROR(CheckHttpHosts(o.http_hosts));
  ATTNPRUNE_RETURN_IF_ERROR(CheckListen("listen", o.listen, network));
  if (o.http_listen.empty()) return absl::OkStatus();
  return CheckListen("http_listen", o.http_listen, network);
}

absl::Status CheckStore(const ServerOptions& o) {
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckRange("store_connections", o.store_connections, 1, kMaxStoreConnections));
  if (!o.store.empty()) return postgres::ParseStoreUrl(o.store, "").status();
  if (o.store_password_file.empty()) return absl::OkStatus();
  return MustError("store_password_file", "be given with store only", o.store_password_file);
}

absl::Status CheckBlobs(const ServerOptions& o) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRange("blob_cache_bytes", o.blob_cache_bytes, 0, kNoLimit));
  if (o.blobs.empty()) {
    if (o.blobs_credentials_file.empty()) return absl::OkStatus();
    return MustError("blobs_credentials_file", "be given with blobs only",
                     o.blobs_credentials_file);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const BlobsUrl url, ParseBlobsUrl(o.blobs));
  if (o.store.empty()) {
    return MustError("blobs", "be given with store, whose database keeps account of them",
                     url.Name());
  }
  if (url.folder.empty() || o.blobs_credentials_file.empty()) return absl::OkStatus();
  return MustError("blobs_credentials_file", "be given with s3:// only", url.Name());
}

absl::Status CheckDurations(const ServerOptions& o) {
  constexpr absl::Duration kTick = absl::Milliseconds(10);
  ATTNPRUNE_RETURN_IF_ERROR(CheckDuration("checkpoint_interval", o.checkpoint_interval, kTick));
  ATTNPRUNE_RETURN_IF_ERROR(CheckDuration("progress_interval", o.progress_interval, kTick));
  ATTNPRUNE_RETURN_IF_ERROR(CheckDuration("lease", o.lease, absl::Seconds(1)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckDuration("heartbeat", o.heartbeat, kTick));
  if (o.keep_finished != absl::ZeroDuration()) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckDuration("keep_finished", o.keep_finished, absl::Seconds(1)));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckDuration("tensor_grace", o.tensor_grace, absl::Seconds(1)));
  return CheckDuration("collect_interval", o.collect_interval, kTick);
}

int64_t OpenFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return Machine().open_files;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int>::max()));
}

// Over TLS no more than a quarter of the memory has room for.
int64_t ByMemory(int64_t connections, const Machine& machine, bool tls) {
  if (!tls || machine.memory_bytes == 0) return connections;
  return std::min(connections, machine.memory_bytes / 4 / kTlsConnectionBytes);
}

// All that the reserve leaves or, where that would be little, half.
int HttpConnections(const Machine& machine, bool tls) {
  const int64_t files = machine.open_files;
  const int64_t most = ByMemory(files - std::min(kReservedFiles, files / 2), machine, tls);
  return static_cast<int>(std::clamp(most, int64_t{1}, kMaxHttpConnections));
}

// Of the files that HTTP leaves, half: tensors, checkpoints and the database need some too.
int64_t Connections(const Machine& machine, int64_t http, bool tls) {
  const int64_t most = ByMemory((machine.open_files - http) / 2, machine, tls);
  return std::clamp(most, int64_t{1}, kMaxConnections);
}

}  // namespace

bool MayFaceTheNetwork(const Guards& guards) {
  return guards.allowed || (guards.tls && guards.tokens);
}

void RaiseOpenFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

Machine ThisMachine() {
  Machine machine;
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) machine.cores = CPU_COUNT(&cores);
  const int64_t pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) machine.memory_bytes = pages * page_bytes;
  machine.open_files = OpenFileLimit();
  const auto limit = CgroupMemoryLimit("/");
  if (limit.has_value()) machine.memory_bytes = std::min(machine.memory_bytes, *limit);
  return machine;
}

absl::StatusOr<ServerOptions> CheckedOptions(ServerOptions options, const Machine& machine) {
  if (options.data_dir.empty()) return FieldError("data_dir", "must be a folder, got \"\"");
  ATTNPRUNE_RETURN_IF_ERROR(CheckAddresses(options));
  ATTNPRUNE_RETURN_IF_ERROR(CheckStore(options));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBlobs(options));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRange("workers", options.workers, 1, kMaxThreads));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRange("threads_per_job", options.threads_per_job, 0, kMaxThreads));
  ATTNPRUNE_RETURN_IF_ERROR(CheckLimits(options));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckRange("max_http_connections", options.max_http_connections, 0, kMaxHttpConnections));
  ATTNPRUNE_RETURN_IF_ERROR(CheckDurations(options));
  if (options.max_streams_per_tenant == 0) {
    const bool several = !options.token_file.empty();
    options.max_streams_per_tenant =
        several ? std::max<int64_t>(1, options.max_streams / 2) : options.max_streams;
  }
  if (options.threads_per_job == 0) {
    options.threads_per_job = std::max(1, machine.cores / options.workers);
  }
  if (options.max_http_connections == 0) {
    options.max_http_connections = HttpConnections(machine, !options.tls_cert_file.empty());
  }
  if (options.max_connections == 0) {
    options.max_connections =
        Connections(machine, options.max_http_connections, !options.tls_cert_file.empty());
  }
  if (options.max_job_memory_bytes == 0) {
    options.max_job_memory_bytes = machine.memory_bytes / options.workers;
  }
  return options;
}

}  // namespace attnprune
