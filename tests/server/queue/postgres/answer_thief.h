// Stands between a store and PostgreSQL and steals answers, as a network does.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_ANSWER_THIEF_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_ANSWER_THIEF_H_

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/base/mutex.h"

namespace attnprune::testing {

// A unix socket that passes everything on, both ways. Thread-safe.
class AnswerThief {
 public:
  // server_folder: of the server's socket.
  explicit AnswerThief(const std::string& server_folder);
  ~AnswerThief();
  AnswerThief(const AnswerThief&) = delete;
  AnswerThief& operator=(const AnswerThief&) = delete;

  const std::string& folder() const { return folder_; }  // of its own socket

  // The next COMMIT reaches the server, which does it; in place of its answer the connection ends.
  void StealNextCommit() { armed_ = true; }
  int stolen() const { return stolen_; }

 private:
  void Accept();
  void PassOn(int client);

  const std::string server_socket_;
  std::string folder_;
  int listener_;
  std::atomic<bool> armed_{false};
  std::atomic<int> stolen_{0};
  std::atomic<bool> stopping_{false};
  Mutex mutex_;
  std::vector<std::thread> passers_ ABSL_GUARDED_BY(mutex_);
  std::thread accepter_;
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_ANSWER_THIEF_H_
