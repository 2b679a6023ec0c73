// At most so many connections, each lent to one transaction at a time.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_CONNECTION_POOL_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_CONNECTION_POOL_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/queue/postgres/connection.h"

namespace attnprune::postgres {

// Thread-safe. Connections are made when they are asked for, and kept.
class ConnectionPool {
 public:
  // most: at least 1. wait: for one that is lent, before UNAVAILABLE.
  ConnectionPool(StoreUrl url, int most, absl::Duration wait)
      : url_(std::move(url)), wait_(wait), free_places_(most) {}

  // A connection, and its place in the pool, until it is destroyed.
  class Loan {
   public:
    Loan(ConnectionPool* pool, std::unique_ptr<Connection> connection)
        : pool_(pool), connection_(std::move(connection)) {}
    ~Loan() {
      if (connection_ != nullptr) pool_->TakeBack(std::move(connection_));
    }
    Loan(Loan&&) = default;
    Loan& operator=(Loan&&) = delete;

    Connection& operator*() { return *connection_; }
    Connection* operator->() { return connection_.get(); }

   private:
    ConnectionPool* pool_;
    std::unique_ptr<Connection> connection_;
  };

  absl::StatusOr<Loan> Take();

  const StoreUrl& url() const { return url_; }

 private:
  // One that was lost takes those with it that lie idle: they are of the same server.
  void TakeBack(std::unique_ptr<Connection> connection);
  void FreePlace();

  const StoreUrl url_;
  const absl::Duration wait_;
  Mutex mutex_;
  CondVar freed_;
  int free_places_ ABSL_GUARDED_BY(mutex_);  // may be lent
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_CONNECTION_POOL_H_
