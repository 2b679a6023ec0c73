// The tensors that jobs read and write, each under the SHA-256 of its bytes.
//
// Promises of every store:
// - A tensor counts once its bytes are safe from power loss, and only with the right digest. It
//   never changes afterwards.
// - kill -9 loses nothing of a finished tensor, and of an upload only what was not yet passed to
//   Append or, in a store that several servers share, what was in no part that had been stored.
//   Power loss loses nothing of a finished tensor; of an upload it can lose the end, and
//   CommittedBytes tells what is left. Should that be damaged, the digest does not fit in the end
//   and the upload starts again.
// - A refreshed grace time may fall back to an older one after a power loss.
//
// Errors, besides what each function says. RESOURCE_EXHAUSTED: the disk is full. INTERNAL: an I/O
// error.
#ifndef ATTNPRUNE_SERVER_BLOBS_BLOB_STORE_H_
#define ATTNPRUNE_SERVER_BLOBS_BLOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/io/mapped_file.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {

struct BlobStoreLimits {
  int64_t max_tensor_bytes = int64_t{4} << 30;  // of one tensor
  int64_t max_total_bytes = int64_t{64} << 30;  // of all tensors and uploads together
  // Unfinished ones that have bytes, kept for being resumed. Above that, a new one takes the place
  // of the one that nothing came for longest, a minute at least.
  int64_t max_uploads = 10000;
};

struct BlobStoreUsage {
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
  int64_t uploads = 0;       // unfinished, running or left
  int64_t upload_bytes = 0;  // that came of them
  int64_t max_bytes = 0;     // BlobStoreLimits::max_total_bytes
};

// What a store knows of a tensor without reading it.
struct BlobFacts {
  std::string sha256;
  int64_t size_bytes = 0;
  absl::Time touched;  // from when its grace counts
};

// An upload that is not finished: one that is running, or was left to be resumed.
struct UploadFacts {
  std::string tenant, upload_id, sha256;
  int64_t size_bytes = 0;  // of the whole tensor
  // As CommittedBytes tells. While another server of the store's writes it, what that has recorded.
  int64_t received = 0;
  absl::Time touched;  // begun, resumed or left

  std::string Key() const { return UploadKey(tenant, upload_id); }  // as UploadSpec's
};

struct Collected {
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
  int64_t uploads = 0;
};

// What an upload of a tensor that is stored already does.
enum class IfStored {
  kNothingToSend,   // succeeds at once
  kSendAllTheSame,  // takes the bytes, as if the tensor were new: to show that the client has them
};

// One stream's hold on an upload; while it lives no other can write the same upload. Destroying
// it before Finish leaves the upload to be resumed. Calls come one after the other, from any
// thread. Must not outlive its store.
class Upload {
 public:
  virtual ~Upload() = default;
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  const UploadSpec& spec() const { return spec_; }
  // The tensor was in the store already: nothing is to be sent and neither function below called.
  virtual bool already_there() const = 0;
  virtual int64_t received() const = 0;  // bytes from the tensor's beginning

  // Takes room for data, writes it behind what was received, calls on_written (the moment to ask
  // for more: a kill loses none of data any more), then hashes it. INVALID_ARGUMENT (data): more
  // than size_bytes; nothing of data is kept. RESOURCE_EXHAUSTED: the disk is full, or the store by
  // max_total_bytes; the upload is removed, which gives its space back. After an error only the
  // destructor may follow.
  virtual absl::Status Append(absl::Span<const char> data,
                              absl::FunctionRef<void()> on_written) = 0;
  absl::Status Append(absl::Span<const char> data) {
    return Append(data, [] {});
  }

  // OK means that the tensor is safe and counts. INVALID_ARGUMENT: bytes are missing (data; the
  // upload stays) or the digest is another (header.sha256, expected and got; the upload is
  // removed).
  virtual absl::Status Finish() = 0;

  // Removes the upload with what was received. Only the destructor may follow.
  virtual void Discard() = 0;

 protected:
  explicit Upload(const UploadSpec& spec) : spec_(spec) {}

 private:
  const UploadSpec spec_;
};

// A tensor's bytes, to be read in pieces. Stays readable when the tensor is collected. Thread-safe.
//
// A store that keeps its tensors elsewhere lets them be read while they come. The last byte is
// given out only once all have come and have the right digest: nobody gets a whole wrong tensor.
class BlobReader {
 public:
  virtual ~BlobReader() = default;

  virtual int64_t size() const = 0;
  // Fills out, and waits for what has not come. DATA_LOSS: the tensor ends before, or what came is
  // another. Where a tensor cannot be had to its end, the error of that, from then on.
  virtual absl::Status ReadAt(int64_t offset, absl::Span<char> out) const = 0;

  enum class Until {
    kThere,    // ReadAt of the bytes does not wait
    kChecked,  // nor does it, and the tensors that they are of are whole and right, or it fails
  };
  // Calls `then` once when the bytes [begin, end) are so: right away, or later on another thread,
  // which it must not hold up. Not when the reader is gone, which `then` must not own.
  virtual void Await(int64_t /*begin*/, int64_t /*end*/, Until /*until*/,
                     const std::function<void()>& then) const {
    then();
  }
};

// Thread-safe. Calls may wait for disks and, in a store that has its tensors elsewhere, for the
// network.
class BlobStore {
 public:
  virtual ~BlobStore() = default;

  // Those of digests that are not there, in order. The grace of the others begins anew, so that a
  // job that names them can be submitted now. INVALID_ARGUMENT (sha256[i]): not a digest.
  // CreateJob calls it right before the job is stored.
  virtual absl::StatusOr<std::vector<std::string>> FindMissing(
      absl::Span<const std::string> digests) = 0;

  // Begins (offset 0, whatever was there under this key is forgotten) or resumes (offset =
  // CommittedBytes, same tensor) an upload. Reads `offset` bytes back to hash them: 1 s for some
  // GB. Look at already_there() first. INVALID_ARGUMENT: CheckUploadSpec, another tensor than the
  // one begun, or (kNothingToSend) a size that the stored tensor does not have. OUT_OF_RANGE
  // (header.offset): not where the upload stands. ABORTED: another holds the upload.
  // RESOURCE_EXHAUSTED names the limit. An upload takes no room by beginning: one that is clearly
  // too large for what is left, in coarse steps so that trying sizes measures little, is refused,
  // and all others as their bytes come.
  virtual absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadSpec& spec,
                                                              int64_t offset,
                                                              IfStored if_stored) = 0;
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadSpec& spec, int64_t offset) {
    return StartUpload(spec, offset, IfStored::kNothingToSend);
  }

  // Bytes of the upload so far; 0 for an unknown or finished one. INVALID_ARGUMENT (upload_id).
  virtual absl::StatusOr<int64_t> CommittedBytes(const std::string& tenant,
                                                 const std::string& upload_id) const = 0;
  absl::StatusOr<int64_t> CommittedBytes(const std::string& upload_id) const {
    return CommittedBytes("", upload_id);
  }

  // Stores bytes (at least 1), and `tail` behind them, and returns their digest; OK means that they
  // are safe. For the server's own results, to which the limits do not apply.
  virtual absl::StatusOr<std::string> Put(absl::Span<const char> bytes, absl::string_view tail) = 0;
  absl::StatusOr<std::string> Put(absl::Span<const char> bytes) { return Put(bytes, ""); }

  // Removes a tensor of Put's at once, for a caller that knows that nobody else refers to it. What
  // was mapped stays readable. Nothing if it is not there.
  virtual absl::Status Remove(const std::string& sha256) = 0;

  // The stored size. NOT_FOUND names the digest.
  virtual absl::StatusOr<int64_t> SizeOf(const std::string& sha256) const = 0;

  // Finished tensors whose digest is above `after` (empty: all), in order of digest, at most
  // `limit` (at least 1). Neither reads a tensor nor begins its grace anew.
  virtual absl::StatusOr<std::vector<BlobFacts>> List(const std::string& after,
                                                      int limit) const = 0;
  // Of those of digests that are there, in any order; else as List.
  virtual absl::StatusOr<std::vector<BlobFacts>> LookAt(
      absl::Span<const std::string> digests) const = 0;
  // Unfinished uploads of a tenant (nullopt: of all) whose key is above `after` (empty: all), in
  // order of key, at most `limit` (at least 1).
  virtual absl::StatusOr<std::vector<UploadFacts>> ListUploads(
      const absl::optional<std::string>& tenant, const std::string& after, int limit) const = 0;

  // The bytes as memory; stays readable if the tensor is collected meanwhile. A store that keeps
  // its tensors elsewhere fetches this one into a local file first. NOT_FOUND; DATA_LOSS if there
  // are not size_bytes (what shape and dtype say). The bytes are not hashed: see Verify.
  virtual absl::StatusOr<MappedFile> Map(const std::string& sha256, int64_t size_bytes) const = 0;

  // For reading in pieces, without memory for the whole, and in a store that keeps its tensors
  // elsewhere without waiting for all of it. NOT_FOUND.
  virtual absl::StatusOr<std::unique_ptr<BlobReader>> OpenForReading(
      const std::string& sha256) const = 0;

  // Reads and hashes a tensor (about 1.5 GB/s): call it when a job starts. NOT_FOUND; DATA_LOSS if
  // the bytes have changed: they are quarantined, so that an upload can bring them again.
  virtual absl::Status Verify(const std::string& sha256) = 0;

  // Removes tensors that are not referenced and whose grace is over (stored, found there or
  // uploaded again more than `grace` ago), and uploads that were last written as long ago.
  // `referenced` may be as old as `grace` minus the time that CreateJob takes. Slow (looks at every
  // tensor).
  virtual absl::StatusOr<Collected> Collect(const std::unordered_set<std::string>& referenced,
                                            absl::Duration grace) = 0;

  virtual BlobStoreUsage Usage() const = 0;
  // BlobStoreUsage::upload_bytes, of one tenant's. Takes as long however many uploads there are.
  virtual int64_t UploadBytesOf(const std::string& tenant) const = 0;
  // UNAVAILABLE: what the store writes to was removed or replaced since it was opened; uploads and
  // Put say so too.
  virtual absl::Status CheckInPlace() const { return absl::OkStatus(); }
};

// NOT_FOUND, of OpenForReading and its like.
absl::Status NoSuchTensor(absl::string_view sha256);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_BLOB_STORE_H_
