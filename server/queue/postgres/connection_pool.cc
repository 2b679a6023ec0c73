#include "server/queue/postgres/connection_pool.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace attnprune::postgres {

absl::StatusOr<ConnectionPool::Loan> ConnectionPool::Take() {
  {
    const MutexLock lock(&mutex_);
    const bool free = freed_.WaitFor(
        &mutex_, wait_, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return free_places_ > 0; });
    if (!free) {
      return absl::UnavailableError(
          absl::StrCat("database: every connection was in use for ", absl::FormatDuration(wait_)));
    }
    --free_places_;
    if (!idle_.empty()) {
      Loan loan(this, std::move(idle_.back()));
      idle_.pop_back();
      return loan;
    }
  }
  absl::StatusOr<Connection> connection = Connection::Open(url_);
  if (connection.ok()) return Loan(this, std::make_unique<Connection>(*std::move(connection)));
  FreePlace();
  return connection.status();
}

void ConnectionPool::TakeBack(std::unique_ptr<Connection> connection) {
  std::vector<std::unique_ptr<Connection>> closed;  // outside the lock
  {
    const MutexLock lock(&mutex_);
    if (connection->trouble() == Trouble::kLost) {
      closed.swap(idle_);
      closed.push_back(std::move(connection));
    } else {
      idle_.push_back(std::move(connection));
    }
  }
  FreePlace();
}

void ConnectionPool::FreePlace() {
  {
    const MutexLock lock(&mutex_);
    ++free_places_;
  }
  freed_.NotifyAll();
}

}  // namespace attnprune::postgres
