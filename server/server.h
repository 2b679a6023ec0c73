// One pruning server: stores, workers and gRPC, put together. attnprune-server runs one for good,
// `attnprune run` one for a job.
#ifndef ATTNPRUNE_SERVER_SERVER_H_
#define ATTNPRUNE_SERVER_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace attnprune {

struct ServerOptions {
  std::string listen = "127.0.0.1:50051";  // HOST:PORT; port 0: any free one
  // HOST:PORT of the page, the API as JSON and metrics (docs/http.md); empty: none
  std::string http_listen;
  bool http_optional = false;           // an address that cannot be had is a warning, no error
  std::vector<std::string> http_hosts;  // names the page is reached by, beside addresses, localhost
  // 0: 2,000, or what the limit of open files and, over TLS, a quarter of the memory leave of them
  int max_http_connections = 0;
  // PEM files of the certificate of both ports and its key, read again when they change; both or
  // neither. Empty: plain text.
  std::string tls_cert_file, tls_key_file;
  // Clients must show a certificate of one of its authorities; empty: none. Needs the two above.
  std::string tls_client_ca_file;
  // listen and http_listen need not be on loopback, also without TLS or tokens
  bool allow_unauthenticated_network = false;
  // Who may do what (access/tokens.h); read again when it changes. Empty: everyone may do all.
  std::string token_file;
  std::string data_dir;  // made if it is missing; one server at a time. Required
  // Where the jobs are: "postgresql://user@host:port/database"; empty: SQLite in data_dir.
  std::string store;
  std::string store_password_file;  // its first line is the database's password; empty: none
  int store_connections = 8;        // to the database at most, and one for other servers' news
  // Where tensors and checkpoints are that all servers of `store` share (objects/blobs_url.h);
  // empty: in data_dir, so that a database goes with one folder.
  std::string blobs;
  std::string blobs_credentials_file;            // objects/s3_credentials.h; empty: the environment
  int64_t blob_cache_bytes = int64_t{32} << 30;  // copies, in data_dir, of what is in a bucket
  std::string audit_log;     // file that gets a line a change (observe/audit_log.h); empty: none
  bool accept_loss = false;  // starts although jobs that were accepted are missing, and says so

  int workers = 1;          // jobs that run at the same time, at least 1
  int threads_per_job = 0;  // that solve one job; 0: the cores divided by the workers. Never
                            // changes a result

  int64_t max_queued_jobs = 10'000;
  // Of one tenant, 0: no limit: queued jobs; jobs that run at the same time; the tensors that it
  // has uploaded or that its jobs have, and its uploads.
  int64_t max_queued_per_tenant = 0, max_running_per_tenant = 0, max_bytes_per_tenant = 0;
  // Of one tenant's uploads together, a second; 0: no limit. Beyond it the server reads more
  // slowly.
  int64_t max_upload_rate_per_tenant = 0;
  // To gRPC's port (grpc/connections.h). 0: 4,000, or what the limit of open files and, over TLS, a
  // quarter of the memory leave of them.
  int64_t max_connections = 0;
  // Uploads, downloads and watches that are open at the same time; a tenant's: 0: a half of all
  // where there are tokens.
  int64_t max_streams = 4000, max_streams_per_tenant = 0;
  int64_t max_tensor_bytes = int64_t{4} << 30;  // of one tensor
  int64_t max_total_bytes = int64_t{64} << 30;  // of all tensors and uploads
  int64_t max_job_memory_bytes = 0;  // a job's budget; 0: the memory divided by the workers
  int64_t max_message_bytes = int64_t{4} << 20;  // of a message, or JSON, received; at least 64 KiB
  int64_t max_chunk_bytes = int64_t{2} << 20;    // of an upload; below max_message_bytes

  absl::Duration checkpoint_interval = absl::Seconds(5);  // a crash loses so much of the solving
  absl::Duration progress_interval = absl::Milliseconds(100);  // between two writes of a job's own
  absl::Duration lease = absl::Seconds(30);      // a worker silent for so long loses its job
  absl::Duration heartbeat = absl::Seconds(15);  // an idle watch stream gets one this often
  absl::Duration keep_finished;  // a job or run is deleted so long after its end; zero: never
  absl::Duration tensor_grace = absl::Hours(24);        // an unused tensor is kept for so long
  absl::Duration collect_interval = absl::Minutes(10);  // between two looks for such jobs, tensors
};

// Thread-safe. Knows no signals and no flags; logs through spdlog's default logger.
class Server {
 public:
  // OK means that it serves and that the jobs of the folder run on. InitializeBlas must have been
  // called. INVALID_ARGUMENT: an option (named), a file of TLS or of tokens among them;
  // FAILED_PRECONDITION: another server uses the folder, or the database (store) or the place of
  // tensors (blobs) will not do;
  // PERMISSION_DENIED: the folder cannot be written; UNAUTHENTICATED: the database refuses user or
  // password; UNAVAILABLE: the address cannot be listened on, no database answers; DATA_LOSS: the
  // database is damaged, or jobs that were accepted are missing from it; RESOURCE_EXHAUSTED: the
  // disk is full.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);

  virtual ~Server() = default;  // Drain, with no time given

  virtual int port() const = 0;
  // "127.0.0.1:50051", with the port that is listened on.
  virtual std::string address() const = 0;
  // Of HTTP, alike; 0 and "" if there is none.
  virtual int http_port() const = 0;
  virtual std::string http_address() const = 0;

  // The audit log goes on in the file that is at its path now: after it was rotated.
  virtual void ReopenAuditLog() = 0;

  // Ends in order, within `timeout` or little more: health says NOT_SERVING, running jobs are
  // checkpointed and given back to the queue, watch streams end with UNAVAILABLE, calls get to
  // their ends. True: nothing runs any more. False: some step of a job took longer than that; the
  // job is given back all the same, and the destructor will wait for the step. A process that is
  // about to end need not destroy the server after Drain. Only the first call does anything.
  virtual bool Drain(absl::Duration timeout) = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_SERVER_H_
