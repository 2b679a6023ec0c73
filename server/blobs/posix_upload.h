// An upload into a POSIX blob store.
#ifndef ATTNPRUNE_SERVER_BLOBS_POSIX_UPLOAD_H_
#define ATTNPRUNE_SERVER_BLOBS_POSIX_UPLOAD_H_

#include <cstdint>

#include "core/io/file.h"
#include "core/io/sha256.h"
#include "server/blobs/blob_folder.h"
#include "server/blobs/blob_store.h"
#include "server/blobs/posix_blob_store.h"
#include "server/blobs/upload_folder.h"

namespace attnprune {

class PosixUpload final : public Upload {
 public:
  // What it works with must outlive it. It is "already there" until Begin.
  PosixUpload(const UploadSpec& spec, const PosixBlobStoreOptions& options, const Clock* clock,
              BlobFolder* blobs, UploadFolder* uploads)
      : Upload(spec), options_(options), clock_(clock), blobs_(blobs), uploads_(uploads) {}
  ~PosixUpload() override;

  // The caller has called UploadFolder::Hold: from now on this releases it.
  void TakeHold() { holds_id_ = true; }
  absl::Status Begin(int64_t offset);
  void Remove();

  bool already_there() const override { return file_.fd() < 0; }
  int64_t received() const override { return received_; }
  using Upload::Append;
  absl::Status Append(absl::Span<const char> data, absl::FunctionRef<void()> on_written) override;
  absl::Status Finish() override;

 private:
  absl::Status ReserveDisk();
  absl::Status Seal();

  const PosixBlobStoreOptions& options_;
  const Clock* const clock_;
  BlobFolder* const blobs_;
  UploadFolder* const uploads_;
  File file_;
  Sha256 hash_;
  int64_t received_ = 0;
  bool holds_id_ = false;  // false when already there, finished or removed
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_POSIX_UPLOAD_H_
