// What the server does by itself, again and again: old jobs go, then the tensors that nobody refers
// to; and memory that nobody uses, more often.
#ifndef ATTNPRUNE_SERVER_UPKEEP_UPKEEP_H_
#define ATTNPRUNE_SERVER_UPKEEP_UPKEEP_H_

#include <atomic>
#include <thread>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/blobs/blob_store.h"
#include "server/queue/job_store.h"
#include "server/upkeep/finished_jobs.h"
#include "server/upkeep/unused_memory.h"

namespace attnprune {

struct UpkeepOptions {
  // See DeleteFinished; infinite: for ever.
  absl::Duration keep_finished = absl::InfiniteDuration();
  absl::Duration tensor_grace = absl::Hours(24);       // see BlobStore::Collect
  absl::Duration interval = absl::Minutes(10);         // of real time between two rounds
  absl::Duration memory_interval = absl::Seconds(10);  // alike, between two looks at memory
  DeletedListener on_deleted = nullptr;  // called on the thread of upkeep; may be empty
};

// A thread that does a round every interval, the first at once, from construction to destruction,
// which waits for no more than what is under way. What fails is logged, and tried again the next
// time. Both stores must outlive it. Thread-safe.
class Upkeep {
 public:
  Upkeep(UpkeepOptions options, JobStore* jobs, BlobStore* tensors);
  ~Upkeep();

 private:
  void Loop();
  // Until the next round is due; false: there is to be none.
  bool LookAfterMemory(absl::Time until);
  bool WaitUntil(absl::Time time);
  void DeleteJobs();
  void Collect();

  const UpkeepOptions options_;
  JobStore* const jobs_;
  BlobStore* const tensors_;
  std::atomic<bool> stopping_{false};  // written under the mutex
  Mutex mutex_;
  CondVar wake_;
  UnusedMemory memory_;  // the thread's
  std::jthread thread_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_UPKEEP_UPKEEP_H_
