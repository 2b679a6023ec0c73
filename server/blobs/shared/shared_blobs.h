// A shared blob store's parts, for its own files.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_BLOBS_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_BLOBS_H_

#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/base/mutex.h"
#include "server/blobs/disk_room.h"
#include "server/blobs/shared/blob_cache.h"
#include "server/blobs/shared/held_uploads.h"
#include "server/blobs/shared/shared_blob_store.h"

namespace attnprune {

// "sha256/ab/…", never used before.
std::string NewBlobObject(const std::string& sha256);
// DATA_LOSS.
absl::Status WrongObjectSize(const std::string& sha256, int64_t wanted, int64_t size);

// What uploads and the store work with. Thread-safe.
class SharedBlobs {
 public:
  SharedBlobs(const SharedBlobStoreOptions& options, std::shared_ptr<ObjectPlace> place,
              std::unique_ptr<BlobLedger> ledger)
      : options_(options),
        disk_(options.local_folder, options.min_free_disk_bytes),
        place_(std::move(place)),
        ledger_(std::move(ledger)),
        held_(options.name, options.limits, ledger_.get()) {}

  absl::Status Open();

  const SharedBlobStoreOptions& options() const { return options_; }
  const DiskRoom& disk() const { return disk_; }
  ObjectPlace& place() const { return *place_; }
  BlobLedger& ledger() const { return *ledger_; }
  HeldUploads& held() { return held_; }
  BlobCache& cache() const { return *cache_; }

  // Removes them; what fails is left for Collect.
  void Sweep(const SpareObjects& spare) const;
  // The object is whole: it is the tensor now. ABORTED: it took too long, and is given up.
  absl::Status Publish(const StoredBlob& blob);
  // Writes an object by `put` and publishes it; anew where it was given up meanwhile.
  absl::Status PutNew(const std::string& sha256, int64_t size,
                      absl::FunctionRef<absl::Status(const std::string& object)> put);
  // Whether the tensor's object is there and of its size. One that is not is withdrawn.
  absl::StatusOr<bool> IsIntact(const StoredBlob& blob);
  absl::Status Withdraw(const StoredBlob& blob, BlobLedger::Fate fate);

  // NOT_FOUND names the digest.
  absl::StatusOr<StoredBlob> Find(const std::string& sha256) const;
  // Reads and hashes the tensor. DATA_LOSS: it is withdrawn, and its object kept.
  absl::Status Verify(const std::string& sha256);
  // Verify, but an object that this has found whole is not read again.
  absl::Status VerifyOnce(const std::string& sha256);
  // The copy in the cache. NOT_FOUND, DATA_LOSS as of BlobStore::Map.
  absl::StatusOr<std::shared_ptr<const File>> FetchCopy(const StoredBlob& blob,
                                                        BlobCache::Check check) const;
  // Reads the copy while it comes. NOT_FOUND and the place's errors, as far as it tells them at
  // once.
  absl::StatusOr<std::unique_ptr<BlobReader>> FollowCopy(const StoredBlob& blob) const;

 private:
  BlobCache::Source SourceOf(const StoredBlob& blob) const;
  absl::Status CheckPlace();
  absl::Status HashObject(const StoredBlob& blob) const;

  const SharedBlobStoreOptions options_;
  const DiskRoom disk_;
  const std::shared_ptr<ObjectPlace> place_;
  const std::unique_ptr<BlobLedger> ledger_;
  HeldUploads held_;
  std::unique_ptr<BlobCache> cache_;
  Mutex mutex_;
  std::unordered_set<std::string> whole_ ABSL_GUARDED_BY(mutex_);  // objects
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_BLOBS_H_
