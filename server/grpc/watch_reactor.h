// WatchJob's streams over gRPC's callback API: what api::JobHub tells, as messages.
#ifndef ATTNPRUNE_SERVER_GRPC_WATCH_REACTOR_H_
#define ATTNPRUNE_SERVER_GRPC_WATCH_REACTOR_H_

#include <grpcpp/support/server_callback.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <set>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "attnprune/v1/prune_service.pb.h"
#include "core/base/mutex.h"
#include "server/api/job_hub.h"
#include "server/api/queue_outlook.h"
#include "server/grpc/call_record.h"

namespace attnprune::rpc {

class WatchReactor;

// The streams that are open, so that the server can end them. Thread-safe.
class WatchRegistry {
 public:
  // False: the server drains, and no stream may begin.
  bool Add(const std::shared_ptr<WatchReactor>& watch);
  void Remove(const std::shared_ptr<WatchReactor>& watch);
  // Takes no more streams and ends those there are with UNAVAILABLE, each after its write in
  // flight.
  void Drain();

 private:
  Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::shared_ptr<WatchReactor>> watches_ ABSL_GUARDED_BY(mutex_);
};

// What streams use; everything must outlive them.
struct WatchContext {
  api::JobHub* hub;
  api::QueueOutlook* outlook;  // of the heartbeats
  boost::asio::thread_pool* io;
  WatchRegistry* registry;
  absl::Duration heartbeat;  // an idle stream gets one this often
};

// One stream. One write is in flight at most; what to write next is read when it is done, so that a
// client that reads nothing holds one batch and no more. A watcher that leaves does not touch the
// job. Keeps itself alive from Start to OnDone.
class WatchReactor final : public grpc::ServerWriteReactor<v1::JobEvent>,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  // Begins the stream and returns its reactor, for gRPC.
  static WatchReactor* Start(const WatchContext& context, const v1::WatchJobRequest& request,
                             CallRecord record);

  WatchReactor(const WatchContext& context, CallRecord record);
  void Drain();

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Each runs on the strand, and so alone.
  void Open(const v1::WatchJobRequest& request);
  void OnNews();
  void OnTick();
  void Pump();
  bool ReadMore();
  void Write(std::shared_ptr<const v1::JobEvent> event);
  void WriteHeartbeat();
  void End(const grpc::Status& status);
  void SetTimer();

  void Post(std::function<void()> task);

  const WatchContext context_;
  const CallRecord record_;
  const boost::asio::strand<boost::asio::thread_pool::executor_type> strand_;

  // Touched on the strand only.
  absl::optional<api::LogPlace> place_;
  std::shared_ptr<api::JobWatch> watch_;
  api::SharedBatch batch_;
  size_t next_ = 0;                                // of the batch, to be written
  std::shared_ptr<const v1::JobEvent> in_flight_;  // gRPC reads it until OnWriteDone
  bool writing_ = false;
  bool replay_only_ = false;
  bool idle_ = true;  // nothing written since the last tick
  bool ended_ = false;
  absl::optional<grpc::Status> end_;  // the stream is to end so as soon as nothing is in flight
  boost::asio::steady_timer timer_;

  std::shared_ptr<WatchReactor> self_;  // set by Start, let go of by OnDone
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_WATCH_REACTOR_H_
