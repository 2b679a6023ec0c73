// The uploads that streams of this server are writing, and the room that all tensors take.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_HELD_UPLOADS_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_HELD_UPLOADS_H_

#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "core/base/mutex.h"
#include "server/blobs/blob_store.h"
#include "server/blobs/shared/blob_ledger.h"

namespace attnprune {

// Renews the holds on a thread of its own. Other servers' bytes are those that the ledger knows of,
// a second old at most. Thread-safe.
class HeldUploads {
 public:
  static constexpr absl::Duration kLease = absl::Seconds(15);

  // name: of this server. ledger must outlive it.
  HeldUploads(std::string name, const BlobStoreLimits& limits, BlobLedger* ledger);
  ~HeldUploads();

  // Takes the upload for a stream of this server, in the ledger too: BlobLedger::Hold.
  struct Hold {
    std::string holder;
    HeldUpload upload;
  };
  absl::StatusOr<Hold> Take(const UploadSpec& spec, int64_t offset);
  // Counts `bytes` more, which are about to be written. RESOURCE_EXHAUSTED: max_total_bytes.
  absl::Status TakeRoom(const std::string& key, int64_t bytes);
  void RecordProgress(const std::string& key, int64_t received);
  // It is no longer held here, whatever the ledger says.
  void Forget(const std::string& key);

  // Of one that is held here.
  absl::optional<int64_t> Received(const std::string& key) const;
  std::vector<std::string> Holders() const;

  // What the ledger has changed: the figures are asked for anew.
  void Invalidate();
  // As far as the database could be asked.
  BlobStoreUsage Usage();
  int64_t BytesOf(const std::string& tenant);

 private:
  struct Own {
    std::string tenant, holder;
    int64_t taken = 0, received = 0;
  };

  void Renew();
  absl::Status TakeInLedger(const UploadSpec& spec, int64_t offset, Hold& hold);
  absl::Status UpdateFigures();
  int64_t TakenLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const BlobStoreLimits limits_;
  BlobLedger* const ledger_;

  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_map<std::string, Own> own_ ABSL_GUARDED_BY(mutex_);
  LedgerFigures figures_ ABSL_GUARDED_BY(mutex_);
  absl::Time figures_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::jthread renewing_;  // last: it uses all of the above
};

// 32 random digits: of a holder, and of an object's name.
std::string RandomDigits();

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_HELD_UPLOADS_H_
