// The tensors that jobs read and write, each under the SHA-256 of its bytes.
//
//   <folder>/tensors/sha256/ab/<64 digits>   a finished tensor: raw bytes, read only, never changed
//   <folder>/tensors/corrupt/<64 digits>     one whose bytes had changed; for the operator
//   <folder>/uploads/<upload_id>.data        the bytes of an upload so far
//   <folder>/uploads/<upload_id>.spec        what it is to become (FormatSidecar)
//   <folder>/uploads/<number>.put            a result being written by this server
//
// A file under sha256/ counts only once its bytes and its folder entry are on disk (fsync of the
// file, rename, fsync of the folders), and only with the right digest. What a crash can lose:
// - kill -9: of an upload, only what was not yet passed to Append. Of finished tensors: nothing.
// - power loss: of an upload, what the kernel had not written back (some 30 s). The length that the
//   file system kept is what CommittedBytes tells; should its contents be wrong, the digest does
//   not fit in the end and the upload starts again. Of finished tensors: nothing. Refreshed grace
//   times may fall back to older ones.
// One process at a time may use a folder; whoever composes the server sees to it.
#ifndef ATTNPRUNE_SERVER_BLOBS_BLOB_STORE_H_
#define ATTNPRUNE_SERVER_BLOBS_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/functional/function_ref.h"
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
#include "server/blobs/sha256.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {

struct BlobStoreOptions {
  std::string folder;                               // the server's data folder; made if absent
  int64_t max_tensor_bytes = int64_t{4} << 30;      // of one tensor
  int64_t max_total_bytes = int64_t{64} << 30;      // of all tensors and uploads together
  int64_t min_free_disk_bytes = int64_t{64} << 20;  // uploads leave so much for the database
  int64_t max_uploads = 10000;                      // unfinished ones kept for being resumed
};

struct BlobStoreUsage {
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
  int64_t uploads = 0;       // unfinished, running or left
  int64_t upload_bytes = 0;  // what they may still grow to if running, what they hold if left
};

struct Collected {
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
  int64_t uploads = 0;
};

class BlobStore;

// One stream's hold on an upload; while it lives no other can write the same upload_id. Destroying
// it before Finish leaves the upload to be resumed. Calls come one after the other, from any
// thread. Must not outlive its store.
class Upload {
 public:
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  // The tensor was in the store already: nothing is to be sent and neither function below called.
  bool already_there() const { return file_.fd() < 0; }
  const UploadSpec& spec() const { return spec_; }
  int64_t received() const { return received_; }  // bytes from the tensor's beginning

  // Writes data behind what was received, calls on_written (the moment to ask for more: a kill
  // loses none of data any more), then hashes it. INVALID_ARGUMENT (data): more than size_bytes;
  // nothing of data is kept. RESOURCE_EXHAUSTED: the disk is full; the upload is removed, which
  // gives its space back. After an error only the destructor may follow.
  absl::Status Append(
      absl::Span<const char> data, absl::FunctionRef<void()> on_written = [] {});

  // OK means that the tensor is on disk and counts. INVALID_ARGUMENT: bytes are missing (data; the
  // upload stays) or the digest is another (header.sha256, expected and got; the upload is
  // removed).
  absl::Status Finish();

 private:
  friend class BlobStore;
  Upload(BlobStore* store, const UploadSpec& spec) : store_(store), spec_(spec) {}
  absl::Status Begin(int64_t offset);
  absl::Status ReserveDisk();
  absl::Status Seal();
  void Remove();

  BlobStore* const store_;
  const UploadSpec spec_;
  File file_;
  Sha256 hash_;
  int64_t received_ = 0;
  bool holds_id_ = false;  // false when already there, finished or removed
};

// Thread-safe. One lock (mutex_), a leaf: no other is taken under it, and neither data nor fsync is
// waited for under it, but for publishing_'s condition, which lasts an fsync of three folders.
class BlobStore {
 public:
  // Makes the folders, finds the uploads that a former process left, removes what it was putting.
  // clock must outlive the store.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const BlobStoreOptions& options,
                                                         const Clock* clock);
  ~BlobStore() = default;
  BlobStore(const BlobStore&) = delete;
  BlobStore& operator=(const BlobStore&) = delete;

  const BlobStoreOptions& options() const { return options_; }

  // Those of digests that are not there, in order. The grace of the others starts anew, so that a
  // job that names them can be submitted now. INVALID_ARGUMENT (sha256[i]): not a digest.
  // CreateJob calls it right before the job is stored.
  absl::StatusOr<std::vector<std::string>> FindMissing(absl::Span<const std::string> digests);

  // Begins (offset 0, whatever was there under this id is forgotten) or resumes (offset =
  // CommittedBytes, same tensor) an upload. Reads `offset` bytes back to hash them: 1 s for some
  // GB. Look at already_there() first. INVALID_ARGUMENT: CheckUploadSpec, another tensor than the
  // one begun, or a size that the stored tensor does not have. OUT_OF_RANGE (header.offset): not
  // where the upload stands. ABORTED: another holds the upload. RESOURCE_EXHAUSTED names the limit.
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadSpec& spec, int64_t offset);

  // Bytes of the upload so far; 0 for an unknown or finished one. INVALID_ARGUMENT (upload_id).
  absl::StatusOr<int64_t> CommittedBytes(const std::string& upload_id) const;

  // Stores bytes (at least 1) and returns their digest; OK means that they are on disk. For the
  // server's own results, which the limits do not hold up. RESOURCE_EXHAUSTED: the disk is full.
  absl::StatusOr<std::string> Put(absl::Span<const char> bytes);

  // The stored size. NOT_FOUND names the digest.
  absl::StatusOr<int64_t> SizeOf(const std::string& sha256) const;

  // The bytes as memory; stays readable if the tensor is collected meanwhile. NOT_FOUND; DATA_LOSS
  // if the file has not size_bytes (what shape and dtype say). The bytes are not hashed: see
  // Verify.
  absl::StatusOr<MappedFile> Map(const std::string& sha256, int64_t size_bytes) const;

  // For reading in pieces, without memory for the whole. NOT_FOUND.
  absl::StatusOr<File> OpenForReading(const std::string& sha256) const;

  // A folder on the store's disk for temporary files of `bytes` together. They must be unlinked
  // before they are written, so that nothing is left of them. RESOURCE_EXHAUSTED: no room for them.
  absl::StatusOr<std::string> TemporaryFolder(int64_t bytes) const;

  // Reads and hashes a tensor (about 1.5 GB/s): call it when a job starts. NOT_FOUND; DATA_LOSS if
  // the bytes have changed: they are put aside (tensors/corrupt), so that an upload can bring them
  // again.
  absl::Status Verify(const std::string& sha256);

  // Removes tensors that are not referenced and whose grace is over (stored, found there or
  // uploaded again more than `grace` ago), and uploads that nobody has written for as long.
  // `referenced` may be as old as `grace` minus the time that CreateJob takes. Slow (reads all
  // folders).
  absl::StatusOr<Collected> Collect(const std::unordered_set<std::string>& referenced,
                                    absl::Duration grace);

  BlobStoreUsage Usage() const;

 private:
  friend class Upload;

  struct UploadState {
    UploadSpec spec;
    int64_t bytes = 0;  // written so far
    bool held = false;  // by an Upload
    absl::Time touched;
  };

  BlobStore(const BlobStoreOptions& options, const Clock* clock);

  std::string BlobPath(absl::string_view sha256) const;
  std::string DataPath(absl::string_view upload_id) const;
  std::string SpecPath(absl::string_view upload_id) const;

  absl::Status CreateFolders() const;
  absl::Status LoadBlobs();
  absl::StatusOr<std::vector<std::string>> BlobFolders() const;
  absl::Status LoadUploads();
  void LoadUpload(const std::string& upload_id);

  // The size of a tensor that is there, and its grace begins anew; nullopt: it is not. Waits while
  // it is being published.
  absl::optional<int64_t> FindAndTouch(const std::string& sha256);
  void AwaitPublished(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status PutAside(const std::string& sha256, const File& file);
  void CountBlobLocked(int sign, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::StatusOr<bool> IsThere(const UploadSpec& spec);
  absl::Status Hold(const UploadSpec& spec, int64_t offset);
  absl::Status CheckRoomLocked(const UploadSpec& spec) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckDiskRoom(int64_t bytes) const;
  int64_t UploadBytesLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RecordProgress(const std::string& upload_id, int64_t bytes);
  void Release(const std::string& upload_id);
  void Forget(const std::string& upload_id);
  void ForgetUnlessHeld(const std::string& upload_id);
  void RemoveUploadFiles(const std::string& upload_id) const;

  std::string NewPutPath();
  absl::Status WriteSynced(const std::string& path, absl::Span<const char> bytes) const;
  // Renames a synced file of the uploads folder to its place and syncs both folders. If the tensor
  // is there already, removes the file instead.
  absl::Status Publish(const std::string& temporary, const std::string& sha256, int64_t size_bytes);

  absl::Status SyncEntry(const std::string& blob_path) const;

  void CollectBlob(const std::string& sha256, absl::Duration grace, Collected* collected);
  void CollectUploads(absl::Duration grace, Collected* collected);

  const BlobStoreOptions options_;
  const Clock* const clock_;
  const std::string blobs_folder_;    // <folder>/tensors/sha256
  const std::string corrupt_folder_;  // <folder>/tensors/corrupt
  const std::string uploads_folder_;  // <folder>/uploads

  mutable Mutex mutex_;
  CondVar published_;
  std::unordered_map<std::string, UploadState> uploads_ ABSL_GUARDED_BY(mutex_);
  // In place, but the folder entry is not on disk yet: does not count, and is not to be removed.
  std::unordered_set<std::string> publishing_ ABSL_GUARDED_BY(mutex_);
  int64_t blobs_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t blob_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_put_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_BLOB_STORE_H_
