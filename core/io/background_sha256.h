// SHA-256 of a stream of bytes, on a thread of its own while more of them come.
#ifndef ATTNPRUNE_CORE_IO_BACKGROUND_SHA256_H_
#define ATTNPRUNE_CORE_IO_BACKGROUND_SHA256_H_

#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "core/io/sha256.h"

namespace attnprune {

// A stream of one piece takes no thread; where none can be had the caller's hashes. One thread
// calls it.
class BackgroundSha256 {
 public:
  static constexpr size_t kMostPieces = 4;  // that wait

  BackgroundSha256() = default;
  ~BackgroundSha256();
  BackgroundSha256(const BackgroundSha256&) = delete;
  BackgroundSha256& operator=(const BackgroundSha256&) = delete;

  // Waits while kMostPieces wait. Returns a piece that is through, of any size: its memory can be
  // used again.
  std::string Update(std::string piece);
  // 64 lower-case hexadecimal digits. The object is of no use afterwards.
  std::string Finish();

 private:
  bool Start();
  void Run();

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::string> pieces_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> used_ ABSL_GUARDED_BY(mutex_);
  bool over_ ABSL_GUARDED_BY(mutex_) = false;  // no more will come
  bool begun_ = false;
  Sha256 hash_;          // the thread's while there is one
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_BACKGROUND_SHA256_H_
