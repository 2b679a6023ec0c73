// The finished tensors of a POSIX blob store: one folder of files named by their digests.
#ifndef ATTNPRUNE_SERVER_BLOBS_BLOB_FOLDER_H_
#define ATTNPRUNE_SERVER_BLOBS_BLOB_FOLDER_H_

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/io/file.h"
#include "core/io/mapped_file.h"
#include "server/blobs/blob_store.h"

namespace attnprune {

// Thread-safe. One lock, a leaf: neither data nor fsync is waited for under it, but for
// publishing_'s condition, which lasts an fsync of three folders.
class BlobFolder {
 public:
  // folder: FOLDER/tensors, which must exist. clock must outlive it.
  BlobFolder(const std::string& folder, const Clock* clock);

  // Makes sha256/ and corrupt/ and counts what is there. Before any other call.
  absl::Status Open();

  // As in BlobStore.
  absl::StatusOr<int64_t> SizeOf(const std::string& sha256) const;
  absl::StatusOr<MappedFile> Map(const std::string& sha256, int64_t size_bytes) const;
  absl::StatusOr<File> OpenForReading(const std::string& sha256) const;
  absl::Status Verify(const std::string& sha256);
  // Verify, but a file that this has found whole is not read again.
  absl::Status VerifyOnce(const std::string& sha256);

  absl::StatusOr<std::vector<BlobFacts>> List(const std::string& after, int limit) const;
  std::vector<BlobFacts> LookAt(absl::Span<const std::string> digests) const;

  // The size of a tensor that is there, and its grace begins anew; nullopt: it is not. Waits while
  // it is being published.
  absl::optional<int64_t> FindAndTouch(const std::string& sha256);

  // Renames a synced file of the same disk to its place and syncs both folders. If the tensor is
  // there already, removes the file instead.
  absl::Status Publish(const std::string& temporary, const std::string& sha256, int64_t size_bytes);

  // Adds to *collected what it has removed.
  absl::Status Collect(const std::unordered_set<std::string>& referenced, absl::Duration grace,
                       Collected* collected);

  // Removes the tensor if its grace is over, and adds it to *collected.
  void CollectBlob(const std::string& sha256, absl::Duration grace, Collected* collected);

  int64_t Count() const;
  int64_t Bytes() const;

 private:
  std::string BlobPath(absl::string_view sha256) const;
  absl::optional<BlobFacts> FactsOf(const std::string& sha256) const;
  absl::Status Load();
  absl::StatusOr<std::vector<std::string>> Subfolders() const;
  void AwaitPublished(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Quarantine(const std::string& sha256, const File& file);
  void AddLocked(int sign, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SyncEntry(const std::string& blob_path) const;
  bool FoundWhole(const std::string& sha256, uint64_t inode);

  const std::string folder_;
  const std::string blobs_folder_;       // FOLDER/sha256
  const std::string quarantine_folder_;  // FOLDER/corrupt
  const Clock* const clock_;

  mutable Mutex mutex_;
  CondVar published_;
  // In place, but the folder entry is not on disk yet: does not count, and is not to be removed.
  std::unordered_set<std::string> publishing_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, uint64_t> whole_ ABSL_GUARDED_BY(mutex_);  // inodes, by digest
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_BLOB_FOLDER_H_
