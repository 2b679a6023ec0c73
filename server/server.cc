#include "server/server.h"

#include <grpcpp/impl/service_type.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/access/gate.h"
#include "server/api/estimate.h"
#include "server/api/job_api.h"
#include "server/api/job_hub.h"
#include "server/api/queue_outlook.h"
#include "server/api/run_api.h"
#include "server/api/tenant_bytes.h"
#include "server/api/tensor_api.h"
#include "server/api/upload_pace.h"
#include "server/blobs/blob_store.h"
#include "server/execution/worker_pool.h"
#include "server/grpc/connections.h"
#include "server/grpc/grpc_host.h"
#include "server/grpc/prune_service.h"
#include "server/grpc/tensor_service.h"
#include "server/observe/audit_log.h"
#include "server/observe/call_log.h"
#include "server/observe/job_log.h"
#include "server/observe/log.h"
#include "server/queue/folder_lock.h"
#include "server/queue/job_store.h"
#include "server/server_metrics.h"
#include "server/server_options.h"
#include "server/server_store.h"
#include "server/tls/live_credentials.h"
#include "server/upkeep/place_watch.h"
#include "server/upkeep/unused_memory.h"
#include "server/upkeep/upkeep.h"
#include "server/web/web_host.h"

namespace attnprune {
namespace {

// Of the time to drain, for the jobs' checkpoints; the rest is for calls that are under way.
constexpr double kDrainJobs = 0.7;
// For HTTP to end, of what is then left: a viewer that reads nothing holds nobody up, and can come
// back.
constexpr absl::Duration kDrainHttp = absl::Seconds(1);
// Between two looks whether the folder and its files are where they were.
constexpr absl::Duration kPlaceInterval = absl::Seconds(1);

api::JobApiOptions ApiOptions(const ServerOptions& options) {
  api::JobApiOptions api;
  api.max_job_memory_bytes = options.max_job_memory_bytes;
  api.workers = options.workers;
  api.threads_per_job = options.threads_per_job;
  api.rate = api::MeasureRate();
  api.rate.threads = options.threads_per_job;
  v1::Limits& limits = api.limits;
  limits.set_max_queued_jobs(options.max_queued_jobs);
  limits.set_max_tensor_bytes(options.max_tensor_bytes);
  limits.set_max_total_tensor_bytes(options.max_total_bytes);
  limits.set_max_message_bytes(options.max_message_bytes);
  limits.set_max_chunk_bytes(options.max_chunk_bytes);
  return api;
}

tls::LiveCredentialsOptions TlsOptions(const ServerOptions& options, const Clock* clock) {
  return {.files = {.certificate = options.tls_cert_file,
                    .key = options.tls_key_file,
                    .client_ca = options.tls_client_ca_file},
          .clock = clock};
}

// The log and the audit log, which may be null, are told of each call.
RpcListener TellOfRpcs(AuditLog* audit) {
  return [audit](const FinishedRpc& call) {
    LogRpc(call);
    if (audit != nullptr) audit->OnRpc(call);
  };
}

HttpListener TellOfHttpRequests(AuditLog* audit) {
  return [audit](const FinishedHttpRequest& call) {
    LogHttpRequest(call);
    if (audit != nullptr) audit->OnHttpRequest(call);
  };
}

web::WebOptions WebOptionsOf(const ServerOptions& options, const tls::LiveCredentials* tls,
                             AuditLog* audit) {
  web::WebOptions web;
  web.http.listen = options.http_listen;
  web.http.tls = tls;
  web.http.max_connections = options.max_http_connections;
  web.https = tls != nullptr;
  web.hosts = options.http_hosts;
  web.heartbeat = options.heartbeat;
  web.max_json_bytes = options.max_message_bytes;
  web.on_call = TellOfHttpRequests(audit);
  return web;
}

UpkeepOptions UpkeepOptionsOf(const ServerOptions& options, AuditLog* audit) {
  UpkeepOptions upkeep;
  if (options.keep_finished > absl::ZeroDuration()) upkeep.keep_finished = options.keep_finished;
  upkeep.tensor_grace = options.tensor_grace;
  upkeep.interval = options.collect_interval;
  if (audit == nullptr) return upkeep;
  upkeep.on_deleted = [audit](const std::string& name) {
    const bool run = absl::StartsWith(name, "runs/");
    audit->Write({.action = run ? "DeleteRun" : "DeleteJob",
                  .code = "OK",
                  .via = "server",
                  .caller = {},
                  .job = name,
                  .tensor = "",
                  .request_id = ""});
  };
  return upkeep;
}

WorkerPoolOptions WorkerOptions(const ServerOptions& options, const std::string& owner,
                                const Clock* clock, ServerMetrics* metrics, JobLog* log) {
  WorkerPoolOptions workers;
  workers.owner = owner;
  workers.workers = options.workers;
  workers.lease = options.lease;
  workers.runner.threads = options.threads_per_job;
  workers.runner.memory_budget_bytes = options.max_job_memory_bytes;
  workers.runner.checkpoint_interval = options.checkpoint_interval;
  workers.runner.progress_interval = options.progress_interval;
  // The blob store has made it, and removes what a kill may leave there (spilled_matrix.cc).
  workers.runner.spill_folder = options.data_dir + "/uploads";
  workers.runner.clock = clock;
  workers.runner.observer = &metrics->solver;
  workers.runner.on_trouble = [metrics, log](const std::string& job_id,
                                             const absl::Status& status) {
    metrics->jobs.OnTrouble();
    log->OnTrouble(job_id, status);
  };
  return workers;
}

void LogGate(absl::string_view event, const std::string& detail) {
  const bool trouble = event != "tokens.reload";
  Log(trouble ? LogLevel::kWarning : LogLevel::kInfo, event, {{"detail", detail}});
}

// Calls `start` on a thread to which, and to all that it makes, threads that solve are preferred
// where cores are few: a flood of calls takes little from a running job, and a call waits some
// milliseconds for it.
absl::Status AtLowerPriority(absl::FunctionRef<absl::Status()> start) {
  constexpr int kNicer = 5;  // a third of the weight, to Linux
  absl::Status status;
  std::thread([&] {
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + kNicer);  // of this thread alone
    status = start();
  }).join();
  return status;
}

// Where three quarters of what the process may have are taken.
std::function<bool()> ShortOfMemory(int64_t memory_bytes) {
  if (memory_bytes == 0) return {};
  return [most = memory_bytes / 4 * 3] { return ResidentBytesOfNoFile() > most; };
}

void LogStrangersClosed(int64_t connections) {
  Log(LogLevel::kWarning, "connections.close", {{"connections", absl::StrCat(connections)}});
}

// Members are destroyed from the last to the first: each comes after those that it uses.
class ComposedServer final : public Server {
 public:
  explicit ComposedServer(ServerOptions options)
      : options_(std::move(options)),
        metrics_(options_.workers, options_.max_queued_jobs, &clock_) {}
  ~ComposedServer() override;

  absl::Status Open();
  absl::Status Serve();
  absl::Status ServeCalls();  // makes what answers them, and listens
  absl::Status ServeHttp();

  int port() const override { return host_->port(); }
  std::string address() const override {
    return absl::StrCat(options_.listen.substr(0, options_.listen.rfind(':')), ":", port());
  }
  int http_port() const override { return web_ == nullptr ? 0 : web_->port(); }
  std::string http_address() const override { return web_ == nullptr ? "" : web_->address(); }
  void ReopenAuditLog() override;
  bool Drain(absl::Duration timeout) override;

 private:
  absl::Status OpenAuditLog();
  absl::Status CheckInPlace() const;
  void SetServing(bool serving);  // of everything that is there and tells of it
  void OnPlaceChange(const absl::Status& status);

  const ServerOptions options_;
  const RealClock clock_;
  ServerMetrics metrics_;
  std::atomic<bool> drained_{false};

  std::unique_ptr<access::Gate> gate_;
  std::unique_ptr<AuditLog> audit_;  // null: none is wanted
  absl::optional<FolderLock> lock_;
  std::string owner_;  // of the leases of this server's workers
  std::unique_ptr<BlobStore> tensors_;
  std::unique_ptr<JobStore> jobs_;
  JobLog log_;
  std::unique_ptr<api::QueueOutlook> outlook_;
  std::unique_ptr<api::TenantBytes> tenant_bytes_;
  std::unique_ptr<api::TensorApi> tensor_api_;
  std::unique_ptr<api::JobApi> api_;
  std::unique_ptr<api::RunApi> runs_;
  std::unique_ptr<api::JobHub> hub_;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<JobListeners> listeners_;
  std::unique_ptr<Upkeep> upkeep_;
  absl::optional<rpc::Connections> connections_;
  absl::optional<api::UploadPace> upload_pace_;
  std::unique_ptr<rpc::PruneServiceHandle> prune_service_;
  std::unique_ptr<grpc::Service> tensor_service_;
  std::unique_ptr<tls::LiveCredentials> tls_;  // null: plain text
  std::unique_ptr<rpc::GrpcHost> host_;
  std::unique_ptr<web::WebHost> web_;
  std::unique_ptr<PlaceWatch> place_watch_;
};

absl::Status ComposedServer::OpenAuditLog() {
  if (options_.audit_log.empty()) return absl::OkStatus();
  auto audit = AuditLog::Open(options_.audit_log, &metrics_.audit_lines_lost);
  if (!audit.ok()) return Annotate(audit.status(), "audit_log");
  audit_ = *std::move(audit);
  return absl::OkStatus();
}

void ComposedServer::ReopenAuditLog() {
  if (audit_ == nullptr) return;
  const absl::Status status = audit_->Reopen();
  if (status.ok()) return Log(LogLevel::kInfo, "audit.reopen", {{"file", options_.audit_log}});
  Log(LogLevel::kError, "audit.reopen", {{"error", std::string(status.message())}});
}

// The lock comes first: nothing in the folder is touched while another server uses it.
absl::Status ComposedServer::Open() {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      gate_, access::Gate::Open({.token_file = options_.token_file,
                                 .streams = {options_.max_streams, options_.max_streams_per_tenant},
                                 .on_event = LogGate}));
  if (!options_.tls_cert_file.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(tls_, tls::LiveCredentials::Open(TlsOptions(options_, &clock_)));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(lock_, FolderLock::Acquire(options_.data_dir));
  ATTNPRUNE_RETURN_IF_ERROR(OpenAuditLog());
  if (!lock_->notice().empty()) LogStoreWarning(lock_->notice());
  listeners_ =
      std::make_unique<JobListeners>(std::vector<JobStoreListener*>{&log_, &metrics_.jobs});
  ServerStoreContext context = {.clock = &clock_, .listener = listeners_.get(), .owner = &owner_};
  ATTNPRUNE_ASSIGN_OR_RETURN(context.place, OpenPlace(options_));
  ATTNPRUNE_ASSIGN_OR_RETURN(jobs_, OpenJobStore(options_, *lock_, context));
  ATTNPRUNE_ASSIGN_OR_RETURN(tensors_, OpenTensors(options_, *lock_, context));
  return metrics_.jobs.FindQueued(jobs_.get());
}

// Jobs begin to run only when the address is ours: a server that cannot serve runs nothing.
absl::Status ComposedServer::Serve() {
  outlook_ = std::make_unique<api::QueueOutlook>(
      api::QueueOutlookOptions{.workers = options_.workers,
                               .threads_per_job = options_.threads_per_job},
      jobs_.get(), &clock_);
  tenant_bytes_ = std::make_unique<api::TenantBytes>(options_.max_bytes_per_tenant, tensors_.get(),
                                                     jobs_.get(), &clock_);
  tensor_api_ = std::make_unique<api::TensorApi>(tensors_.get(), jobs_.get(), tenant_bytes_.get());
  api_ = std::make_unique<api::JobApi>(ApiOptions(options_), jobs_.get(), tensor_api_.get(),
                                       outlook_.get());
  runs_ = std::make_unique<api::RunApi>(ApiOptions(options_), jobs_.get(), tensor_api_.get(),
                                        tensors_.get(), outlook_.get());
  hub_ = std::make_unique<api::JobHub>(jobs_.get(), &clock_);
  connections_.emplace(options_.max_connections);
  upload_pace_.emplace(options_.max_upload_rate_per_tenant, &clock_);
  workers_ = std::make_unique<WorkerPool>(
      WorkerOptions(options_, owner_, &clock_, &metrics_, &log_), jobs_.get(), tensors_.get());
  auto listeners = std::make_unique<JobListeners>(
      std::vector<JobStoreListener*>{&log_, &metrics_.jobs, hub_.get(), workers_.get()});
  jobs_->SetListener(listeners.get());
  listeners_ = std::move(listeners);
  ATTNPRUNE_RETURN_IF_ERROR(AtLowerPriority([this] { return ServeCalls(); }));
  metrics_.ready = true;
  workers_->Start();
  upkeep_ = std::make_unique<Upkeep>(UpkeepOptionsOf(options_, audit_.get()), jobs_.get(),
                                     tensors_.get());
  place_watch_ = std::make_unique<PlaceWatch>(
      kPlaceInterval, [this] { return CheckInPlace(); },
      [this](const absl::Status& status) { OnPlaceChange(status); });
  return absl::OkStatus();
}

absl::Status ComposedServer::ServeCalls() {
  rpc::PruneServiceOptions prune_options;
  prune_options.heartbeat = options_.heartbeat;
  prune_options.on_call = TellOfRpcs(audit_.get());
  prune_options.connections = &*connections_;
  prune_service_ = rpc::NewPruneService(prune_options, gate_.get(), api_.get(), runs_.get(),
                                        hub_.get(), outlook_.get());
  rpc::TensorServiceOptions tensor_options;
  tensor_options.max_chunk_bytes = options_.max_chunk_bytes;
  tensor_options.metrics = &metrics_.transfers;
  tensor_options.on_call = TellOfRpcs(audit_.get());
  tensor_options.connections = &*connections_;
  tensor_options.pace = &*upload_pace_;
  tensor_service_ = rpc::NewTensorService(tensor_options, gate_.get(), tensor_api_.get());
  ATTNPRUNE_ASSIGN_OR_RETURN(
      host_, rpc::GrpcHost::Start({.listen = options_.listen,
                                   .max_message_bytes = options_.max_message_bytes,
                                   .calls = &metrics_.rpcs,
                                   .connections = &*connections_,
                                   .tls = tls_.get(),
                                   .short_of_memory = ShortOfMemory(ThisMachine().memory_bytes),
                                   .on_strangers_closed = LogStrangersClosed},
                                  {prune_service_->service(), tensor_service_.get()}));
  return ServeHttp();
}

absl::Status ComposedServer::CheckInPlace() const {
  ATTNPRUNE_RETURN_IF_ERROR(jobs_->CheckInPlace());
  return tensors_->CheckInPlace();
}

void ComposedServer::SetServing(bool serving) {
  metrics_.ready = serving;
  if (host_ != nullptr) host_->SetServing(serving);
  if (web_ != nullptr) web_->SetServing(serving);
}

// Whatever is written meanwhile is refused by the stores themselves; jobs wait.
void ComposedServer::OnPlaceChange(const absl::Status& status) {
  SetServing(status.ok());
  Log(status.ok() ? LogLevel::kInfo : LogLevel::kError, "server.place",
      {{"error", std::string(status.message())}});
}

absl::Status ComposedServer::ServeHttp() {
  if (options_.http_listen.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<web::WebHost>> web = web::WebHost::Start(
      WebOptionsOf(options_, tls_.get(), audit_.get()),
      {.gate = gate_.get(),
       .api = api_.get(),
       .runs = runs_.get(),
       .hub = hub_.get(),
       .tensors = tensors_.get(),
       .tensor_api = tensor_api_.get(),
       .metrics = &metrics_.web,
       .metrics_text = [this] { return metrics_.Text(jobs_.get(), *tensors_, options_.data_dir); },
       .transfers = &metrics_.transfers,
       .pace = &*upload_pace_});
  if (web.ok()) {
    web_ = *std::move(web);
    Log(LogLevel::kInfo, "http.start",
        {{"address", web_->address()},
         {"max_connections", absl::StrCat(options_.max_http_connections)}});
  } else if (options_.http_optional) {
    Log(LogLevel::kWarning, "http.none", {{"error", std::string(web.status().message())}});
  } else {
    return web.status();
  }
  return absl::OkStatus();
}

bool ComposedServer::Drain(absl::Duration timeout) {
  if (drained_.exchange(true)) return true;
  const absl::Time deadline = SteadyNow() + timeout;
  metrics_.draining = true;
  place_watch_.reset();  // before what it would set back
  SetServing(false);
  const bool idle = workers_ == nullptr || workers_->Drain(kDrainJobs * timeout);
  if (prune_service_ != nullptr) prune_service_->Drain();
  if (web_ != nullptr) web_->Shutdown(std::min(deadline, SteadyNow() + kDrainHttp));
  if (host_ != nullptr) host_->Shutdown(deadline);
  return idle;
}

ComposedServer::~ComposedServer() {
  Drain(absl::ZeroDuration());
  web_.reset();
  host_.reset();
  upkeep_.reset();
  if (jobs_ != nullptr) jobs_->SetListener(nullptr);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ServerOptions checked, CheckedOptions(options, ThisMachine()));
  auto server = std::make_unique<ComposedServer>(std::move(checked));
  ATTNPRUNE_RETURN_IF_ERROR(server->Open());
  ATTNPRUNE_RETURN_IF_ERROR(server->Serve());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace attnprune
