// A server's API as plain functions: deadlines, retries, uploads and watches that go on where a
// broken connection left them.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_CLIENT_H_
#define ATTNPRUNE_CLIENT_LIBRARY_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/run.pb.h"
#include "attnprune/v1/tensor_service.pb.h"
#include "client/library/backoff.h"

namespace attnprune::client {

class Connection;

struct ClientOptions {
  std::string server;  // HOST:PORT. Required
  // TLS where any of these four is given. PEM files, read by Create. The server's certificate must
  // be for the name or address in `server`, and of one of the authorities in ca_file or, where that
  // is empty, the system's.
  bool tls = false;
  std::string ca_file;
  std::string cert_file, key_file;  // shown to a server that asks for them; both or neither
  // A token, sent with every call: one line of at most 512 printable ASCII characters. Without TLS
  // to this machine only.
  std::string token_file;
  absl::Duration call_timeout = absl::Seconds(30);  // of each try of a call that is no stream
  // Of each try of an upload or a download: call_timeout, and this for each MiB that is left.
  absl::Duration timeout_per_mib = absl::Seconds(10);
  absl::Duration keepalive = absl::Seconds(20);  // a peer that answers no ping is taken for gone
  RetryOptions retry;                            // of calls, uploads and downloads
  // Of a watch: longer, so that a server can be restarted under it.
  RetryOptions watch_retry = {.longest = absl::Seconds(5), .patience = absl::Minutes(5)};
  // While a watch, or a call that is no stream, is under way: false within 2 s once the server
  // answers nothing, also where its machine hangs or the network loses everything; true once it
  // answers again. The watch or the call goes on either way. Never at the same time as a watch's
  // handler; may be from a thread of the client's.
  std::function<void(bool)> reachable;
  int64_t chunk_bytes = int64_t{1} << 20;  // of an upload; never more than the server takes
  // Ends all waiting: calls now under way end with CANCELLED, and so do later ones.
  std::stop_token interrupt;
  // Waits between two tries; empty: real time. False: give up with CANCELLED. For tests.
  std::function<bool(absl::Duration)> sleep;
  // For the server's log (trace/trace_context.h). traceparent: what the calls are part of; a new
  // trace if it is empty or breaks the grammar. request_id: of every call; where it is empty or
  // breaks the rules, each call has a random one, the same for all its tries.
  std::string traceparent, request_id;
};

// A tensor to upload. `ref` has dtype, shape and digest; `bytes` must outlive the call.
struct LocalTensor {
  v1::TensorRef ref;
  absl::Span<const char> bytes;
};

// Digest filled in.
LocalTensor MakeLocalTensor(v1::TensorRef ref, absl::Span<const char> bytes);

struct UploadProgress {
  int64_t sent_bytes = 0;   // handed to the connection in this call, repeats included
  int64_t total_bytes = 0;  // of the tensors that the server lacked when it was asked
};
using UploadObserver = std::function<void(const UploadProgress&)>;

// True: go on; false: stop watching.
using EventHandler = std::function<bool(const v1::JobEvent&)>;

// Thread-safe. Every error is the server's own with its details (status_details.h), or the
// connection's; RequestIdOf finds it in the server's log. UNAVAILABLE, and CANCELLED without
// an interrupt (a server that shuts down), are retried until the options' patience is used up,
// unless it is for its certificate, its name or the want of TLS that the server is not taken.
// Nothing else is retried: a call that its deadline cut off may have taken effect.
class Client {
 public:
  // Makes no connection yet. INVALID_ARGUMENT: no server named, or a file that breaks a rule, which
  // the error names; it never has a token.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const ClientOptions& options);
  ~Client();

  // OK if the server serves; UNAVAILABLE if it drains or cannot be reached.
  absl::Status CheckHealth();
  absl::StatusOr<v1::ServerInfo> GetServerInfo();

  // Without a request_id it gets a random one, so that a retry never makes a second job.
  absl::StatusOr<v1::Job> CreateJob(v1::CreateJobRequest request);
  absl::StatusOr<v1::Job> GetJob(const std::string& name);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<v1::Job> CancelJob(const std::string& name);
  // A job that a lost first try has deleted counts as deleted.
  absl::Status DeleteJob(const std::string& name);

  // The same for runs.
  absl::StatusOr<v1::Run> CreateRun(v1::CreateRunRequest request);
  absl::StatusOr<v1::Run> GetRun(const std::string& name);
  absl::StatusOr<v1::ListRunsResponse> ListRuns(const v1::ListRunsRequest& request);
  absl::StatusOr<v1::Run> CancelRun(const std::string& name);
  absl::Status DeleteRun(const std::string& name);
  // A run that a lost first try has put back into the queue counts as resumed.
  absl::StatusOr<v1::Run> ResumeRun(const std::string& name);

  // Sends what the server lacks. An upload that was cut off, by this process or an earlier one,
  // goes on from what the server has committed. While another client sends the same tensor, waits
  // for it as for a server that is not there. OK: the server has all of them.
  absl::StatusOr<UploadProgress> Upload(absl::Span<const LocalTensor> tensors,
                                        const UploadObserver& observer = nullptr);

  // A page of what is stored of the caller's tenant, and of uploads that are not finished.
  absl::StatusOr<v1::ListTensorsResponse> ListTensors(const v1::ListTensorsRequest& request);

  // The tensor's bytes, resumed where a connection broke. DATA_LOSS: they do not have that digest.
  absl::StatusOr<std::string> Download(const std::string& sha256);

  // Hands every event after `after_sequence` to `handler`, in order and once each, across broken
  // connections and restarts of the server, and returns the job as the terminal event has it.
  // Of heartbeats it gets those that say what the job waits for; their sequence is 0. History that
  // was compacted away: a warning with sequence 0 takes its place. CANCELLED: the handler or the
  // interrupt has stopped it; the job goes on.
  absl::StatusOr<v1::Job> Watch(const std::string& name, int64_t after_sequence,
                                const EventHandler& handler);
  // The same for those events that the job has by now; returns the job as it then is, which may go
  // on. Gives up as other calls do, not as a watch.
  absl::StatusOr<v1::Job> Replay(const std::string& name, const EventHandler& handler);
  // Watch of a run. One that was resumed after its end is followed to its next one.
  absl::StatusOr<v1::Run> WatchRun(const std::string& name, int64_t after_sequence,
                                   const EventHandler& handler);

 private:
  explicit Client(std::unique_ptr<Connection> connection);

  const std::unique_ptr<Connection> connection_;
};

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_CLIENT_H_
