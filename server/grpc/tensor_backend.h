// What the calls of TensorService work with.
#ifndef ATTNPRUNE_SERVER_GRPC_TENSOR_BACKEND_H_
#define ATTNPRUNE_SERVER_GRPC_TENSOR_BACKEND_H_

#include <grpcpp/grpcpp.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/api/tensor_api.h"
#include "server/grpc/call_record.h"
#include "server/grpc/fair_share.h"
#include "server/grpc/tensor_service.h"

namespace attnprune::rpc {

namespace asio = boost::asio;

// The calls that still use a service. Thread-safe.
class RunningCalls {
 public:
  void Begin() {
    MutexLock lock(&mutex_);
    ++running_;
  }
  void End() {
    MutexLock lock(&mutex_);
    if (--running_ == 0) none_.NotifyAll();
  }
  void AwaitNone() {
    MutexLock lock(&mutex_);
    none_.Wait(&mutex_, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return running_ == 0; });
  }

 private:
  Mutex mutex_;
  CondVar none_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Outlives the calls.
struct TensorBackend {
  TensorServiceOptions options;
  const api::TensorApi* tensors;
  CallPort port;
  RunningCalls calls;
  FairShare budget;
  asio::thread_pool io;
};

// Cancels a call whose message does not come, or is not taken, in time. Thread-safe; shared with
// the timer, which may outlive the call.
class StallTimer : public std::enable_shared_from_this<StallTimer> {
 public:
  StallTimer(asio::thread_pool& io, grpc::CallbackServerContext* call) : timer_(io), call_(call) {}

  void Start(absl::Duration limit) {
    const MutexLock lock(&mutex_);
    const int64_t message = ++message_;
    timer_.expires_after(absl::ToChronoNanoseconds(limit));
    timer_.async_wait([self = shared_from_this(), message](const boost::system::error_code& error) {
      if (!error) self->OnLate(message);
    });
  }
  void Stop() {
    const MutexLock lock(&mutex_);
    ++message_;
    timer_.cancel();
  }
  void ForgetCall() {
    const MutexLock lock(&mutex_);
    call_ = nullptr;
    timer_.cancel();
  }

 private:
  void OnLate(int64_t message) {
    const MutexLock lock(&mutex_);
    if (call_ != nullptr && message == message_) call_->TryCancel();
  }

  Mutex mutex_;
  asio::steady_timer timer_ ABSL_GUARDED_BY(mutex_);
  grpc::CallbackServerContext* call_ ABSL_GUARDED_BY(mutex_);
  int64_t message_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_TENSOR_BACKEND_H_
