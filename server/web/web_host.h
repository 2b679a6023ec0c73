// The HTTP port: the page, the API as JSON, live events, metrics and health, put together.
#ifndef ATTNPRUNE_SERVER_WEB_WEB_HOST_H_
#define ATTNPRUNE_SERVER_WEB_WEB_HOST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/access/gate.h"
#include "server/api/job_api.h"
#include "server/api/job_hub.h"
#include "server/api/run_api.h"
#include "server/api/tensor_api.h"
#include "server/api/upload_pace.h"
#include "server/http/http_server.h"
#include "server/http/web_metrics.h"
#include "server/observe/call_log.h"
#include "server/observe/instruments.h"

namespace attnprune::web {

struct WebOptions {
  http::HttpServerOptions http;
  std::vector<std::string> hosts;  // names of this one, for http::CheckAccess
  absl::Duration heartbeat =
      absl::Seconds(15);                      // a silent stream of events gets a comment this often
  int io_threads = 2;                         // that wait for the disk and make JSON
  int64_t max_json_bytes = int64_t{4} << 20;  // of the body of a create
  int transfer_threads = 2;                   // that read, write and hash tensors
  bool https = false;    // browsers reach it over TLS: cookies are sent so only
  HttpListener on_call;  // told of an answer before the client can know of it; may be empty
};

// Uploads, downloads and requests with more than a little JSON that may be under way; more get 429.
inline constexpr int kMaxTransfers = 64;

// Of so many connections, those that may be streams of events: the rest is for requests, /metrics
// among them, however many viewers there are. Pure.
constexpr int MaxViewers(int connections) { return connections - (connections + 7) / 8; }

// What is shown. Everything must outlive the host.
struct WebParts {
  const access::Gate* gate;
  const api::JobApi* api;
  const api::RunApi* runs;
  api::JobHub* hub;
  const BlobStore* tensors;
  const api::TensorApi* tensor_api;
  http::WebMetrics* metrics;
  std::function<std::string()> metrics_text;  // of /metrics; from any thread, may wait for the disk
  TransferMetrics* transfers = nullptr;       // may be null
  api::UploadPace* pace = nullptr;            // may be null: no limit
};

// Thread-safe. No thread but its own does any of its work.
class WebHost {
 public:
  // UNAVAILABLE: cannot listen there, and why.
  static absl::StatusOr<std::unique_ptr<WebHost>> Start(const WebOptions& options, WebParts parts);
  virtual ~WebHost() = default;  // Shutdown at once

  virtual int port() const = 0;
  virtual std::string address() const = 0;  // HOST:PORT
  // Whether /healthz says 200 or 503; everything is answered either way.
  virtual void SetServing(bool serving) = 0;
  // Takes no more requests, ends streams (a browser comes back and goes on from its last event),
  // answers what was asked. Returns when all is done, or at `deadline` (of SteadyNow) after closing
  // what is not.
  virtual void Shutdown(absl::Time deadline) = 0;
};

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_WEB_HOST_H_
