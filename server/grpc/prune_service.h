// PruneService over api::JobApi and api::JobHub: gRPC's callback API, a thread pool for what waits.
#ifndef ATTNPRUNE_SERVER_GRPC_PRUNE_SERVICE_H_
#define ATTNPRUNE_SERVER_GRPC_PRUNE_SERVICE_H_

#include <memory>

#include "absl/time/time.h"
#include "server/access/gate.h"
#include "server/api/job_api.h"
#include "server/api/job_hub.h"
#include "server/api/queue_outlook.h"
#include "server/api/run_api.h"
#include "server/grpc/call_record.h"

namespace grpc {
class Service;
}

namespace attnprune::rpc {

class Connections;

struct PruneServiceOptions {
  absl::Duration heartbeat = absl::Seconds(15);  // an idle watch stream gets one this often
  int io_threads = 4;                  // that wait for the disk; calls and streams share them
  RpcListener on_call;                 // told of each call's end; may be empty
  Connections* connections = nullptr;  // told of who is let in; may be null; must outlive it
};

// Thread-safe.
class PruneServiceHandle {
 public:
  virtual ~PruneServiceHandle() = default;
  virtual grpc::Service* service() = 0;
  // Ends all watch streams with UNAVAILABLE, each after its write in flight, and begins no more.
  virtual void Drain() = 0;
};

// What is passed must outlive it. Destroy it after the gRPC server was shut down; it waits for the
// calls it has begun.
std::unique_ptr<PruneServiceHandle> NewPruneService(const PruneServiceOptions& options,
                                                    const access::Gate* gate,
                                                    const api::JobApi* jobs,
                                                    const api::RunApi* runs, api::JobHub* hub,
                                                    api::QueueOutlook* outlook);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_PRUNE_SERVICE_H_
