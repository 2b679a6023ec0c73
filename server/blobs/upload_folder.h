// The unfinished uploads of a POSIX blob store: their files in one folder, how far each is, and
// which of them a stream is writing.
#ifndef ATTNPRUNE_SERVER_BLOBS_UPLOAD_FOLDER_H_
#define ATTNPRUNE_SERVER_BLOBS_UPLOAD_FOLDER_H_

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/blobs/blob_store.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {

// Uploads go by UploadSpec::Key. Thread-safe. Its lock is never held while data or a sync is waited
// for.
class UploadFolder {
 public:
  // clock must outlive it.
  UploadFolder(const std::string& folder, const BlobStoreLimits& limits, const Clock* clock)
      : folder_(folder), limits_(limits), clock_(clock) {}

  // Makes the folder, finds the uploads that a former process left, removes what it was putting.
  // Before any other call.
  absl::Status Open();

  absl::StatusOr<int64_t> CommittedBytes(const std::string& tenant,
                                         const std::string& upload_id) const;

  // Makes the caller the upload's only writer, from `offset` on, until Release or Forget; errors as
  // of BlobStore::StartUpload. stored_bytes: of all finished tensors; called with the lock held.
  absl::Status Hold(const UploadSpec& spec, int64_t offset,
                    absl::FunctionRef<int64_t()> stored_bytes);
  absl::Status WriteSpec(const UploadSpec& spec) const;
  // Counts `bytes` more of a held upload, which are about to be written. RESOURCE_EXHAUSTED: with
  // them max_total_bytes would be passed. A tensor that is being finished may count twice, as
  // upload and as tensor, for a moment.
  absl::Status TakeRoom(const std::string& key, int64_t bytes,
                        absl::FunctionRef<int64_t()> stored_bytes);
  void RecordProgress(const std::string& key, int64_t bytes);
  void Release(const std::string& key);  // leaves it to be resumed, if it has bytes
  void Forget(const std::string& key);
  // Of an upload that the caller does not hold.
  void ForgetUnlessHeld(const std::string& key);

  std::string DataPath(absl::string_view key) const;
  std::string NewPutPath();

  // Forgets uploads last written `grace` ago or more; how many.
  int64_t Collect(absl::Duration grace);

  // As BlobStore::ListUploads.
  std::vector<UploadFacts> List(const absl::optional<std::string>& tenant, const std::string& after,
                                int limit) const;

  int64_t Count() const;
  int64_t Bytes() const;  // BlobStoreUsage::upload_bytes
  int64_t BytesOf(const std::string& tenant) const;

 private:
  struct State {
    UploadSpec spec;
    int64_t bytes = 0;  // written so far
    int64_t taken = 0;  // room: of what is being written too
    bool held = false;
    absl::Time touched;
  };
  using Uploads = std::unordered_map<std::string, State>;  // by key

  std::string SpecPath(absl::string_view key) const;
  void Load(const std::string& key);
  absl::Status MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetTaken(State& upload, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // With its files; the upload behind it.
  Uploads::iterator Erase(Uploads::iterator upload) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveFiles(const std::string& key) const;

  const std::string folder_;
  const BlobStoreLimits limits_;
  const Clock* const clock_;

  mutable Mutex mutex_;
  Uploads uploads_ ABSL_GUARDED_BY(mutex_);
  int64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;  // by all of them
  // By those of each tenant that has any.
  std::unordered_map<std::string, int64_t> taken_of_ ABSL_GUARDED_BY(mutex_);
  int64_t next_put_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_UPLOAD_FOLDER_H_
